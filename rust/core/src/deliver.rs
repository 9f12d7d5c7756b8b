//! Stage 3 of 8: what a task emitted and has not handed over yet, a buffer per target. Called by the collector, calls `queue`.
//!
//! Used by the thread of its task alone. A buffer of [`BATCH`] tuples is pushed at once, the others when the task's slice ends
//! (ENGINE 4.6), always in the order of emission per target. A refused push leaves the tuples here; the caller waits for room
//! and flushes again.

use crate::emit::{EdgeIds, InHand, anchor_all};
use crate::fault::{Fault, planted};
use crate::ids::{ComponentId, EdgeId, StreamId, TaskId};
use crate::plan::Plan;
use crate::queue::{BATCH, Push, Queue, Wake};
use crate::tuple::{Envelope, Head};

#[derive(Debug)]
struct Buffer<P> {
    envelopes: Vec<Envelope<P>>,
    is_back_edge: bool,
    is_inside: bool,
}

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
    /// The outbox of a task of `component`.
    pub fn new(plan: &Plan, component: ComponentId) -> Self {
        let mut buffers: Vec<Option<Box<Buffer<P>>>> = Vec::new();
        buffers.resize_with(plan.task_component.len(), || None);
        for task in plan.consumers(component) {
            let to = plan.task_component[task.index()];
            buffers[task.index()] = Some(Box::new(Buffer {
                envelopes: Vec::new(),
                is_back_edge: plan.is_back_edge(component, to),
                is_inside: plan.same_cycle(component, to),
            }));
        }
        Self { buffers, dirty: Vec::new(), sent_inside: 0 }
    }

    /// Splits `emission` into a delivery for each of `targets`, with an edge id each. `share` makes another reference to the
    /// payload. Returns the payload if there was no target, and whether some buffer is full and wants a flush.
    #[inline]
    pub fn send(
        &mut self,
        emission: Emission<P>,
        targets: &[TaskId],
        mut anchors: Anchors<'_, '_>,
        edges: &mut EdgeIds,
        mut share: impl FnMut(&P) -> P,
    ) -> (Option<P>, bool) {
        let mut wants_flush = false;
        let Some((last, others)) = targets.split_last() else {
            return (Some(emission.payload), false);
        };
        for (at, target) in others.iter().enumerate() {
            let payload = share(&emission.payload);
            let edge = if planted(Fault::FanOutEdgeSkipped) { None } else { anchors.edge(at, &emission.head, edges) };
            let copy = Emission { payload, head: emission.head.clone(), ..emission };
            wants_flush |= self.put(copy, *target, edge);
        }
        let edge = anchors.edge(others.len(), &emission.head, edges);
        wants_flush |= self.put(emission, *last, edge);
        (None, wants_flush)
    }

    /// As [`Outbox::send`] for the commonest case: one target, anchored to one tuple. Returns whether the buffer wants a flush.
    #[inline(always)]
    pub fn send_one(
        &mut self,
        emission: Emission<P>,
        target: TaskId,
        anchor: &mut InHand,
        edges: &mut EdgeIds,
    ) -> bool {
        let edge = (!emission.head.roots.is_untracked()).then(|| edges.draw());
        if let Some(edge) = edge
            && !planted(Fault::ChildrenForgotten)
        {
            anchor.anchor(edge);
        }
        self.put(emission, target, edge)
    }

    /// As [`Outbox::send`] for a root with one target, whose ledger knows the delivery by `edge`.
    #[inline(always)]
    pub fn send_drawn(&mut self, emission: Emission<P>, target: TaskId, edge: EdgeId) -> bool {
        self.put(emission, target, Some(edge))
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

    /// Pushes every buffer that is not empty. `queue_of` finds a task's queue.
    ///
    /// # Errors
    /// [`Stopped`] for the first target that did not take all. Targets behind it are still pushed, so that one slow task does
    /// not hold up the others' tuples.
    pub fn flush<'q, W: Wake + 'q>(
        &mut self,
        loop_bytes: u64,
        queue_of: impl Fn(TaskId) -> &'q Queue<P, W>,
    ) -> Result<(), Stopped>
    where
        P: 'q,
    {
        let mut stopped = None;
        let mut kept = 0;
        for at in 0..self.dirty.len() {
            let target = self.dirty[at];
            let Some(buffer) = self.buffers[target.index()].as_mut() else {
                continue;
            };
            let queue = queue_of(target);
            let (push, why) = if buffer.is_back_edge {
                (queue.push_loop(&mut buffer.envelopes, loop_bytes), Stopped::LoopFull(target))
            } else {
                (queue.push(&mut buffer.envelopes), Stopped::Full(target))
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
    /// waited for that would never end.
    pub fn take(&mut self, target: TaskId) -> Vec<Envelope<P>> {
        self.dirty.retain(|t| *t != target);
        let Some(buffer) = self.buffers[target.index()].as_mut() else {
            return Vec::new();
        };
        let taken = std::mem::take(&mut buffer.envelopes);
        if buffer.is_inside {
            self.sent_inside -= taken.len() as u64;
        }
        taken
    }

    /// Visits every tuple that is buffered, for the audit.
    pub fn for_each(&self, mut visit: impl FnMut(&Envelope<P>)) {
        for target in &self.dirty {
            if let Some(buffer) = &self.buffers[target.index()] {
                buffer.envelopes.iter().for_each(&mut visit);
            }
        }
    }

    /// How many tuples are buffered for `target`.
    #[inline]
    pub fn buffered(&self, target: TaskId) -> usize {
        self.buffers[target.index()].as_ref().map_or(0, |b| b.envelopes.len())
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
