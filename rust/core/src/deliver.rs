//! Stage 3 of 8: what a task emitted and has not handed over yet, a buffer per target. Called by the collector, calls `queue`.
//!
//! Used by the thread of its task alone. A buffer of [`BATCH`] tuples is pushed at once, the others when the task's slice ends
//! (ENGINE 4.6), always in the order of emission per target. A refused push leaves the tuples here; the caller waits for room
//! and flushes again.
//!
//! A target in another worker has bytes in place of envelopes: the values come encoded with the emission, so that what cannot
//! travel is refused where it is emitted, and the payload goes back to the caller. Back edges never lead to another worker,
//! because a cycle lives in one.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::emit::{EdgeIds, InHand, anchor_all};
use crate::fault::{Fault, planted};
use crate::ids::{ComponentId, EdgeId, StreamId, TaskId};
use crate::plan::Plan;
use crate::queue::{BATCH, Push};
use crate::tuple::{Envelope, Head};
use crate::wire;

#[derive(Debug)]
struct Buffer<P> {
    envelopes: Vec<Envelope<P>>,
    is_back_edge: bool,
    is_inside: bool,
    /// In place of `envelopes`, for a target in another worker.
    packed: Option<Row>,
}

/// Tuples for one task of another worker, in sections none of which is much longer than [`PACKED_BYTES`]: a frame must not become
/// larger than the transport takes, however much is emitted while there is no credit.
#[derive(Debug, Default)]
struct Row {
    full: VecDeque<Packed>,
    last: Packed,
}

impl Row {
    /// Makes room in the last section for a tuple.
    #[inline]
    fn open(&mut self) {
        if self.last.bytes.len() >= PACKED_BYTES || !self.last.blobs.is_empty() {
            self.full.push_back(std::mem::take(&mut self.last));
        }
    }

    fn count(&self) -> usize {
        self.full.iter().chain([&self.last]).map(|packed| packed.count as usize).sum()
    }

    /// Pushes one section after the other while there is room.
    fn push<P>(&mut self, target: TaskId, targets: &impl Targets<P>) -> Push {
        while let Some(packed) = self.full.front_mut() {
            match targets.push_packed(target, packed) {
                Push::Done => self.full.pop_front(),
                refused => return refused,
            };
        }
        if self.last.count == 0 { Push::Done } else { targets.push_packed(target, &mut self.last) }
    }
}

/// Tuples for one task of another worker, as records of the wire.
#[derive(Debug, Default)]
pub struct Packed {
    /// The records.
    pub bytes: Vec<u8>,
    /// How many.
    pub count: u32,
    /// Large values that travel beside them, in order.
    pub blobs: Vec<Bytes>,
}

/// The values of one emission as they travel: what the door encoded, empty if all targets are here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'a> {
    /// Their bytes.
    pub bytes: &'a [u8],
    /// Large values that travel beside them.
    pub blobs: &'a [Bytes],
}

/// Where an outbox hands over: the queues of this worker, the lanes to others.
pub trait Targets<P> {
    /// As [`crate::queue::Queue::push`], for a task of this worker.
    fn push(&self, task: TaskId, batch: &mut Vec<Envelope<P>>) -> Push;
    /// As [`crate::queue::Queue::push_loop`].
    fn push_loop(&self, task: TaskId, batch: &mut Vec<Envelope<P>>, limit: u64) -> Push;
    /// As [`crate::peer::Links::push`], for a task of another worker.
    fn push_packed(&self, task: TaskId, packed: &mut Packed) -> Push;
}

/// Encoded tuples are handed over before a slice ends when they come to this, however many they are: each time the I/O thread is
/// woken, which costs more than the bytes.
const PACKED_BYTES: usize = 64 << 10;

/// The buffers of one task.
#[derive(Debug)]
pub struct Outbox<P> {
    buffers: Vec<Option<Box<Buffer<P>>>>,
    dirty: Vec<TaskId>,
    /// Deliveries to tasks of the own cycle, without those that were taken back; the end of a cycle is found by counting
    /// (ENGINE 5.3).
    sent_inside: u64,
}

/// One emission, before it is split into deliveries.
#[derive(Debug)]
pub struct Emission<P> {
    /// The values.
    pub payload: P,
    /// What all deliveries share.
    pub head: Head,
    /// On which stream.
    pub stream: StreamId,
    /// By whom.
    pub from: TaskId,
    /// Estimated size of the values.
    pub bytes: u32,
}

/// To what an emission is anchored.
#[derive(Debug)]
pub enum Anchors<'a, 'b> {
    /// To nothing: untracked.
    None,
    /// To the tuple that the task works on: the rule.
    One(&'a mut InHand),
    /// To several.
    Many(&'a mut [&'b mut InHand]),
    /// It is a root: the edges' XOR goes to the ledger.
    Root(&'a [EdgeId]),
}

/// Why a flush stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// No room in this task's queue; its buffer is kept, the others are flushed.
    Full(TaskId),
    /// This task's queue is closed; its buffer is kept for [`Outbox::take`].
    Closed(TaskId),
    /// A back edge to this task holds `loop_bytes`; its buffer is kept for [`Outbox::take`], and its roots fail.
    LoopFull(TaskId),
}

impl<P> Outbox<P> {
    /// The outbox of a task of `component`. `is_here` says which tasks are of this worker.
    pub fn new(plan: &Plan, component: ComponentId, is_here: impl Fn(TaskId) -> bool) -> Self {
        let mut buffers: Vec<Option<Box<Buffer<P>>>> = Vec::new();
        buffers.resize_with(plan.task_component.len(), || None);
        for task in plan.consumers(component) {
            let to = plan.task_component[task.index()];
            buffers[task.index()] = Some(Box::new(Buffer {
                envelopes: Vec::new(),
                is_back_edge: plan.is_back_edge(component, to),
                is_inside: plan.same_cycle(component, to),
                packed: (!is_here(task)).then(Row::default),
            }));
        }
        Self { buffers, dirty: Vec::new(), sent_inside: 0 }
    }

    /// Whether `target` is of another worker: then the emission needs its [`Values`].
    #[inline]
    pub fn is_elsewhere(&self, target: TaskId) -> bool {
        self.buffers[target.index()].as_ref().is_some_and(|b| b.packed.is_some())
    }

    /// Splits `emission` into a delivery for each of `targets`, with an edge id each. `share` makes another reference to the
    /// payload; `values` is what travels to other workers. Returns the payload if it was not needed, and whether some buffer
    /// is full and wants a flush.
    #[inline]
    pub fn send(
        &mut self,
        emission: Emission<P>,
        targets: &[TaskId],
        mut anchors: Anchors<'_, '_>,
        edges: &mut EdgeIds,
        values: Values<'_>,
        mut share: impl FnMut(&P) -> P,
    ) -> (Option<P>, bool) {
        let mut wants_flush = false;
        let Some((last, others)) = targets.split_last() else {
            return (Some(emission.payload), false);
        };
        for (at, target) in others.iter().enumerate() {
            let edge = if planted(Fault::FanOutEdgeSkipped) { None } else { anchors.edge(at, &emission.head, edges) };
            if self.is_elsewhere(*target) {
                wants_flush |= self.put_packed(&emission, *target, edge, values);
                continue;
            }
            let payload = share(&emission.payload);
            let copy = Emission { payload, head: emission.head.clone(), ..emission };
            wants_flush |= self.put(copy, *target, edge);
        }
        let edge = anchors.edge(others.len(), &emission.head, edges);
        let (rest, full) = self.put_any(emission, *last, edge, values);
        (rest, wants_flush | full)
    }

    /// As [`Outbox::send`] for the commonest case: one target, anchored to one tuple.
    #[inline(always)]
    pub fn send_one(
        &mut self,
        emission: Emission<P>,
        target: TaskId,
        anchor: &mut InHand,
        edges: &mut EdgeIds,
        values: Values<'_>,
    ) -> (Option<P>, bool) {
        let edge = (!emission.head.roots.is_untracked()).then(|| edges.draw());
        if let Some(edge) = edge
            && !planted(Fault::ChildrenForgotten)
        {
            anchor.anchor(edge);
        }
        self.put_any(emission, target, edge, values)
    }

    /// As [`Outbox::send`] for a root with one target, whose ledger knows the delivery by `edge`.
    #[inline(always)]
    pub fn send_drawn(
        &mut self,
        emission: Emission<P>,
        target: TaskId,
        edge: EdgeId,
        values: Values<'_>,
    ) -> (Option<P>, bool) {
        self.put_any(emission, target, Some(edge), values)
    }

    #[inline(always)]
    fn put_any(
        &mut self,
        emission: Emission<P>,
        target: TaskId,
        edge: Option<EdgeId>,
        values: Values<'_>,
    ) -> (Option<P>, bool) {
        if self.is_elsewhere(target) {
            let wants_flush = self.put_packed(&emission, target, edge, values);
            return (Some(emission.payload), wants_flush);
        }
        (None, self.put(emission, target, edge))
    }

    fn put_packed(&mut self, emission: &Emission<P>, target: TaskId, edge: Option<EdgeId>, values: Values<'_>) -> bool {
        let Some(row) = self.buffers[target.index()].as_mut().and_then(|b| b.packed.as_mut()) else {
            return false;
        };
        row.open();
        if row.last.count == 0 && row.full.is_empty() {
            self.dirty.push(target);
        }
        let packed = &mut row.last;
        let Emission { head, stream, from, .. } = emission;
        wire::put_record(&mut packed.bytes, head, *stream, *from, edge, values.bytes, values.blobs.len());
        packed.blobs.extend_from_slice(values.blobs);
        packed.count += 1;
        packed.bytes.len() >= PACKED_BYTES || !packed.blobs.is_empty()
    }

    #[inline(always)]
    fn put(&mut self, emission: Emission<P>, target: TaskId, edge: Option<EdgeId>) -> bool {
        let buffer = self.buffers[target.index()].as_mut().expect("the router only names tasks of subscribers");
        if buffer.envelopes.is_empty() {
            self.dirty.push(target);
            buffer.envelopes.reserve(BATCH);
        }
        self.sent_inside += u64::from(buffer.is_inside);
        let Emission { payload, head, stream, from, bytes } = emission;
        buffer.envelopes.push(Envelope { payload, edge, head, stream, from, bytes });
        buffer.envelopes.len() >= BATCH
    }

    /// Pushes every buffer that is not empty.
    ///
    /// # Errors
    /// [`Stopped`] for the first target that did not take all. Targets behind it are still pushed, so that one slow task does
    /// not hold up the others' tuples.
    pub fn flush(&mut self, loop_bytes: u64, targets: &impl Targets<P>) -> Result<(), Stopped> {
        self.flush_to(loop_bytes, targets, true)
    }

    /// As [`Outbox::flush`] without what goes to other workers, which is kept.
    ///
    /// # Errors
    /// As [`Outbox::flush`].
    pub fn flush_here(&mut self, loop_bytes: u64, targets: &impl Targets<P>) -> Result<(), Stopped> {
        self.flush_to(loop_bytes, targets, false)
    }

    fn flush_to(&mut self, loop_bytes: u64, targets: &impl Targets<P>, is_elsewhere_too: bool) -> Result<(), Stopped> {
        let mut stopped = None;
        let mut kept = 0;
        for at in 0..self.dirty.len() {
            let target = self.dirty[at];
            let Some(buffer) = self.buffers[target.index()].as_mut() else {
                continue;
            };
            let (push, why) = if let Some(packed) = &mut buffer.packed {
                if !is_elsewhere_too {
                    self.dirty[kept] = target;
                    kept += 1;
                    continue;
                }
                (packed.push(target, targets), Stopped::Full(target))
            } else if buffer.is_back_edge {
                (targets.push_loop(target, &mut buffer.envelopes, loop_bytes), Stopped::LoopFull(target))
            } else {
                (targets.push(target, &mut buffer.envelopes), Stopped::Full(target))
            };
            let why = match push {
                Push::Done => continue,
                Push::Full => why,
                Push::Closed => Stopped::Closed(target),
            };
            self.dirty[kept] = target;
            kept += 1;
            stopped = stopped.or(Some(why));
        }
        self.dirty.truncate(kept);
        stopped.map_or(Ok(()), Err)
    }

    /// Hands back what is buffered for `target`, in order. It no longer counts as sent: nobody will work on it, and a cycle that
    /// waited for that would never end. Encoded ones are thrown away; [`Outbox::buffered`] says how many there were.
    pub fn take(&mut self, target: TaskId) -> Vec<Envelope<P>> {
        self.dirty.retain(|t| *t != target);
        let Some(buffer) = self.buffers[target.index()].as_mut() else {
            return Vec::new();
        };
        if let Some(packed) = &mut buffer.packed {
            *packed = Row::default();
        }
        let taken = std::mem::take(&mut buffer.envelopes);
        if buffer.is_inside {
            self.sent_inside -= taken.len() as u64;
        }
        taken
    }

    /// How many tuples are buffered for `target`.
    #[inline]
    pub fn buffered(&self, target: TaskId) -> usize {
        self.buffers[target.index()].as_ref().map_or(0, |b| b.packed.as_ref().map_or(b.envelopes.len(), Row::count))
    }

    /// How many tuples are buffered for other workers.
    pub fn buffered_elsewhere(&self) -> usize {
        let packed = |target: &TaskId| self.buffers[target.index()].as_ref()?.packed.as_ref();
        self.dirty.iter().filter_map(packed).map(Row::count).sum()
    }

    /// Whether nothing is buffered.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Deliveries to tasks of the own cycle, without those that [`Outbox::take`] gave back.
    pub fn sent_inside(&self) -> u64 {
        self.sent_inside
    }
}

impl Anchors<'_, '_> {
    /// The edge of delivery number `at`, noted where it belongs.
    #[inline]
    fn edge(&mut self, at: usize, head: &Head, edges: &mut EdgeIds) -> Option<EdgeId> {
        if head.roots.is_untracked() {
            return None;
        }
        match self {
            Anchors::None => None,
            Anchors::Root(drawn) => Some(drawn[at]),
            Anchors::One(anchor) => {
                let edge = edges.draw();
                if !planted(Fault::ChildrenForgotten) {
                    anchor.anchor(edge);
                }
                Some(edge)
            }
            Anchors::Many(anchors) => {
                let edge = edges.draw();
                anchor_all(anchors, &head.roots, edge);
                Some(edge)
            }
        }
    }
}
