//! Links in a storm: messages are lost, doubled, late, damaged and cut, in any mixture; then the network heals.

use std::collections::BTreeMap;

use proptest::prelude::any;
use rainband_core::ids::{Incarnation, TaskId};
use rainband_core::ledger::{Failure, Reason};
use rainband_core::queue::Push;
use rainband_core::signal::{Kind, Signal};

use super::super::check::{Effort, ensure, for_all};
use super::super::rng::Rng;
use super::{Event, Letter, MILLISECOND, Net, SECOND, packed, root};

/// Tasks 0-1, 2-3, 4-5 of workers 0, 1, 2.
const PLACEMENT: [u32; 6] = [0, 0, 1, 1, 2, 2];

/// Everything that was taken comes once; per lane in order, signals in their place; in the end all is confirmed, all credit is
/// back, and little is kept.
pub fn nothing_is_lost(effort: Effort) -> Result<(), String> {
    for_all(effort, 400, &any::<u64>(), |seed| {
        let mut rng = Rng::new(seed);
        let window = [1, 40, 300, 5000][rng.below(4)];
        let mut storm = Storm {
            net: Net::new(&PLACEMENT, window),
            harm: rng.below(30),
            late: Vec::new(),
            said: BTreeMap::new(),
            heard: BTreeMap::new(),
            next: 0,
            rng,
        };
        (0..200).try_for_each(|_| storm.step())?;
        storm.end()
    })
}

struct Storm {
    net: Net,
    rng: Rng,
    /// Of 100 messages, how many come to harm in each way.
    harm: usize,
    late: Vec<Letter>,
    /// Per (sender, receiver, task or none for control): what was pushed and taken, in order.
    said: BTreeMap<(usize, usize, Option<u32>), Vec<Event>>,
    heard: BTreeMap<(usize, usize, Option<u32>), Vec<Event>>,
    next: u64,
}

impl Storm {
    fn step(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.below(4) {
            self.say();
        }
        self.exchange()?;
        let station = self.rng.below(3);
        if self.rng.chance(50) {
            self.net.stations[station].consume();
        }
        self.net.now += [10_000, MILLISECOND, 20 * MILLISECOND][self.rng.below(3)];
        Ok(())
    }

    fn say(&mut self) {
        let (from, to) = (self.rng.below(6) as u32, self.rng.below(6) as u32);
        let (here, there) = (PLACEMENT[from as usize] as usize, PLACEMENT[to as usize] as usize);
        let links = &self.net.stations[here].links;
        if here == there || !links.is_up() {
            return;
        }
        let signal = Signal { kind: Kind::Flush, from: TaskId(from), incarnation: Incarnation(0) };
        self.next += 1;
        let next = self.next;
        let (lane, events) = match self.rng.below(6) {
            0 => {
                links.ack(&[(root(to, 0, next), next), (root(to, 0, next), 1)]);
                (None, vec![Event::Ack(root(to, 0, next), next), Event::Ack(root(to, 0, next), 1)])
            }
            1 => {
                let failure =
                    Failure { reason: Reason::Timeout, task: TaskId(from), error: "late".into(), retry: false };
                links.fail(&root(to, 0, next), &failure);
                (None, vec![Event::Fail(root(to, 0, next), failure)])
            }
            2 => {
                links.signal(TaskId(to), signal);
                (Some(to), vec![Event::Signal(TaskId(to), signal)])
            }
            _ => {
                let values: Vec<u64> = (0..self.rng.between(1, 3) as u64).map(|n| next * 8 + n).collect();
                if links.push(TaskId(to), &mut packed(from, &values)) == Push::Full {
                    return;
                }
                (Some(to), values.into_iter().map(|value| Event::Tuple(TaskId(to), value)).collect())
            }
        };
        self.said.entry((here, there, lane)).or_default().extend(events);
    }

    fn exchange(&mut self) -> Result<(), String> {
        let mut letters = self.net.collect();
        if self.rng.chance(20) {
            letters.reverse();
        }
        for letter in letters {
            if self.rng.chance(self.harm) {
                continue;
            }
            if self.rng.chance(self.harm) {
                self.late.push(letter.clone());
            }
            if self.rng.chance(self.harm) {
                self.damage(&letter)?;
                continue;
            }
            self.deliver(&letter);
        }
        while !self.late.is_empty() && self.rng.chance(30) {
            let letter = self.late.swap_remove(self.rng.below(self.late.len()));
            self.deliver(&letter);
        }
        Ok(())
    }

    fn damage(&mut self, letter: &Letter) -> Result<(), String> {
        let mut bytes = letter.parts[0].to_vec();
        if self.rng.chance(50) {
            bytes.truncate(self.rng.below(bytes.len()));
        } else {
            let at = self.rng.below(bytes.len());
            bytes[at] ^= 1 << self.rng.below(8);
        }
        let damaged = Letter { parts: vec![bytes.into()], ..letter.clone() };
        let got = self.net.deliver(&damaged);
        ensure(got.is_err(), || "a damaged message was taken".into())
    }

    fn deliver(&mut self, letter: &Letter) {
        _ = self.net.deliver(letter);
        for event in self.net.take_events(letter.to) {
            let lane = match &event {
                Event::Tuple(to, _) | Event::Signal(to, _) => Some(to.0),
                Event::Ack(..) | Event::Fail(..) => None,
            };
            self.heard.entry((letter.from, letter.to, lane)).or_default().push(event);
        }
    }

    fn end(mut self) -> Result<(), String> {
        self.harm = 0;
        self.late.clear();
        for _ in 0..800 {
            self.exchange()?;
            self.net.stations.iter_mut().for_each(super::Station::consume);
            self.net.now += 5 * MILLISECOND;
        }
        for (lane, said) in &self.said {
            let heard = self.heard.remove(lane).unwrap_or_default();
            ensure(heard == *said, || format!("lane {lane:?}\n said {said:?}\nheard {heard:?}"))?;
        }
        ensure(self.heard.is_empty(), || format!("nobody said {:?}", self.heard))?;
        let settled = self.net.stations.iter().all(|station| station.links.is_settled());
        ensure(settled, || "something is not confirmed 4 s after the storm".into())?;
        for from in 0..6_u32 {
            for to in (0..6).filter(|to| PLACEMENT[*to as usize] != PLACEMENT[from as usize]) {
                let links = &self.net.stations[PLACEMENT[from as usize] as usize].links;
                let push = links.push(TaskId(to), &mut packed(from, &[1]));
                ensure(push == Push::Done, || format!("no credit for task {to} after the storm"))?;
                self.net.settle(100 * MILLISECOND);
                self.net.stations.iter_mut().for_each(super::Station::consume);
            }
        }
        self.net.settle(SECOND);
        Ok(())
    }
}
