//! What a link does when nothing comes: lost tails, idle links, dead ones.

use super::super::check::{Effort, ensure};
use super::scenes::{WINDOW, pair, pair_that_is_up, push, tuples};
use super::{Event, MILLISECOND, SECOND, root};

/// The last frames are lost and nothing follows them: heartbeats show it.
pub fn lost_tail(_: Effort) -> Result<(), String> {
    for beats_lost in [0, 1, 3] {
        let mut net = pair_that_is_up(WINDOW);
        push(&net, 0, 1, &[1, 2, 3]);
        net.run(MILLISECOND, |_| false);
        let mut left = beats_lost;
        net.run(500 * MILLISECOND, |letter| {
            let is_lost = letter.from == 0 && left > 0;
            left -= usize::from(is_lost);
            !is_lost
        });
        let events = net.take_events(1);
        ensure(events == tuples(1, [1, 2, 3]), || format!("{events:?} with {beats_lost} heartbeats lost"))?;
    }
    Ok(())
}

/// An idle link says about one thing a second; its timers are never due again at once.
pub fn idle_link(_: Effort) -> Result<(), String> {
    let mut net = pair_that_is_up(WINDOW);
    push(&net, 0, 1, &[1]);
    net.settle(2 * SECOND);
    let (before, mut looks) = (net.sent, 0);
    let over = net.now + 20 * SECOND;
    while net.now < over {
        looks += 1;
        for letter in net.collect() {
            _ = net.deliver(&letter);
        }
        let due = net.stations.iter().map(|station| station.links.tick(net.now)).min().unwrap_or(over);
        ensure(due > net.now, || format!("due at {due}, which is over at {}", net.now))?;
        net.now = due;
    }
    let sent = net.sent - before;
    ensure((38..=44).contains(&sent), || format!("{sent} messages in 20 s of nothing, both ways"))?;
    ensure(looks <= 50, || format!("the timers fired {looks} times in 20 s of nothing"))
}

/// Nothing comes through: timers slow down, and never fire twice at one time.
pub fn patience(_: Effort) -> Result<(), String> {
    for is_up in [false, true] {
        let mut net = if is_up { pair_that_is_up(WINDOW) } else { pair(WINDOW) };
        push(&net, 0, 1, &[1]);
        net.stations[0].links.ack(&[(root(1, 0, 1), 2)]);
        let (before, over) = (net.sent, net.now + 20 * SECOND);
        while net.now < over {
            net.collect();
            let due = net.stations.iter().map(|station| station.links.tick(net.now)).min().unwrap_or(over);
            ensure(due > net.now, || format!("due at {due}, which is over at {}", net.now))?;
            net.now = due;
        }
        let sent = net.sent - before;
        ensure(sent <= 900, || format!("{sent} messages into the void in 20 s, up {is_up}"))?;
        net.settle(3 * SECOND);
        let expected = [tuples(1, [1]), Vec::new()][usize::from(!is_up)].clone();
        let got: Vec<Event> = net.take_events(1).into_iter().filter(|e| matches!(e, Event::Tuple(..))).collect();
        ensure(got == expected, || format!("{got:?} afterwards"))?;
    }
    Ok(())
}
