//! Stages 1 and 6 of 8: what `emit` and the acks of a task go through. One collector a task, used by the task's thread alone;
//! `TaskCell` checks that, and that nobody comes in twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use rainband_core::deliver::{Anchors, Emission, Outbox};
use rainband_core::emit::{EdgeIds, InHand, join_heads, mix};
use rainband_core::ids::{ComponentId, EdgeId, RootRef, StreamId, TaskId};
use rainband_core::key::KeyBytes;
use rainband_core::route::{Router, Way};
use rainband_core::tuple::Head;

use crate::choose::{Ask, Refused, is_plain_key, shuffled};
use crate::errors;
use crate::held::HeldKey;
use crate::keys::{self};
use crate::packing::PackedValues;
use crate::payload::{Checked, Payload};
use crate::shared::{Shared, lock};
use crate::stats::add;
use crate::turn::Seat;

mod root;

/// One output stream as the collector needs it.
pub struct StreamOut {
    pub id: StreamId,
    pub name: Py<pyo3::types::PyString>,
    pub width: usize,
    pub direct: bool,
    /// The tasks that shuffles of this stream choose among, a list a subscription, where there is a choice.
    shuffled: Vec<Arc<[TaskId]>>,
}

/// To what an emit without `anchors=` is anchored.
#[derive(Debug, Default)]
pub enum Current {
    /// To nothing: in `tick`, `flush`, `finish`, and in spouts. The tuple is a root.
    #[default]
    None,
    /// To `Collector::in_hand`, the tuple that is acked when the call ends.
    Mine,
    /// To a tuple of the held table.
    Held(HeldKey),
}

/// One of `anchors=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnchorRef {
    Current,
    Held(HeldKey),
}

/// How an emission is tracked.
pub enum How<'a> {
    /// Anchored to the tuple in hand, or a root of its own outside of one.
    Current,
    /// Anchored to these; none at all means untracked.
    To(&'a [AnchorRef]),
    /// A spout's root with the user's id and perhaps a position.
    Root { id: Py<PyAny>, position: Option<Py<PyAny>> },
    /// Fire and forget.
    Untracked,
}

/// What became of an emission by the short way.
pub enum Straight<T> {
    Sent,
    /// Sent, and the buffer is full: call [`Collector::flush_emitted`].
    SentLast,
    /// It is a case for [`Collector::emit`], with the payload and whatever came with it.
    Not(Payload, T),
}

impl<T> Straight<T> {
    fn sent(wants_flush: bool) -> Self {
        if wants_flush { Straight::SentLast } else { Straight::Sent }
    }
}

/// What a task emits and acks through.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about the task, each set in one place")]
pub struct Collector {
    pub task: TaskId,
    pub component: ComponentId,
    pub shared: Arc<Shared>,
    pub seat: Seat,
    pub streams: Vec<StreamOut>,
    pub router: Router,
    pub outbox: Outbox<Payload>,
    pub edges: EdgeIds,
    pub current: Current,
    /// What is owed for the current tuple, if `current` is `Mine`.
    pub in_hand: InHand,
    /// Counts the tuples in hand, so that a kept `Tuple` is known to be over.
    pub serial: u64,
    pub acks: Vec<(RootRef, u64)>,
    pub now_ns: u64,
    /// When it last handed over to other workers.
    pub handed_over_ns: u64,
    pub emitted: u64,
    pub delivered: u64,
    /// The task is in `finish` and its cycle is over: an emit into the cycle raises.
    pub is_finishing: bool,
    /// The task fills batches: an emit must say what it is anchored to.
    pub needs_anchors: bool,
    /// `end()` was called.
    pub has_ended: bool,
    pub warned_single_list: bool,
    pub last_position: Option<Py<PyAny>>,
    pub loop_bytes: u64,
    /// How tuples of the stream `default` find their only target; `None` also where tuples are checked.
    straight: Option<Way>,
    targets: Vec<TaskId>,
    drawn: Vec<EdgeId>,
    packed: PackedValues,
    key: KeyBytes,
}

/// Random-looking key for the edge ids of a task; `which` tells the collector's from the replayer's.
pub fn edge_key(run_key: u64, task: TaskId, which: u64) -> u64 {
    mix(run_key ^ mix(u64::from(task.0) << 8 | which))
}

impl Collector {
    pub fn new(py: Python<'_>, shared: &Arc<Shared>, task: TaskId) -> Self {
        let component = shared.plan.task_component[task.index()];
        let streams = shared.plan.components[component.index()].streams.clone();
        let stream = |id: u32| {
            let stream = &shared.plan.streams[id as usize];
            StreamOut {
                id: StreamId(id),
                name: pyo3::types::PyString::intern(py, &stream.name).unbind(),
                width: stream.width,
                direct: stream.direct,
                shuffled: shuffled(&shared.plan, stream, |task| shared.is_here(task)),
            }
        };
        let mut router = Router::new(&shared.plan, component, edge_key(shared.run_key, task, 2));
        router.keep_local(|task| shared.is_here(task));
        let first = (!streams.is_empty()).then_some(StreamId(streams.start));
        let is_straight = |id: &StreamId| {
            let stream = &shared.plan.streams[id.index()];
            !stream.direct && stream.width == 1 && !shared.settings.checked
        };
        let straight = first.filter(is_straight).and_then(|id| router.way(id));
        Self {
            task,
            component,
            straight,
            seat: shared.turns.seat(shared.plan.task_executor[task.index()].index()),
            streams: streams.map(stream).collect(),
            router,
            outbox: Outbox::new(&shared.plan, component, |task| shared.is_here(task)),
            packed: PackedValues::default(),
            edges: EdgeIds::new(edge_key(shared.run_key, task, 0)),
            current: Current::None,
            in_hand: InHand::default(),
            serial: 0,
            acks: Vec::new(),
            now_ns: shared.now_ns(),
            handed_over_ns: 0,
            emitted: 0,
            delivered: 0,
            is_finishing: false,
            needs_anchors: false,
            has_ended: false,
            warned_single_list: false,
            last_position: None,
            loop_bytes: shared.settings_of(task).loop_bytes,
            targets: Vec::new(),
            drawn: Vec::new(),
            key: KeyBytes::default(),
            shared: Arc::clone(shared),
        }
    }

    /// Emits `payload` on the stream `default` anchored to the tuple in hand, if that tuple has one possible target; the rule in a
    /// pipeline, and so free of everything that other cases need. Gives the payload back if they do.
    #[inline(always)]
    pub fn emit_straight(&mut self, py: Python<'_>, payload: Payload, bytes: u32) -> Straight<()> {
        if !matches!(self.current, Current::Mine) || self.is_finishing {
            return Straight::Not(payload, ());
        }
        let Some(target) = self.straight_target(py, &payload) else { return Straight::Not(payload, ()) };
        if !self.pack_straight(py, &payload, target) {
            return Straight::Not(payload, ()); // It says there why.
        }
        let emission =
            Emission { payload, head: self.in_hand.child_head(), stream: self.streams[0].id, from: self.task, bytes };
        self.emitted += 1;
        self.delivered += 1;
        let values = self.packed.values();
        let (rest, wants_flush) = self.outbox.send_one(emission, target, &mut self.in_hand, &mut self.edges, values);
        drop(rest);
        Straight::sent(wants_flush)
    }

    /// Encodes a tuple on the stream `default` if its target is of another worker; `false` if that is refused.
    #[inline(always)]
    fn pack_straight(&mut self, py: Python<'_>, payload: &Payload, target: TaskId) -> bool {
        if self.shared.remote.is_none() {
            return true;
        }
        self.packed.pack(py, &self.shared, &self.outbox, payload, self.streams[0].id, &[target]).is_ok()
    }

    /// The only target of a tuple of one field on the stream `default`, where it is found without asking.
    #[inline(always)]
    fn straight_target(&mut self, py: Python<'_>, payload: &Payload) -> Option<TaskId> {
        match self.straight? {
            Way::Task { task, needs_key } => (!needs_key || is_plain_key(payload)).then_some(task),
            Way::FirstField => {
                if !is_plain_key(payload) {
                    return None;
                }
                self.key.clear();
                keys::write(payload.0.bind(py), &mut self.key).ok()?;
                Some(self.router.task_of_key(self.streams[0].id, self.key.hash()))
            }
        }
    }

    /// Emits `payload` on stream number `at`. Blocks, detached, while a target is full.
    ///
    /// # Errors
    /// A value that is no key, a bad custom grouping, a direct emit to a stranger, anchors that are over.
    #[inline]
    pub fn emit(
        &mut self,
        py: Python<'_>,
        at: usize,
        payload: Payload,
        bytes: u32,
        how: How<'_>,
        direct: Option<TaskId>,
    ) -> PyResult<()> {
        let payload = if self.shared.settings.checked { self.check(py, at, payload)? } else { payload };
        self.targets.clear();
        self.choose(py, at, &payload, direct)?;
        if self.is_finishing {
            self.refuse_into_cycle(py, at)?;
        }
        let stream = self.streams[at].id;
        if self.shared.remote.is_some() {
            let packed = self.packed.pack(py, &self.shared, &self.outbox, &payload, stream, &self.targets);
            packed.map_err(|text| self.error(py, at, &text))?;
        }
        let emission = Emission { payload, head: Head::default(), stream, from: self.task, bytes };
        let wants_flush = match how {
            How::Current => match &self.current {
                Current::Mine => {
                    let emission = Emission { head: self.in_hand.child_head(), ..emission };
                    self.emitted += 1;
                    self.delivered += self.targets.len() as u64;
                    let anchors = Anchors::One(&mut self.in_hand);
                    let values = self.packed.values();
                    let (rest, wants_flush) =
                        self.outbox.send(emission, &self.targets, anchors, &mut self.edges, values, |p| p.share(py));
                    drop(rest);
                    wants_flush
                }
                Current::Held(key) => {
                    let key = [AnchorRef::Held(*key)];
                    self.send_anchored(py, emission, &key)?
                }
                Current::None if self.needs_anchors => {
                    let text = "in a batch an emit says what it comes of: emit(…, anchors=[tup, …]), or anchors=[] for an untracked tuple";
                    return Err(self.error(py, at, text));
                }
                Current::None => self.send_root(py, emission, None, None, direct)?,
            },
            How::To([]) | How::Untracked => self.send_untracked(py, emission),
            How::To(anchors) => self.send_anchored(py, emission, anchors)?,
            How::Root { id, position } => self.send_root(py, emission, Some(id), position, direct)?,
        };
        if wants_flush || self.targets.is_empty() {
            self.flush_emitted(py)?;
        }
        Ok(())
    }

    #[inline]
    fn choose(&mut self, py: Python<'_>, at: usize, payload: &Payload, direct: Option<TaskId>) -> PyResult<()> {
        let stream = &self.streams[at];
        if let Some(task) = direct {
            if !self.router.route_direct(stream.id, task, &mut self.targets) {
                return Err(self.error(py, at, &format!("task {task} has no direct subscription to this stream")));
            }
            return Ok(());
        }
        if stream.direct {
            return Err(self.error(py, at, "the stream is direct: say emit(…, task=…)"));
        }
        if !stream.shuffled.is_empty() {
            self.wait_for_choice(py, at);
        }
        let stream = &self.streams[at];
        let id = stream.id;
        let mut ask = Ask { py, shared: &self.shared, width: stream.width, key: &mut self.key, outbox: &self.outbox };
        match self.router.route(id, payload, &mut ask, &mut self.targets) {
            Ok(()) => Ok(()),
            Err(why) => Err(self.refused(py, at, why)),
        }
    }

    /// Waits, detached, while every task that a shuffle may choose is full: whichever has room first gets the tuple, and one that
    /// is stuck stops nobody.
    fn wait_for_choice(&mut self, py: Python<'_>, at: usize) {
        for list in 0..self.streams[at].shuffled.len() {
            loop {
                let shared = &self.shared;
                let outbox = &self.outbox;
                let tasks = &self.streams[at].shuffled[list];
                if tasks.iter().any(|task| outbox.buffered(*task) < shared.room_hint(*task)) {
                    break;
                }
                let tasks = Arc::clone(tasks);
                drop(self.flush_some());
                if self.shared.is_stopping() {
                    return;
                }
                // Left with all of them, also after one said that it has room: a wake-up too many does no harm.
                let waits = tasks.iter().fold(true, |all, task| {
                    let waits = self.shared.wait_for_room(*task, &self.seat);
                    all && (waits || self.outbox.buffered(*task) > 0)
                });
                if waits {
                    let own = self.shared.task(self.task);
                    own.waits_for_room.store(true, Ordering::Relaxed);
                    py.detach(|| self.seat.park(None));
                    own.waits_for_room.store(false, Ordering::Relaxed);
                }
            }
        }
    }

    #[cold]
    fn refused(&self, py: Python<'_>, at: usize, why: Refused) -> PyErr {
        match why {
            Refused::Raised(error) => error,
            Refused::NotAKey(field, what) => {
                let fields = self.shared.names[self.streams[at].id.index()].fields.bind(py);
                let field = fields.get_item(field).map(|f| f.to_string()).unwrap_or_default();
                let place = self.place(at);
                let hint = "; group by another field, or emit a key that is made of these";
                errors::key_type_error(
                    py,
                    format!("{place}: field {field:?} is a key, and {what} is none: {}{hint}", keys::KEYS),
                )
            }
            Refused::Stranger(text) => self.error(py, at, &text),
        }
    }

    fn place(&self, at: usize) -> String {
        let plan = &self.shared.plan;
        let name = &plan.components[self.component.index()].name;
        format!("emit() of {name:?} task {} on stream {:?}", self.task, plan.streams[self.streams[at].id.index()].name)
    }

    #[cold]
    pub fn error(&self, py: Python<'_>, at: usize, text: &str) -> PyErr {
        errors::emit_error(py, format!("{}: {text}", self.place(at)))
    }

    #[cold]
    fn refuse_into_cycle(&self, py: Python<'_>, at: usize) -> PyResult<()> {
        let plan = &self.shared.plan;
        let inside = |task: &TaskId| plan.same_cycle(self.component, plan.task_component[task.index()]);
        if let Some(task) = self.targets.iter().find(|t| inside(t)) {
            let to = &plan.component_of(*task).name;
            return Err(self.error(
                py,
                at,
                &format!("in finish() nothing can be sent to {to:?}, which is in the same cycle and has finished too"),
            ));
        }
        Ok(())
    }

    #[cold]
    fn check(&self, py: Python<'_>, at: usize, payload: Payload) -> PyResult<Payload> {
        let stream = &self.shared.plan.streams[self.streams[at].id.index()].name;
        let values = payload.to_tuple(py, self.streams[at].width)?;
        let token = self.shared.call_runtime(py, "check_emit", (self.component.0, stream, values))?.unbind();
        if token.is_none(py) {
            return Ok(payload);
        }
        Ok(Payload(Py::new(py, Checked { values: payload.0, token })?.into_any()))
    }

    fn send_untracked(&mut self, py: Python<'_>, emission: Emission<Payload>) -> bool {
        self.count();
        let values = self.packed.values();
        let (rest, wants_flush) =
            self.outbox.send(emission, &self.targets, Anchors::None, &mut self.edges, values, |p| p.share(py));
        drop(rest);
        wants_flush
    }

    #[inline]
    fn count(&mut self) {
        self.emitted += 1;
        self.delivered += self.targets.len() as u64;
        if self.targets.is_empty() {
            add(&self.shared.run_stats.no_target, 1);
        }
    }

    /// Emits a tuple anchored to held tuples and perhaps the current one.
    fn send_anchored(&mut self, py: Python<'_>, emission: Emission<Payload>, anchors: &[AnchorRef]) -> PyResult<bool> {
        let max_roots = self.shared.settings_of(self.task).max_anchors;
        let shared = Arc::clone(&self.shared);
        let mut held = lock(&shared.task(self.task).held);
        // What is owed is taken out for the time of the call; no Python runs until it is put back.
        let mut taken: Vec<InHand> = Vec::with_capacity(anchors.len());
        let mut over = false;
        for anchor in anchors {
            let place = match anchor {
                AnchorRef::Held(key) => held.get_mut(*key),
                AnchorRef::Current if matches!(self.current, Current::Mine) => Some(&mut self.in_hand),
                AnchorRef::Current => None,
            };
            if let Some(place) = place {
                taken.push(std::mem::take(place));
            } else {
                over = true;
                break;
            }
        }
        let head = if over { Ok(Head::default()) } else { join_heads(&taken, max_roots) };
        // What is not sent is dropped after the lock is released, like everything that holds Python objects.
        let mut unsent = None;
        let mut sent = Ok((None, false));
        match head {
            Ok(head) if !over => {
                let mut owed: Vec<&mut InHand> = taken.iter_mut().collect();
                let emission = Emission { head, ..emission };
                let (anchors, values) = (Anchors::Many(&mut owed), self.packed.values());
                sent = Ok(self.outbox.send(emission, &self.targets, anchors, &mut self.edges, values, |p| p.share(py)));
            }
            Ok(_) => unsent = Some(emission),
            Err(too_many) => {
                sent = Err(too_many);
                unsent = Some(emission);
            }
        }
        for (anchor, owed) in anchors.iter().zip(taken) {
            let place = match anchor {
                AnchorRef::Held(key) => held.get_mut(*key),
                AnchorRef::Current if matches!(self.current, Current::Mine) => Some(&mut self.in_hand),
                AnchorRef::Current => None,
            };
            if let Some(place) = place {
                *place = owed;
            }
        }
        drop(held);
        drop(unsent);
        if over {
            return Err(errors::emit_error(
                py,
                format!("emit() of task {}: an anchor was acked or failed before; emit first, then ack", self.task),
            ));
        }
        match sent {
            Ok((rest, wants_flush)) => {
                drop(rest);
                self.count();
                Ok(wants_flush)
            }
            Err(too_many) => Err(errors::emit_error(
                py,
                format!(
                    "emit() of task {}: the anchors have {} distinct roots, at most {} are allowed; anchor to fewer tuples or raise max_anchors",
                    self.task, too_many.got, too_many.max
                ),
            )),
        }
    }
}
