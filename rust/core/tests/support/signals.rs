//! Signals: the table of inputs against a naive one, and the end of a cycle against messages that are really counted.

use std::collections::{BTreeMap, VecDeque};

use proptest::collection::vec;
use proptest::prelude::any;
use rainband_core::ids::{Incarnation, TaskId};
use rainband_core::signal::{CycleCount, Inputs, Kind, Signal};

use super::check::{Effort, ensure, for_all};
use super::rng::Rng;

/// Flushed and ended mean *all* inputs, whatever comes twice, late, or from a stranger; end implies flush.
pub fn inputs_merge(effort: Effort) -> Result<(), String> {
    for_all(effort, 500, &(0_u32..5, vec((0_u32..7, any::<bool>(), 0_u32..3), 0..40)), |(n, signals)| {
        let tasks: Vec<TaskId> = (0..n).map(TaskId).collect();
        let mut inputs = Inputs::new(&tasks);
        // Per task: the newest incarnation heard of, flushed, ended.
        let mut model: BTreeMap<u32, (u32, bool, bool)> = (0..n).map(|task| (task, (0, false, false))).collect();
        for (from, is_end, incarnation) in signals {
            let kind = if is_end { Kind::End } else { Kind::Flush };
            inputs.receive(Signal { kind, from: TaskId(from), incarnation: Incarnation(incarnation) });
            if let Some((newest, flushed, ended)) = model.get_mut(&from).filter(|channel| incarnation >= channel.0) {
                (*newest, *flushed, *ended) = (incarnation, true, *ended || is_end);
            }
            let (flushed, ended) = (model.values().all(|c| c.1), model.values().all(|c| c.2));
            ensure(inputs.is_flushed() == flushed, || format!("flushed is not {flushed}: {model:?}"))?;
            ensure(inputs.is_ended() == ended, || format!("ended is not {ended}: {model:?}"))?;
        }
        Ok(())
    })
}

/// A member of a cycle, as the one who counts sees it.
#[derive(Default)]
struct Member {
    inbox: VecDeque<u8>,
    sent: u64,
    done: u64,
}

/// Members pass messages on, and are asked one after the other while the rest goes on: when the count says that the cycle is
/// over, no message is anywhere; and once none is, it says so within three rounds.
pub fn cycle_count_is_right(effort: Effort) -> Result<(), String> {
    for_all(effort, 3000, &(2_usize..5, any::<u64>()), |(n, seed)| {
        let mut rng = Rng::new(seed);
        let mut members: Vec<Member> = (0..n).map(|_| Member::default()).collect();
        send(&mut members, 0, 1, 7);
        let mut count = CycleCount::default();
        let mut quiet_rounds = 0;
        loop {
            let was_quiet = members.iter().all(|member| member.inbox.is_empty());
            let (mut sent, mut done, mut all_idle) = (0, 0, true);
            for at in 0..n {
                (0..rng.below(4)).for_each(|_| work(&mut members, &mut rng));
                sent += members[at].sent;
                done += members[at].done;
                all_idle &= members[at].inbox.is_empty();
            }
            let is_quiet = members.iter().all(|member| member.inbox.is_empty());
            if count.round(sent, done, all_idle) {
                return ensure(is_quiet, || "the cycle is over with messages in it".into());
            }
            quiet_rounds += u32::from(was_quiet);
            ensure(quiet_rounds < 3, || "a quiet cycle does not end".into())?;
        }
    })
}

fn send(members: &mut [Member], from: usize, to: usize, lives: u8) {
    members[from].sent += 1;
    members[to].inbox.push_back(lives);
}

/// Some member works on a message and sends up to two on.
fn work(members: &mut [Member], rng: &mut Rng) {
    let at = rng.below(members.len());
    let Some(lives) = members[at].inbox.pop_front() else {
        return;
    };
    members[at].done += 1;
    for _ in 0..rng.below(3) {
        if lives > 0 {
            let to = rng.below(members.len());
            send(members, at, to, lives - 1);
        }
    }
}
