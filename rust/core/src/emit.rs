//! Stage 1 of 8: an emission gets its roots, and each of its deliveries an edge id. Called by the collector of the door, calls
//! nothing. Together with `ledger` the only place where lineage changes.
//!
//! A root completes when the XOR of everything that was said about it is 0. Who says what:
//! - the spout task says `e1 ^ e2 …` for the deliveries of the root (`ledger.begin`);
//! - a task that acks a tuple says that tuple's edge and the edges of all deliveries it anchored to it.
//!
//! Example: a spout delivers edge 5 to A, the sum is 5. A emits to B with edge 9 and acks: it says `5 ^ 9`, the sum is 9. B
//! acks: it says 9, the sum is 0: complete. If B's ack comes first the sums are 5, 12, 0: the order does not matter.
//!
//! A delivery has one edge id. For each distinct root among its anchors it is XORed into exactly one anchor that carries that
//! root: XORed into both tuples of a join of one root it would cancel, and the root would complete with the child in flight.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::fault::{Fault, planted};
use crate::ids::{EdgeId, RootRef};
use crate::tuple::{Envelope, Head, LineageId, Roots};

/// A bijection of 64 bits that spreads neighbouring counters: the finalizer of splitmix64 (Steele, Lea, Flood: "Fast
/// splittable pseudorandom number generators", OOPSLA 2014).
#[inline]
pub fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Draws edge ids for one task in one incarnation.
///
/// ```
/// use rainband_core::emit::EdgeIds;
///
/// let (mut one, mut other) = (EdgeIds::new(0x1d3f_80a2), EdgeIds::new(0x77c0_4e51));
/// assert_ne!(one.draw(), one.draw());
/// assert_ne!(one.draw(), other.draw());
/// ```
#[derive(Debug)]
pub struct EdgeIds {
    key: u64,
    counter: u64,
}

impl EdgeIds {
    /// `key` is drawn at random per run, task and incarnation; without it the counters of two tasks would give the same ids.
    pub fn new(key: u64) -> Self {
        Self { key, counter: 0 }
    }

    /// The next id: a bijection of a counter, so none comes twice, and 0 is passed over.
    #[inline(always)]
    pub fn draw(&mut self) -> EdgeId {
        loop {
            self.counter = self.counter.wrapping_add(1);
            let key = if planted(Fault::MixWithoutKey) { 0 } else { self.key };
            if let Some(bits) = NonZeroU64::new(mix(self.counter ^ key)) {
                return EdgeId(bits);
            }
        }
    }
}

/// What a task owes for a tuple that it works on: the tuple's own edge and, per root, the edges of what was anchored to it.
/// Made from the envelope, taken apart by [`InHand::settle`] at ack or dropped at fail.
#[derive(Debug, Default)]
pub struct InHand {
    /// The tuple's head; its children inherit from it.
    pub head: Head,
    sums: Sums,
}

#[derive(Debug, Default)]
enum Sums {
    #[default]
    None,
    One(u64),
    Many(Box<[u64]>),
}

/// More distinct roots among the anchors of one tuple than `max_anchors` allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRoots {
    /// Distinct roots among the anchors.
    pub got: usize,
    /// The limit.
    pub max: usize,
}

impl InHand {
    /// What is owed for `envelope` before anything was emitted. Takes the head out of it.
    #[inline]
    pub fn of<P>(envelope: &mut Envelope<P>) -> Self {
        let mut owed = Self::default();
        owed.receive(envelope);
        owed
    }

    /// Becomes what is owed for `envelope`, in place: this is done for every tuple, and copies of 60 bytes add up.
    #[inline(always)]
    pub fn receive<P>(&mut self, envelope: &mut Envelope<P>) {
        let edge = envelope.edge.map_or(0, EdgeId::bits);
        self.head.hops = envelope.head.hops;
        self.head.attempt = envelope.head.attempt;
        self.head.stamp = envelope.head.stamp;
        if let Roots::One(root) = envelope.head.roots {
            self.head.roots = Roots::One(root);
            self.sums = Sums::One(edge);
        } else {
            self.receive_others(envelope, edge);
        }
    }

    fn receive_others<P>(&mut self, envelope: &mut Envelope<P>, edge: u64) {
        self.head.roots = std::mem::take(&mut envelope.head.roots);
        self.sums = match &self.head.roots {
            Roots::Many(roots) => Sums::Many(vec![edge; roots.len()].into_boxed_slice()),
            _ => Sums::None,
        };
    }

    /// The head of a tuple that is anchored to this one alone.
    #[inline(always)]
    pub fn child_head(&self) -> Head {
        Head { hops: self.head.hops + 1, ..self.head.clone() }
    }

    /// Notes that a delivery with `edge` was anchored to this tuple alone.
    #[inline(always)]
    pub fn anchor(&mut self, edge: EdgeId) {
        match &mut self.sums {
            Sums::None => {}
            Sums::One(sum) => *sum ^= edge.bits(),
            Sums::Many(sums) => sums.iter_mut().for_each(|sum| *sum ^= edge.bits()),
        }
    }

    fn anchor_root(&mut self, root: RootRef, edge: EdgeId) -> bool {
        let Some(at) = self.head.roots.as_slice().iter().position(|r| *r == root) else {
            return false;
        };
        match &mut self.sums {
            Sums::None => {}
            Sums::One(sum) => *sum ^= edge.bits(),
            Sums::Many(sums) => sums[at] ^= edge.bits(),
        }
        true
    }

    /// What the ack of this tuple says, per root.
    #[inline(always)]
    pub fn settle(&self, mut say: impl FnMut(RootRef, u64)) {
        match (&self.head.roots, &self.sums) {
            (Roots::One(root), Sums::One(sum)) => say(*root, *sum),
            (Roots::Many(roots), Sums::Many(sums)) => {
                roots.iter().zip(sums.iter()).for_each(|(root, sum)| say(*root, *sum));
            }
            _ => {}
        }
    }
}

/// What the ack of a tuple says of which nothing came, per root: its own edge. As [`InHand::settle`] right after
/// [`InHand::of`], for tasks that nobody is subscribed to.
#[inline(always)]
pub fn settle_alone<P>(envelope: &Envelope<P>, mut say: impl FnMut(RootRef, u64)) {
    if let Some(edge) = envelope.edge {
        envelope.head.roots.as_slice().iter().for_each(|root| say(*root, edge.bits()));
    }
}

/// The head of a tuple anchored to all of `anchors`: the distinct roots, the most hops, the highest stamp.
///
/// # Errors
/// [`TooManyRoots`] if there are more than `max_roots` distinct roots.
pub fn join_heads<'a>(anchors: impl IntoIterator<Item = &'a InHand>, max_roots: usize) -> Result<Head, TooManyRoots> {
    let mut roots: Vec<RootRef> = Vec::new();
    let mut head = Head { lineage: LineageId, ..Head::default() };
    for anchor in anchors {
        head.hops = head.hops.max(anchor.head.hops + 1);
        head.stamp = head.stamp.max(anchor.head.stamp);
        head.attempt = head.attempt.max(anchor.head.attempt);
        for root in anchor.head.roots.as_slice() {
            if !roots.contains(root) {
                roots.push(*root);
            }
        }
    }
    if roots.len() > max_roots {
        return Err(TooManyRoots { got: roots.len(), max: max_roots });
    }
    head.roots = match roots.as_slice() {
        [] => Roots::None,
        [one] => Roots::One(*one),
        many => Roots::Many(Arc::from(many)),
    };
    Ok(head)
}

/// Notes that a delivery with `edge` and these `roots` was anchored to `anchors`: per root in exactly one of them.
pub fn anchor_all(anchors: &mut [&mut InHand], roots: &Roots, edge: EdgeId) {
    for root in roots.as_slice() {
        for anchor in anchors.iter_mut() {
            if anchor.anchor_root(*root, edge) && !planted(Fault::EdgeIntoEveryAnchor) {
                break;
            }
        }
    }
}
