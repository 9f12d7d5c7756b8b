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
    /// In the order of tickets; a run of resolved ones behind an unresolved one may be merged into its last.
    waiting: VecDeque<Waiting<Q>>,
    next: u64,
    unresolved: usize,
    slack: usize,
}

#[derive(Debug)]
struct Waiting<Q> {
    ticket: u64,
    position: Q,
    is_resolved: bool,
}

/// So many more than twice the unresolved ones may wait before they are merged.
const SLACK: usize = 1024;

impl<Q> Default for Frontier<Q> {
    fn default() -> Self {
        Self::with_slack(SLACK)
    }
}

impl<Q> Frontier<Q> {
    /// One that keeps no more than twice the unresolved positions and `slack`; the default suits all but tests.
    pub fn with_slack(slack: usize) -> Self {
        Self { waiting: VecDeque::new(), next: 0, unresolved: 0, slack }
    }

    /// A root with `position` was emitted; all earlier calls had lower positions.
    pub fn enter(&mut self, position: Q) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.unresolved += 1;
        self.waiting.push_back(Waiting { ticket, position, is_resolved: false });
        Ticket(ticket)
    }

    /// The root of the last `enter` was not emitted after all.
    pub fn take_back(&mut self, ticket: Ticket) -> Option<Q> {
        let is_last = self.waiting.back().is_some_and(|last| last.ticket == ticket.0 && !last.is_resolved);
        self.unresolved -= usize::from(is_last);
        if is_last { self.waiting.pop_back().map(|last| last.position) } else { None }
    }

    /// The root with this ticket is resolved: acked, dead-lettered durably, or dropped by the spout's own verdict.
    pub fn resolve(&mut self, ticket: Ticket) {
        if ticket == Ticket::NONE {
            return;
        }
        let Some(first) = self.waiting.front().map(|first| first.ticket) else { return };
        let Some(ahead) = ticket.0.checked_sub(first) else { return };
        // Without merged runs it stands where it was put.
        let at = match self.waiting.get(ahead as usize) {
            Some(entry) if entry.ticket == ticket.0 => Ok(ahead as usize),
            _ => self.waiting.binary_search_by_key(&ticket.0, |entry| entry.ticket),
        };
        if let Some(entry) = at.ok().and_then(|at| self.waiting.get_mut(at))
            && !entry.is_resolved
        {
            entry.is_resolved = true;
            self.unresolved -= 1;
        }
    }

    /// Moves over what is resolved: the new position if it moved. Passed positions before it go to `discard`, and those that a
    /// later resolved one will stand for: behind one that stays unresolved for hours no more wait than are pending.
    pub fn advance(&mut self, mut discard: impl FnMut(Q)) -> Option<Q> {
        let mut reached = None;
        while let Some(front) = self.waiting.front() {
            let is_passable =
                front.is_resolved || (planted(Fault::PositionTooFar) && self.waiting.iter().any(|e| e.is_resolved));
            if !is_passable {
                break;
            }
            let Some(Waiting { position, is_resolved, .. }) = self.waiting.pop_front() else {
                break;
            };
            self.unresolved -= usize::from(!is_resolved);
            if let Some(before) = reached.replace(position) {
                discard(before);
            }
        }
        if self.waiting.len() > 2 * self.unresolved + self.slack {
            self.merge(discard);
        }
        reached
    }

    /// Leaves of every run of resolved positions the last.
    fn merge(&mut self, mut discard: impl FnMut(Q)) {
        let mut kept: VecDeque<Waiting<Q>> = VecDeque::with_capacity(2 * self.unresolved + 1);
        for entry in self.waiting.drain(..) {
            match kept.back_mut() {
                Some(last) if last.is_resolved && entry.is_resolved => {
                    discard(std::mem::replace(last, entry).position);
                }
                _ => kept.push_back(entry),
            }
        }
        self.waiting = kept;
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
        self.unresolved = 0;
        self.waiting.drain(..).map(|entry| entry.position)
    }
}
