//! Scenes on a link: each a story with an end that is known.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use rainband_core::deliver::Packed;
use rainband_core::ids::{Incarnation, TaskId, WorkerId};
use rainband_core::ledger::{Failure, Reason};
use rainband_core::peer::Refused;
use rainband_core::queue::Push;
use rainband_core::signal::{Kind, Signal};
use rainband_core::wire;

use super::super::bell::Bell;
use super::super::check::{Effort, ensure};
use super::{Event, MILLISECOND, Net, SECOND, end, packed, root};

pub const WINDOW: u64 = 1 << 20;

/// Tasks 0 and 2 of worker 0, tasks 1 and 3 of worker 1.
pub fn pair(window: u64) -> Net {
    Net::new(&[0, 1, 0, 1], window)
}

pub fn pair_that_is_up(window: u64) -> Net {
    let mut net = pair(window);
    net.settle(10 * MILLISECOND);
    net
}

pub fn push(net: &Net, from: u32, to: u32, values: &[u64]) -> bool {
    let station = &net.stations[net.placement[from as usize].index()];
    station.links.push(TaskId(to), &mut packed(from, values)) == Push::Done
}

fn failure() -> Failure {
    Failure { reason: Reason::Error, task: TaskId(1), error: "KeyError('ä')".into(), retry: true }
}

pub fn tuples(to: u32, values: impl IntoIterator<Item = u64>) -> Vec<Event> {
    values.into_iter().map(|value| Event::Tuple(TaskId(to), value)).collect()
}

/// Nothing is taken before both know each other, whichever of the first messages are lost; then both are up, and whoever waited
/// for credit is woken and finds all lanes open.
pub fn shake_hands(_: Effort) -> Result<(), String> {
    for lost in 0..64_u32 {
        let mut net = pair(WINDOW);
        let bell = Bell::default();
        ensure(!push(&net, 0, 1, &[7]), || "a push before the link is up was taken".into())?;
        ensure(net.stations[0].links.wait_for_room(TaskId(1), &bell), || {
            "there is room on a link that is down".into()
        })?;
        ensure(net.stations[0].links.is_full(TaskId(1)), || "a lane of a link that is down has room".into())?;
        let mut number = 0;
        net.run(SECOND, |_| {
            number += 1;
            number > 6 || lost & (1 << (number - 1)) == 0
        });
        ensure(net.stations.iter().all(|station| station.links.is_up()), || format!("not up after losses {lost:b}"))?;
        ensure(bell.has_rung(), || "the link came up and a producer waits on".into())?;
        let is_full = net.stations[0].links.is_full(TaskId(1)) || net.stations[0].links.is_full(TaskId(3));
        ensure(!is_full, || "the link is up, but its lanes count as full".into())?;
        ensure(push(&net, 0, 1, &[7]), || "a push on a link that is up was refused".into())?;
        net.settle(SECOND);
        let events = net.take_events(1);
        ensure(events == tuples(1, [7]), || format!("{events:?} after losses {lost:b}"))?;
    }
    Ok(())
}

/// A hello that comes before the other end has installed the view is refused; it is said again as soon as the other end speaks,
/// and not after a pause.
pub fn late_view(_: Effort) -> Result<(), String> {
    let mut net = pair_that_is_up(WINDOW);
    net.restart(1);
    net.run(MILLISECOND, |_| true);
    ensure(net.stations[0].links.stats.refused.load(Ordering::Relaxed) == 1, || "the early hello was taken".into())?;
    _ = net.stations[0].links.install(WorkerId(1), Some(Incarnation(1)));
    net.run(MILLISECOND, |_| true);
    ensure(net.stations.iter().all(|station| station.links.is_up()), || "the link waits for a timer".into())
}

/// Frames of strangers, of other runs and plans, damaged ones, and all before hello are refused and counted.
pub fn strangers_are_refused(_: Effort) -> Result<(), String> {
    let mut net = pair_that_is_up(WINDOW);
    push(&net, 0, 1, &[1]);
    let letter = net.collect().pop().ok_or("nothing to send")?;
    let (header, body) = wire::open(&letter.parts).map_err(|error| format!("{error:?}"))?;
    let body = letter.parts[0][body].to_vec();
    let identity = header.identity;
    let other_run = wire::Header { identity: wire::Identity { run: 1, ..identity }, ..header };
    let other_plan = wire::Header { identity: wire::Identity { plan: 1, ..identity }, ..header };
    let cases = [
        (other_run, Refused::Stranger),
        (other_plan, Refused::Stranger),
        (wire::Header { to: end(1, 1), ..header }, Refused::Stranger),
        (wire::Header { to: end(0, 0), ..header }, Refused::Stranger),
        (wire::Header { from: end(1, 0), ..header }, Refused::Stranger),
        (wire::Header { from: end(9, 0), ..header }, Refused::Stranger),
        (wire::Header { from: end(0, 1), ..header }, Refused::OldIncarnation),
    ];
    for (header, expected) in cases {
        let mut bytes = wire::new_body();
        bytes.extend_from_slice(&body);
        wire::seal(&mut bytes, &header, &[]);
        let station = &mut net.stations[1];
        let got = station.links.receive(&[bytes.into()], 1, &mut station.inbox);
        ensure(got == Err(expected), || format!("{got:?}, expected {expected:?} of {header:?}"))?;
    }
    for wrong in [0, 2, 4] {
        let mut bytes = wire::new_body();
        wire::put_tuples(&mut bytes, TaskId(1), 1, &packed(0, &[1]).bytes, 0);
        wire::put_credit(&mut bytes, TaskId(0), 1);
        wire::put_tuples(&mut bytes, TaskId(wrong), 1, &packed(0, &[1]).bytes, 0);
        wire::seal(&mut bytes, &header, &[]);
        let station = &mut net.stations[1];
        let got = station.links.receive(&[bytes.into()], 1, &mut station.inbox);
        let is_refused = got == Err(Refused::Damaged(wire::WireError::Malformed));
        ensure(is_refused, || format!("{got:?} of tuples for task {wrong}"))?;
    }
    let mut fresh = pair(WINDOW);
    let got = fresh.deliver(&letter);
    ensure(got == Err(Refused::NoHello), || format!("{got:?} before hello"))?;
    ensure(net.take_events(1).is_empty() && fresh.take_events(1).is_empty(), || "something was taken".into())?;
    net.deliver(&letter).map_err(|error| format!("the right one: {error:?}"))?;
    ensure(net.take_events(1) == tuples(1, [1]), || "the right one was not taken".into())
}

/// Whatever message is lost, doubled, damaged or late: all comes once, in order, soon, and is confirmed.
pub fn one_accident(_: Effort) -> Result<(), String> {
    for accident in 0..4 {
        for victim in 0..14 {
            let mut net = pair_that_is_up(WINDOW);
            let before = net.sent;
            one_story(&mut net, accident, before + victim)
                .map_err(|error| format!("{error}, accident {accident} to message {victim}"))?;
        }
    }
    Ok(())
}

fn one_story(net: &mut Net, accident: usize, victim: usize) -> Result<(), String> {
    let mut late = None;
    let mut number = net.sent;
    for step in 0..6_u64 {
        push(net, 0, 1, &[step * 10, step * 10 + 1]);
        net.stations[0].links.ack(&[(root(1, 0, step), step), (root(1, 0, step), 7)]);
        net.stations[1].links.fail(&root(2, 0, step), &failure());
        for letter in net.collect() {
            number += 1;
            let mut copy = letter.clone();
            match accident {
                _ if number != victim + 1 => _ = net.deliver(&letter),
                0 => {}
                1 => (0..2).for_each(|_| _ = net.deliver(&letter)),
                2 => {
                    let mut bytes = copy.parts[0].to_vec();
                    *bytes.last_mut().ok_or("empty")? ^= 1;
                    copy.parts[0] = bytes.into();
                    let got = net.deliver(&copy);
                    ensure(matches!(got, Err(Refused::Damaged(_))), || format!("a damaged one: {got:?}"))?;
                }
                _ => late = Some(letter),
            }
        }
        net.now += MILLISECOND;
    }
    // What is late is overtaken by all that follows, and comes when nobody needs it.
    net.settle(300 * MILLISECOND);
    if let Some(letter) = late {
        _ = net.deliver(&letter);
    }
    net.settle(2 * SECOND);
    let (got, answers) = (net.take_events(1), net.take_events(0));
    let expected = (0..6).flat_map(|step| {
        let mut events = tuples(1, [step * 10, step * 10 + 1]);
        events.extend([step, 7].map(|xor| Event::Ack(root(1, 0, step), xor)));
        events
    });
    ensure(got == expected.collect::<Vec<_>>(), || format!("got {got:?}"))?;
    let expected: Vec<Event> = (0..6).map(|step| Event::Fail(root(2, 0, step), failure())).collect();
    ensure(answers == expected, || format!("answered {answers:?}"))?;
    ensure(net.stations.iter().all(|station| station.links.is_settled()), || "something is not confirmed".into())
}

/// a → x → c → y with a, c here and x, y there, all lanes small: with credit per link a uses up what c needs (ENGINE 4.4).
pub fn credit_is_per_task(_: Effort) -> Result<(), String> {
    let mut net = pair_that_is_up(100);
    let mut waiting: Vec<VecDeque<u64>> = vec![(0..300).collect(), VecDeque::new(), VecDeque::new(), VecDeque::new()];
    for _ in 0..3000 {
        for task in 0..4_u32 {
            let station = net.placement[task as usize].index();
            let Some(value) = waiting[task as usize].front().copied() else { continue };
            // The next task's tuple is taken only once this one's is handed on; the last keeps it.
            if task < 3 && !push(&net, task, task + 1, &[value]) {
                continue;
            }
            waiting[task as usize].pop_front();
            let unpaid = &mut net.stations[station].inbox.unpaid;
            if let Some(at) = unpaid.iter().position(|(to, ..)| to.0 == task) {
                let (task, from, weight) = unpaid.remove(at);
                net.stations[station].links.consumed(from, task, weight);
            }
        }
        net.settle(MILLISECOND);
        for at in 0..2 {
            for event in net.take_events(at) {
                if let Event::Tuple(task, value) = event {
                    waiting[task.index()].push_back(value);
                }
            }
        }
        ensure(waiting[1..].iter().all(|queue| queue.len() < 10), || "a window holds too much".into())?;
    }
    let left: usize = waiting.iter().map(VecDeque::len).sum();
    ensure(left == 0, || format!("{left} tuples stand still"))
}

/// A signal stays behind the tuples that were pushed before it, and before those that follow; acks and fails pass by tuples
/// that wait for credit.
pub fn lanes_and_their_order(_: Effort) -> Result<(), String> {
    let mut net = pair_that_is_up(60);
    let flush = Signal { kind: Kind::Flush, from: TaskId(0), incarnation: Incarnation(0) };
    ensure(push(&net, 0, 1, &[1, 2]), || "an empty lane refuses".into())?;
    net.stations[0].links.signal(TaskId(1), flush);
    ensure(push(&net, 0, 3, &[3]), || "the other lane refuses".into())?;
    ensure(!push(&net, 0, 1, &[4]), || "more than the window was taken".into())?;
    net.stations[0].links.ack(&[(root(1, 0, 5), 6)]);
    net.settle(50 * MILLISECOND);
    let mut expected = tuples(1, [1, 2]);
    expected.push(Event::Signal(TaskId(1), flush));
    expected.extend(tuples(3, [3]));
    expected.push(Event::Ack(root(1, 0, 5), 6));
    let got = net.take_events(1);
    ensure(got == expected, || format!("got {got:?}"))?;
    let bell = Bell::default();
    ensure(net.stations[0].links.wait_for_room(TaskId(1), &bell), || "there is room in a full lane".into())?;
    ensure(!net.stations[0].links.wait_for_room(TaskId(3), &bell), || "there is no room in a lane with some".into())?;
    net.stations[0].links.fail(&root(1, 0, 9), &failure());
    net.settle(50 * MILLISECOND);
    ensure(net.take_events(1) == [Event::Fail(root(1, 0, 9), failure())], || "a fail waits for credit".into())?;
    ensure(!bell.has_rung(), || "woken without credit".into())?;
    net.stations[1].consume();
    net.settle(50 * MILLISECOND);
    ensure(bell.has_rung() && !net.stations[0].links.is_full(TaskId(1)), || "credit came and nobody was woken".into())?;
    ensure(push(&net, 0, 1, &[4]), || "a push with credit was refused".into())
}

/// A worker is replaced: exactly what it had not confirmed is lost, what was for it goes to its successor, its late messages
/// and acks for it are worth nothing.
pub fn replacement(_: Effort) -> Result<(), String> {
    let mut net = pair_that_is_up(WINDOW);
    push(&net, 0, 1, &[1, 2]);
    net.settle(50 * MILLISECOND); // Confirmed.
    push(&net, 0, 1, &[3]);
    let _sent_and_lost = net.collect();
    push(&net, 0, 3, &[4, 5]); // Not even sent.
    push(&net, 1, 0, &[6]);
    net.stations[1].links.ack(&[(root(0, 0, 1), 1)]);
    let late: Vec<_> = net.collect().into_iter().filter(|letter| letter.from == 1).collect();
    net.restart(1);
    ensure(!late.is_empty(), || "nothing is late".into())?;
    let lost = net.stations[0].links.install(WorkerId(1), Some(Incarnation(1)));
    let roots: Vec<_> = [3, 4, 5].map(|value| root(0, 0, value)).to_vec();
    ensure(lost.roots == roots, || format!("lost {:?}, expected {roots:?}", lost.roots))?;
    ensure(!push(&net, 0, 1, &[7]), || "pushed before the successor said hello".into())?;
    let again = net.stations[0].links.install(WorkerId(1), Some(Incarnation(0)));
    ensure(again.roots.is_empty(), || "an incarnation came back".into())?;
    for letter in &late {
        let got = net.deliver(letter);
        ensure(got == Err(Refused::OldIncarnation), || format!("{got:?} of a late one"))?;
    }
    let bell = Bell::default();
    ensure(net.stations[0].links.wait_for_room(TaskId(1), &bell), || "room at nobody".into())?;
    // One call with acks for several incarnations: only those of the living count, and those of the next wait.
    net.stations[0].links.ack(&[(root(1, 0, 1), 1), (root(1, 1, 1), 2), (root(1, 2, 2), 3)]);
    net.stations[0].links.fail(&root(1, 2, 9), &failure());
    net.settle(200 * MILLISECOND);
    ensure(bell.has_rung(), || "the successor is there and a producer waits on".into())?;
    ensure(push(&net, 0, 1, &[7]), || "the successor's lane refuses".into())?;
    net.settle(200 * MILLISECOND);
    let mut expected = vec![Event::Ack(root(1, 1, 1), 2)];
    expected.extend(tuples(1, [7]));
    let got = net.take_events(1);
    ensure(got == expected, || format!("the successor got {got:?}"))?;
    ensure(net.take_events(0).is_empty(), || "something of the dead came".into())?;
    // For a while there is nobody; what is for a successor waits for it.
    push(&net, 0, 1, &[8]);
    let lost = net.stations[0].links.install(WorkerId(1), None);
    ensure(lost.roots == [root(0, 0, 8)], || format!("lost {:?} with nobody in its place", lost.roots))?;
    let bell = Bell::default();
    ensure(!push(&net, 0, 1, &[9]), || "pushed to nobody".into())?;
    ensure(net.stations[0].links.wait_for_room(TaskId(1), &bell), || "room at nobody".into())?;
    net.stations[0].links.ack(&[(root(1, 2, 3), 4)]);
    ensure(net.stations[0].links.is_up() && net.stations[0].links.is_settled(), || "nobody is waited for".into())?;
    net.restart(1);
    let lost = net.stations[0].links.install(WorkerId(1), Some(Incarnation(2)));
    ensure(lost.roots.is_empty(), || format!("lost {:?} twice", lost.roots))?;
    net.settle(200 * MILLISECOND);
    ensure(bell.has_rung(), || "the second successor is there and a producer waits on".into())?;
    let (said, failed) = (Event::Ack(root(1, 2, 2), 3), Event::Fail(root(1, 2, 9), failure()));
    let expected = [said, failed, Event::Ack(root(1, 2, 3), 4)];
    let got = net.take_events(1);
    ensure(got == expected, || format!("the second successor got {got:?}"))
}

/// A large value travels beside its frame and costs credit, but two may be under way; an empty push is nothing.
pub fn large_values(_: Effort) -> Result<(), String> {
    let mut net = pair_that_is_up(1000);
    let links = &net.stations[0].links;
    ensure(links.push(TaskId(1), &mut Packed::default()) == Push::Done, || "nothing was refused".into())?;
    for value in [9, 8] {
        let mut large = large(value);
        ensure(links.push(TaskId(1), &mut large) == Push::Done, || format!("large section {value} must fit"))?;
        ensure(large.count == 0 && large.bytes.is_empty() && large.blobs.is_empty(), || "not all was taken".into())?;
    }
    ensure(links.push(TaskId(1), &mut large(7)) == Push::Full, || "a blob costs no credit".into())?;
    ensure(!push(&net, 0, 1, &[1]), || "a blob costs no credit".into())?;
    let mut is_first = true;
    net.run(100 * MILLISECOND, |letter| letter.from == 1 || !std::mem::take(&mut is_first));
    net.stations[1].consume();
    net.settle(100 * MILLISECOND);
    ensure(net.take_events(1) == tuples(1, [9, 8]), || "the large values did not come".into())?;
    ensure(push(&net, 0, 1, &[1]), || "no credit came for a blob".into())
}

fn large(value: u64) -> Packed {
    let mut large = packed(0, &[value]);
    large.bytes.clear();
    let head = rainband_core::tuple::Head::default();
    let (stream, from) = (rainband_core::ids::StreamId(0), TaskId(0));
    wire::put_record(&mut large.bytes, &head, stream, from, None, &value.to_le_bytes(), 1);
    large.blobs.push(vec![7; 5000].into());
    large
}
