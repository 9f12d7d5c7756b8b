//! How far a source's position may move: the highest position with everything at or before it resolved (ENGINE 3.1).
//!
//! Positions increase per task, so they stand in a queue in the order of emission; the front moves over what is resolved.
//! Example: positions 10, 20, 30 pending. 20 resolves: nothing moves. 10 resolves: the position is 20. Positions are opaque:
//! passed ones are handed back, not dropped.

use std::collections::VecDeque;

use crate::fault::{Fault, planted};

/// A place in the queue of positions, kept with the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

impl Ticket {
    /// The ticket of a root that has no position.
    pub const NONE: Ticket = Ticket(u64::MAX);
}

/// The positions of one task that are not passed yet.
///
/// ```
/// use rainband_core::frontier::Frontier;
///
/// let mut frontier = Frontier::default();
/// let (ten, twenty) = (frontier.enter(10), frontier.enter(20));
/// frontier.resolve(twenty);
/// assert_eq!(frontier.advance(drop), None);
/// frontier.resolve(ten);
/// assert_eq!(frontier.advance(drop), Some(20));
/// ```
#[derive(Debug)]
pub struct Frontier<Q> {
    waiting: VecDeque<(Q, bool)>,
    passed: u64,
}

impl<Q> Default for Frontier<Q> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), passed: 0 }
    }
}

impl<Q> Frontier<Q> {
    /// A root with `position` was emitted; all earlier calls had lower positions.
    pub fn enter(&mut self, position: Q) -> Ticket {
        self.waiting.push_back((position, false));
        Ticket(self.passed + self.waiting.len() as u64 - 1)
    }

    /// The root with this ticket is resolved: acked, dead-lettered durably, or dropped by the spout's own verdict.
    pub fn resolve(&mut self, ticket: Ticket) {
        if ticket == Ticket::NONE {
            return;
        }
        if let Some(entry) = ticket.0.checked_sub(self.passed).and_then(|at| self.waiting.get_mut(at as usize)) {
            entry.1 = true;
        }
    }

    /// Moves over what is resolved: the new position if it moved. Passed positions before it go to `discard`.
    pub fn advance(&mut self, mut discard: impl FnMut(Q)) -> Option<Q> {
        let mut reached = None;
        while let Some((_, resolved)) = self.waiting.front() {
            let is_passable =
                *resolved || (planted(Fault::PositionTooFar) && self.waiting.iter().any(|(_, resolved)| *resolved));
            if !is_passable {
                break;
            }
            let Some((position, _)) = self.waiting.pop_front() else {
                break;
            };
            self.passed += 1;
            if let Some(before) = reached.replace(position) {
                discard(before);
            }
        }
        reached
    }

    /// How many positions wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Hands back all that waits, at the end of the task.
    pub fn drain(&mut self) -> impl Iterator<Item = Q> {
        self.passed += self.waiting.len() as u64;
        self.waiting.drain(..).map(|(position, _)| position)
    }
}
