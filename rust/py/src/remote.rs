//! The other workers, as this one sees them (stages 3 and 4r): where a task is, what goes over the links, and what comes in. Only in
//! a worker of several; alone, `Shared::remote` is `None` and nothing here runs.
//!
//! What comes in is handed on by the I/O thread, which never attaches: tuples stay bytes until their task decodes them
//! (`frames.rs`), acks and fails go to the ledgers, signals to the queues.

use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use pyo3::prelude::*;
use rainband_core::ids::{Incarnation, RootRef, TaskId, WorkerId};
use rainband_core::ledger::{Failure, Mark, Reason};
use rainband_core::peer::{Inbox, Links, Refused};
use rainband_core::queue::{Frame, Wake};
use rainband_core::signal::{Kind, Signal};
use rainband_core::wire::{self, End, WireError};
use rainband_link::{LinkControl, Machine, PeerIndex};
use rustc_hash::FxHashMap;

use crate::codec::{self, Pickle};
use crate::hang::Hangs;
use crate::shared::{Shared, lock};
use crate::slots::Slots;
use crate::stats::add;
use crate::turn::Seat;

/// Wakes the I/O thread.
#[derive(Clone)]
pub struct IoBell(pub Arc<LinkControl>);

impl Wake for IoBell {
    fn wake(&self) {
        self.0.wake();
    }
}

/// What a worker knows of the others.
pub struct Remote {
    pub me: End,
    pub links: Links<Seat, IoBell>,
    pub control: Arc<LinkControl>,
    /// By task: the last signal that a task of this worker sent, to be told to successors of those that heard it.
    signalled: Vec<AtomicU8>,
    /// What its executors have in hand, for the supervisor after a death.
    pub slots: Option<Slots>,
    /// Tasks of this worker that an earlier incarnation brought to their end.
    pub ended: Vec<TaskId>,
    /// Attempts that died with an earlier process of this worker, by owner and hash of the user's id.
    pub charged: FxHashMap<(TaskId, u64), u32>,
    /// What was lost with processes that died, of roots of other workers; told to them at the next replay.
    unsaid: Mutex<Vec<RootRef>>,
    /// By view: up to where attempts are replayed when all have confirmed it.
    marks: Mutex<FxHashMap<u64, Vec<(TaskId, Mark)>>>,
    /// By cycle: members that are ready to end.
    ending: Mutex<FxHashMap<u32, Vec<TaskId>>>,
    /// Processes whose death was installed, so that a view that comes twice changes nothing.
    members: Mutex<Vec<Option<Incarnation>>>,
}

/// Somebody who died with a tuple in hand: owner of the root, its incarnation, the attempt's bits.
pub type Suspect = (u32, u32, u64);

impl Remote {
    pub fn new(
        me: End,
        links: Links<Seat, IoBell>,
        control: Arc<LinkControl>,
        tasks: usize,
        ended: Vec<TaskId>,
        slots: Option<Slots>,
        charged: FxHashMap<(TaskId, u64), u32>,
    ) -> Self {
        let signalled: Vec<AtomicU8> = (0..tasks).map(|_| AtomicU8::new(0)).collect();
        for task in &ended {
            signalled[task.index()].store(2, Ordering::Relaxed);
        }
        let members = Mutex::new(vec![None; links.workers()]);
        Self {
            me,
            links,
            control,
            signalled,
            ended,
            slots,
            charged,
            unsaid: Mutex::default(),
            marks: Mutex::default(),
            members,
            ending: Mutex::default(),
        }
    }

    /// Whether `worker` is that process already, as far as the last view said.
    pub fn is_known(&self, worker: WorkerId, incarnation: Option<Incarnation>) -> bool {
        lock(&self.members)[worker.index()] == incarnation
    }

    /// `task` is ready to end: the tasks that end now. Those of a cycle end together, with the last of them.
    pub fn end_together(&self, shared: &Shared, task: TaskId) -> Vec<TaskId> {
        let Some(cycle) = shared.plan.component_of(task).cycle else { return vec![task] };
        let members = shared.plan.components.iter().filter(|c| c.cycle == Some(cycle)).map(|c| c.tasks.len()).sum();
        let mut ending = lock(&self.ending);
        let ready = ending.entry(cycle).or_default();
        ready.push(task);
        if ready.len() < members { Vec::new() } else { std::mem::take(ready) }
    }

    /// Whether roots are lost that were not told to their owners yet.
    pub fn has_unsaid(&self) -> bool {
        !lock(&self.unsaid).is_empty()
    }

    /// Notes the signal that `task` sends from now on, for successors of those it is sent to.
    pub fn note_signal(&self, task: TaskId, kind: Kind) {
        self.signalled[task.index()].fetch_max(if kind == Kind::End { 2 } else { 1 }, Ordering::SeqCst);
    }
}

impl Shared {
    /// Whether `task` runs in this worker.
    #[inline]
    pub fn is_here(&self, task: TaskId) -> bool {
        self.remote.as_ref().is_none_or(|remote| remote.links.is_here(task))
    }

    /// Installs view number `view`: what was sent to processes that are gone fails, and nothing more goes to them. `members` are
    /// (worker, incarnation, whether it can be reached). `suspects` were in hand when their worker died: they are charged with an
    /// attempt.
    ///
    /// What is lost fails at [`Shared::replay`] only: failed here, it would be begun anew as a bystander, and the charge, which may
    /// come from another worker's view of the same death, would find its attempt over. So a tuple that kills would go round for ever.
    pub fn install_view(
        &self,
        view: u64,
        members: &[(WorkerId, Incarnation, bool)],
        suspects: &[Suspect],
        reason: &str,
    ) {
        let Some(remote) = &self.remote else { return };
        for (worker, incarnation, is_reachable) in members {
            if *worker == remote.me.worker {
                continue;
            }
            let now = is_reachable.then_some(*incarnation);
            let before = std::mem::replace(&mut lock(&remote.members)[worker.index()], now);
            let lost = remote.links.install(*worker, now);
            // Own roots need no more: whatever is lost was begun before the mark below.
            lock(&remote.unsaid).extend(lost.roots.iter().filter(|root| !remote.links.is_here(root.task)));
            if before != now && *is_reachable {
                self.tell_successor(remote, *worker, *incarnation);
            }
        }
        let own = (0..self.tasks.len() as u32).map(TaskId).filter(|task| remote.links.is_here(*task));
        let marks = own.map(|task| (task, lock(&self.task(task).ledger).mark())).collect();
        let mut kept = lock(&remote.marks);
        kept.retain(|old, _| old + 64 > view);
        kept.insert(view, marks);
        drop(kept);
        // After the marks, so that the attempt that follows is not replayed with the bystanders.
        self.charge(remote, suspects, reason);
    }

    fn charge(&self, remote: &Remote, suspects: &[Suspect], reason: &str) {
        for (task, incarnation, attempt) in suspects {
            let task = TaskId(*task);
            if *incarnation != remote.me.incarnation.0 || task.index() >= self.tasks.len() || !self.is_here(task) {
                continue;
            }
            let failure = Failure { reason: Reason::Crashed, task, error: reason.into(), retry: true };
            lock(&self.task(task).ledger).fail(rainband_core::ids::AttemptId::from_bits(*attempt), failure);
            self.ring(task);
        }
    }

    /// A process takes the place of an earlier one, or comes first: it hears how far our tasks are, and our tasks that its tasks
    /// begin anew.
    fn tell_successor(&self, remote: &Remote, worker: WorkerId, incarnation: Incarnation) {
        for (index, state) in remote.signalled.iter().enumerate() {
            let task = TaskId(index as u32);
            let component = self.plan.task_component[index];
            let kind = match state.load(Ordering::SeqCst) {
                0 => None,
                1 => Some(Kind::Flush),
                _ => Some(Kind::End),
            };
            for consumer in self.plan.consumers(component) {
                let is_there = remote.links.worker_of(consumer) == worker;
                if let (Some(kind), true, true) = (kind, is_there, remote.links.is_here(task)) {
                    remote.links.signal(consumer, Signal { kind, from: task, incarnation: remote.me.incarnation });
                }
                if remote.links.worker_of(task) == worker && remote.links.is_here(consumer) && incarnation.0 > 1 {
                    self.task(consumer).queue.signal(Signal { kind: Kind::Anew, from: task, incarnation });
                }
            }
        }
    }

    /// Tells tasks of this process what tasks beside them ended in an earlier one: no link and no view brings it.
    pub fn tell_own_of_ended(&self) {
        let Some(remote) = &self.remote else { return };
        for task in remote.ended.iter().filter(|task| self.is_here(**task)) {
            for consumer in self.plan.consumers(self.plan.task_component[task.index()]) {
                if self.is_here(consumer) {
                    let signal = Signal { kind: Kind::End, from: *task, incarnation: self.incarnation };
                    self.task(consumer).queue.signal(signal);
                }
            }
        }
    }

    /// [`hash_of_id`] of a root that a task of this process owns and that is not resolved; else 0.
    #[cold]
    pub fn id_hash(&self, py: Python<'_>, root: &RootRef) -> u64 {
        if !self.is_here(root.task) || root.incarnation != self.incarnation {
            return 0;
        }
        let ledger = lock(&self.task(root.task).ledger);
        let id = ledger.record_of(root.attempt).and_then(|record| record.id.as_ref()).map(|id| id.clone_ref(py));
        drop(ledger);
        id.map_or(0, |id| hash_of_id(id.bind(py)))
    }

    /// All have confirmed `view`: what was begun before this worker installed it is begun anew, once, and others hear what was lost
    /// here of theirs.
    pub fn replay(&self, view: u64, reason: &str) {
        let Some(remote) = &self.remote else { return };
        let lost = std::mem::take(&mut *lock(&remote.unsaid));
        self.fail_roots(&lost, &worker_lost(reason.into()));
        let marks = lock(&remote.marks).remove(&view).unwrap_or_default();
        for (task, mark) in marks {
            let failure = Failure { task, ..worker_lost(reason.into()) };
            lock(&self.task(task).ledger).fail_begun_before(mark, &failure);
            self.ring(task);
        }
    }
}

/// A hash of the user's id that is the same in every process of a run; 0 for an id that no other process would know again, because
/// the codec refuses it.
pub fn hash_of_id(id: &Bound<'_, PyAny>) -> u64 {
    let mut bytes = Vec::new();
    if codec::encode_with(id, &mut bytes, None, Pickle::Refused).is_err() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    hasher.finish().max(1)
}

fn worker_lost(error: String) -> Failure {
    Failure { reason: Reason::WorkerLost, task: TaskId(0), error: error.into(), retry: true }
}

/// Takes what comes in; runs on the I/O thread.
pub struct Door(pub Arc<Shared>);

impl Inbox for Door {
    fn tuples(&mut self, task: TaskId, frame: Box<Frame>) {
        let Some(own) = self.0.tasks.get(task.index()) else { return };
        if let Err(frame) = own.queue.push_frame(frame) {
            // The task is over or the run stops; what was tracked stays pending at its owner.
            add(&self.0.run_stats.discarded_at_stop, frame.reader.left() as u64);
        }
    }

    fn acks(&mut self, task: TaskId, incarnation: Incarnation, pairs: &[u8]) {
        if task.index() >= self.0.tasks.len() {
            return;
        }
        let acks: Vec<(RootRef, u64)> =
            wire::acks(pairs).map(|(attempt, xor)| (RootRef { task, incarnation, attempt }, xor)).collect();
        self.0.apply_acks(task, &acks);
    }

    fn fail(&mut self, root: RootRef, failure: Failure) {
        if root.task.index() < self.0.tasks.len() && failure.task.index() < self.0.tasks.len() {
            self.0.fail_roots(&[root], &failure);
        }
    }

    fn signal(&mut self, to: TaskId, signal: Signal) {
        if let Some(own) = self.0.tasks.get(to.index()) {
            own.queue.signal(signal);
        }
    }
}

/// What the I/O thread carries, and what it looks after because it never waits for the interpreter.
pub struct Carrier {
    pub shared: Arc<Shared>,
    /// Why no link can go on: a peer sent what is whole and cannot be read.
    pub broken: Option<String>,
    pub hangs: Hangs,
}

impl Machine for Carrier {
    fn receive(&mut self, parts: Vec<Bytes>, now_ns: u64) {
        if let Some(remote) = &self.shared.remote {
            // What is refused is counted there, and sent again if it was of a live link; this would come for ever.
            let taken = remote.links.receive(&parts, now_ns, &mut Door(Arc::clone(&self.shared)));
            if taken == Err(Refused::Damaged(WireError::Malformed)) {
                self.broken = Some("a frame came that is whole and cannot be read".into());
                remote.control.stop();
            }
        }
    }

    fn transmit(&mut self, peer: PeerIndex, now_ns: u64) -> Option<Vec<Bytes>> {
        self.shared.remote.as_ref()?.links.transmit(WorkerId(peer.0), now_ns)
    }

    fn tick(&mut self, now_ns: u64) -> Option<u64> {
        let remote = self.shared.remote.as_ref()?;
        let due = remote.links.tick(now_ns);
        let Some(slots) = &remote.slots else { return Some(due) };
        let (hung, look_ns) = self.hangs.look(&self.shared, now_ns);
        if let Some(text) = hung {
            slots.say(&text);
            // The handler of the worker dumps all stacks, also while C code holds the interpreter; then the process is gone, and
            // the supervisor replaces it.
            std::process::abort();
        }
        Some(due.min(look_ns))
    }
}
