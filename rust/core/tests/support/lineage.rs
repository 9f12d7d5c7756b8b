//! Emit, outbox and ledger against a naive ledger: a root is complete exactly when the set of its outstanding deliveries is
//! empty (ENGINE 1.2 to 1.7).
//!
//! The world has two spout tasks and three bolt tasks, each of which may emit roots; deliveries are lost, worked on, joined,
//! acked and failed in any order, and what is said to a ledger arrives in any order, late, and sometimes twice. The naive
//! ledger holds a set of delivery numbers a root: a message takes out what was acked and puts in what was anchored. A number
//! that is there already goes out again, because an XOR is a parity; a message that arrives twice may so keep a root from
//! completing (the audit finds it), but never completes it.
//!
//! Beside it stands the truth: how many deliveries of an attempt really are in flight or held. A root that completes while
//! that is not 0 is wrong whatever the sets say.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use rainband_core::deliver::{Anchors, Emission, Outbox, Values};
use rainband_core::emit::{EdgeIds, InHand, join_heads};
use rainband_core::ids::{AttemptId, EdgeId, Incarnation, RootRef, StreamId, TaskId};
use rainband_core::ledger::{Failure, Ledger, News, Reason, Slot};
use rainband_core::plan::{ComponentSpec, Grouping, InputSpec, Plan, StreamSpec};
use rainband_core::tuple::{Envelope, Head, Roots};

use super::check::{Effort, ensure, for_all};
use super::payload::{Census, Token};

const SPOUTS: u32 = 2;
const BOLTS: u32 = 3;
const TASKS: usize = (SPOUTS + BOLTS) as usize;

/// One thing that happens; the numbers choose among what is there.
#[derive(Clone, Copy, Debug)]
enum Op {
    Root(u16, u8),
    Work(u16),
    Lose(u16),
    Child(u16, u8),
    Join(u16, u16, u16, u8),
    Ack(u16),
    Fail(u16),
    Arrive(u16, bool),
    Look(u16),
    Retry(u16, u8),
    Resolve(u16),
    Due(u16, u8),
    Audit(u16),
}

fn op() -> impl Strategy<Value = Op> {
    let n = any::<u16>;
    let fan = || prop_oneof![1 => Just(0_u8), 9 => 0_u8..=26];
    prop_oneof![
        6 => (n(), fan()).prop_map(|(a, f)| Op::Root(a, f)),
        16 => n().prop_map(Op::Work),
        1 => n().prop_map(Op::Lose),
        8 => (n(), fan()).prop_map(|(a, f)| Op::Child(a, f)),
        6 => (n(), n(), n(), fan()).prop_map(|(a, b, c, f)| Op::Join(a, b, c, f)),
        16 => n().prop_map(Op::Ack),
        3 => n().prop_map(Op::Fail),
        18 => (n(), prop_oneof![30 => Just(false), 1 => Just(true)]).prop_map(|(a, twice)| Op::Arrive(a, twice)),
        4 => n().prop_map(Op::Look),
        4 => (n(), 0_u8..5).prop_map(|(a, after)| Op::Retry(a, after)),
        1 => n().prop_map(Op::Resolve),
        5 => (n(), fan()).prop_map(|(a, f)| Op::Due(a, f)),
        1 => n().prop_map(Op::Audit),
    ]
}

/// Random trees and joins, with everything that can go wrong.
pub fn follows_the_model(effort: Effort) -> Result<(), String> {
    for_all(effort, 3000, &vec(op(), 1..160), |ops| {
        let census = Census::begin();
        let mut world = World::new();
        for op in ops {
            world.apply(op)?;
            world.compare()?;
            census.check()?;
        }
        world.finish()?;
        census.end()
    })
}

/// What a test token stands for: nothing but itself.
type Nothing = ();

/// A delivery that somebody works on or holds.
struct InWork {
    in_hand: InHand,
    token: Token<Nothing>,
    /// Per root what its ack will say to the naive ledger: its own number and those of its children.
    said: BTreeMap<Tracking, BTreeSet<u64>>,
}

/// Task and attempt: the identity of an attempt, as far as the model knows.
type Tracking = (u32, u64);

enum Message {
    Ack(RootRef, u64, BTreeSet<u64>),
    Fail(RootRef),
}

struct Attempt {
    /// The naive ledger's set.
    outstanding: BTreeSet<u64>,
    /// Deliveries that are in flight or held.
    alive: usize,
    is_live: bool,
}

struct World {
    plan: Plan,
    outboxes: Vec<Outbox<Token<Nothing>>>,
    edges: Vec<EdgeIds>,
    ledgers: Vec<Ledger<Token<Nothing>>>,
    flying: Vec<Envelope<Token<Nothing>>>,
    work: Vec<InWork>,
    mail: Vec<Message>,
    failed: Vec<(TaskId, Slot)>,
    attempts: BTreeMap<Tracking, Attempt>,
    /// Per task: roots that are not resolved, and resolved ones whose news was not looked at.
    pending: [usize; TASKS],
    unseen: [usize; TASKS],
    dropped: [(u64, u64); TASKS],
    now: u64,
}

fn tracking(root: RootRef) -> Tracking {
    (root.task.0, root.attempt.bits())
}

fn plan() -> Plan {
    let component = |name: &str, is_spout, tasks, inputs: &[usize]| ComponentSpec {
        name: name.into(),
        is_spout,
        parallelism: 1,
        tasks,
        streams: vec![StreamSpec { name: "default".into(), width: 1, direct: false }],
        inputs: inputs
            .iter()
            .map(|from| InputSpec { component: *from, stream: "default".into(), grouping: Grouping::All })
            .collect(),
    };
    Plan::compile(&[component("spout", true, SPOUTS, &[]), component("bolt", false, BOLTS, &[0, 1])])
        .expect("two components that fit together")
}

impl World {
    fn new() -> Self {
        let plan = plan();
        let component = |task: usize| plan.task_component[task];
        Self {
            outboxes: (0..TASKS).map(|task| Outbox::new(&plan, component(task), |_| true)).collect(),
            edges: (0..TASKS).map(|task| EdgeIds::new(0x5eed << 32 | (task as u64) << 56)).collect(),
            ledgers: (0..TASKS).map(|_| Ledger::default()).collect(),
            plan,
            flying: Vec::new(),
            work: Vec::new(),
            mail: Vec::new(),
            failed: Vec::new(),
            attempts: BTreeMap::new(),
            pending: [0; TASKS],
            unseen: [0; TASKS],
            dropped: [(0, 0); TASKS],
            now: 0,
        }
    }

    fn apply(&mut self, op: Op) -> Result<(), String> {
        let pick = |n: u16, len: usize| (len > 0).then(|| usize::from(n) % len.max(1));
        match op {
            Op::Root(task, fan) => self.root(TaskId(u32::from(task) % TASKS as u32), fan)?,
            Op::Work(n) => pick(n, self.flying.len()).into_iter().for_each(|at| self.take_up(at)),
            Op::Lose(n) => pick(n, self.flying.len()).into_iter().for_each(|at| self.lose(at)),
            Op::Child(n, fan) => pick(n, self.work.len()).into_iter().for_each(|at| self.child(at, fan)),
            Op::Join(a, b, c, fan) => self.join(&[a, b, c], fan),
            Op::Ack(n) => pick(n, self.work.len()).into_iter().for_each(|at| self.ack(at)),
            Op::Fail(n) => pick(n, self.work.len()).into_iter().for_each(|at| self.fail(at)),
            Op::Arrive(n, twice) => {
                if let Some(at) = pick(n, self.mail.len()) {
                    self.arrive(at, twice)?;
                }
            }
            Op::Look(task) => self.look(usize::from(task) % TASKS)?,
            Op::Retry(n, after) => {
                if let Some(at) = pick(n, self.failed.len()) {
                    let (task, slot) = self.failed.swap_remove(at);
                    self.ledgers[task.index()].retry_at(slot, self.now + u64::from(after));
                }
            }
            Op::Resolve(n) => {
                if let Some(at) = pick(n, self.failed.len()) {
                    let (task, slot) = self.failed.swap_remove(at);
                    self.ledgers[task.index()].resolve(slot).retire();
                    self.pending[task.index()] -= 1;
                }
            }
            Op::Due(task, fan) => self.retry(TaskId(u32::from(task) % TASKS as u32), fan)?,
            Op::Audit(task) => self.audit(usize::from(task) % TASKS)?,
        }
        self.now += 1;
        Ok(())
    }

    /// Up to three targets out of a number below 27, the same one possibly several times.
    fn targets(fan: u8) -> Vec<TaskId> {
        let n = [0, 1, 1, 1, 2, 2, 2, 3, 3][usize::from(fan % 9)];
        (0..n).map(|i| TaskId(SPOUTS + (u32::from(fan) / 9 + i * u32::from(1 + fan % 2)) % BOLTS)).collect()
    }

    fn root(&mut self, task: TaskId, fan: u8) -> Result<(), String> {
        let targets = Self::targets(fan);
        let drawn: Vec<EdgeId> = targets.iter().map(|_| self.edges[task.index()].draw()).collect();
        let sum = drawn.iter().fold(0, |sum, edge| sum ^ edge.bits());
        let attempt = self.ledgers[task.index()]
            .begin(Token::new(()), sum, self.now)
            .map_err(|record| format!("the ledger gave {:?} back", record.retire()))?;
        self.pending[task.index()] += 1;
        self.attempt_began(task, attempt, &targets, &drawn)
    }

    fn retry(&mut self, task: TaskId, fan: u8) -> Result<(), String> {
        let Some(slot) = self.ledgers[task.index()].take_due(self.now) else {
            return Ok(());
        };
        let targets = Self::targets(fan);
        let drawn: Vec<EdgeId> = targets.iter().map(|_| self.edges[task.index()].draw()).collect();
        let sum = drawn.iter().fold(0, |sum, edge| sum ^ edge.bits());
        let attempt = self.ledgers[task.index()].reattempt(slot, sum, self.now);
        self.attempt_began(task, attempt, &targets, &drawn)
    }

    fn attempt_began(
        &mut self,
        task: TaskId,
        attempt: AttemptId,
        targets: &[TaskId],
        drawn: &[EdgeId],
    ) -> Result<(), String> {
        let root = RootRef { task, incarnation: Incarnation(0), attempt };
        let fresh = Attempt { outstanding: BTreeSet::new(), alive: 0, is_live: true };
        let before = self.attempts.insert(tracking(root), fresh);
        ensure(before.is_none(), || format!("task {task} uses the id of attempt {:#x} again", attempt.bits()))?;
        let head = Head { roots: Roots::One(root), attempt: 1, ..Head::default() };
        let sent = self.send(task, head, targets, Anchors::Root(drawn));
        let Some(model) = self.attempts.get_mut(&tracking(root)) else {
            return Err("the attempt is gone".into());
        };
        model.outstanding.extend(sent);
        if targets.is_empty() {
            model.is_live = false;
            self.pending[task.index()] -= 1;
            self.unseen[task.index()] += 1;
        }
        Ok(())
    }

    /// Emits, takes the deliveries out of the outbox again, and returns their numbers.
    fn send(&mut self, from: TaskId, head: Head, targets: &[TaskId], anchors: Anchors<'_, '_>) -> Vec<u64> {
        let stream = StreamId(self.plan.task_component[from.index()].0);
        let emission = Emission { payload: Token::new(()), head, stream, from, bytes: 1 };
        let outbox = &mut self.outboxes[from.index()];
        let (unused, _) =
            outbox.send(emission, targets, anchors, &mut self.edges[from.index()], Values::default(), Token::share);
        unused.into_iter().for_each(Token::retire);
        let first = self.flying.len();
        for task in SPOUTS..SPOUTS + BOLTS {
            self.flying.extend(outbox.take(TaskId(task)));
        }
        for envelope in &self.flying[first..] {
            for root in envelope.head.roots.as_slice() {
                if let Some(model) = self.attempts.get_mut(&tracking(*root)) {
                    model.alive += 1;
                }
            }
        }
        self.flying[first..].iter().map(|envelope| envelope.payload.serial).collect()
    }

    fn take_up(&mut self, at: usize) {
        let mut envelope = self.flying.swap_remove(at);
        let own = BTreeSet::from([envelope.payload.serial]);
        let said = envelope.head.roots.as_slice().iter().map(|root| (tracking(*root), own.clone())).collect();
        self.work.push(InWork { in_hand: InHand::of(&mut envelope), token: envelope.payload, said });
    }

    fn lose(&mut self, at: usize) {
        let envelope = self.flying.swap_remove(at);
        self.gone(envelope.head.roots.as_slice());
        envelope.payload.retire();
    }

    fn gone(&mut self, roots: &[RootRef]) {
        for root in roots {
            if let Some(model) = self.attempts.get_mut(&tracking(*root)) {
                model.alive -= 1;
            }
        }
    }

    fn child(&mut self, at: usize, fan: u8) {
        let mut parent = self.work.swap_remove(at);
        let from = TaskId(SPOUTS + u32::from(fan) % BOLTS);
        let head = parent.in_hand.child_head();
        let children = self.send(from, head, &Self::targets(fan), Anchors::One(&mut parent.in_hand));
        parent.said.values_mut().for_each(|said| said.extend(children.iter().copied()));
        self.work.push(parent);
    }

    /// `anchors=[…]` of up to three tuples; the same one named twice is one anchor, as the door sees to.
    fn join(&mut self, picks: &[u16], fan: u8) {
        if self.work.is_empty() {
            return;
        }
        let at: BTreeSet<usize> = picks.iter().map(|n| usize::from(*n) % self.work.len()).collect();
        let mut parents: Vec<InWork> = at.iter().rev().map(|at| self.work.swap_remove(*at)).collect();
        let from = TaskId(SPOUTS + u32::from(fan) % BOLTS);
        if let Ok(head) = join_heads(parents.iter().map(|parent| &parent.in_hand), 64) {
            let roots: Vec<Tracking> = head.roots.as_slice().iter().map(|root| tracking(*root)).collect();
            let mut anchors: Vec<&mut InHand> = parents.iter_mut().map(|parent| &mut parent.in_hand).collect();
            let children = self.send(from, head, &Self::targets(fan), Anchors::Many(&mut anchors));
            for root in roots {
                // To the naive ledger it is all one which of the anchors reports the children, as long as it is one.
                if let Some(said) = parents.iter_mut().find_map(|parent| parent.said.get_mut(&root)) {
                    said.extend(children.iter().copied());
                }
            }
        }
        self.work.extend(parents);
    }

    fn ack(&mut self, at: usize) {
        let done = self.work.swap_remove(at);
        let mail = &mut self.mail;
        done.in_hand.settle(|root, xor| {
            mail.push(Message::Ack(root, xor, done.said.get(&tracking(root)).cloned().unwrap_or_default()));
        });
        self.gone(done.in_hand.head.roots.as_slice());
        done.token.retire();
    }

    fn fail(&mut self, at: usize) {
        let done = self.work.swap_remove(at);
        self.mail.extend(done.in_hand.head.roots.as_slice().iter().map(|root| Message::Fail(*root)));
        self.gone(done.in_hand.head.roots.as_slice());
        done.token.retire();
    }

    fn arrive(&mut self, at: usize, twice: bool) -> Result<(), String> {
        let message = self.mail.swap_remove(at);
        match &message {
            Message::Ack(root, xor, said) => self.ack_arrives(*root, *xor, said)?,
            Message::Fail(root) => self.fail_arrives(*root, Reason::Failed)?,
        }
        if twice {
            self.mail.push(message);
        }
        Ok(())
    }

    fn ack_arrives(&mut self, root: RootRef, xor: u64, said: &BTreeSet<u64>) -> Result<(), String> {
        let task = root.task.index();
        let completed = self.ledgers[task].ack(root.attempt, xor, self.now);
        let Some(model) = self.attempts.get_mut(&tracking(root)).filter(|model| model.is_live) else {
            self.dropped[task].0 += 1;
            return ensure(!completed, || "an ack of an attempt that is over completed a root".into());
        };
        model.outstanding = model.outstanding.symmetric_difference(said).copied().collect();
        let expected = model.outstanding.is_empty();
        ensure(completed == expected, || {
            format!("completed {completed}, but the naive ledger still waits for {:?}", model.outstanding)
        })?;
        ensure(!completed || model.alive == 0, || format!("completed with {} deliveries about", model.alive))?;
        if completed {
            model.is_live = false;
            self.pending[task] -= 1;
            self.unseen[task] += 1;
        }
        Ok(())
    }

    fn fail_arrives(&mut self, root: RootRef, reason: Reason) -> Result<(), String> {
        let failure = Failure { reason, task: root.task, error: "".into(), retry: true };
        let is_news = self.ledgers[root.task.index()].fail(root.attempt, failure);
        let model = self.attempts.get_mut(&tracking(root)).filter(|model| model.is_live);
        ensure(is_news == model.is_some(), || format!("a fail is news: {is_news}"))?;
        match model {
            Some(model) => model.is_live = false,
            None => self.dropped[root.task.index()].1 += 1,
        }
        Ok(())
    }

    fn look(&mut self, task: usize) -> Result<(), String> {
        let mut news = Vec::new();
        self.ledgers[task].take_news(&mut news);
        for news in news {
            match news {
                News::Acked { record, attempt, .. } => {
                    record.retire();
                    self.unseen[task] = self.unseen[task].checked_sub(1).ok_or("a root was acked twice")?;
                    ensure(attempt > 0, || "an attempt has no number".into())?;
                }
                News::Failed { slot, failure } => {
                    let (_, attempt, _) = self.ledgers[task].record(slot);
                    ensure(attempt > 0 && failure.retry, || "a failure lost its record".into())?;
                    self.failed.push((TaskId(task as u32), slot));
                }
            }
        }
        Ok(())
    }

    fn audit(&mut self, task: usize) -> Result<(), String> {
        let lost: Vec<AttemptId> =
            self.ledgers[task].older_than(self.now.saturating_sub(40)).map(|(_, attempt)| attempt).collect();
        for attempt in lost {
            self.fail_arrives(
                RootRef { task: TaskId(task as u32), incarnation: Incarnation(0), attempt },
                Reason::Lost,
            )?;
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), String> {
        for (task, ledger) in self.ledgers.iter().enumerate() {
            let (pending, expected) = (ledger.pending(), self.pending[task]);
            ensure(pending == expected, || format!("task {task}: {pending} pending, expected {expected}"))?;
            let dropped = (ledger.dropped().acks, ledger.dropped().fails);
            ensure(dropped == self.dropped[task], || format!("task {task}: dropped {dropped:?}"))?;
            ensure(ledger.iter_pending().count() == expected, || format!("task {task}: a record is missing"))?;
        }
        Ok(())
    }

    /// Works on all there is, retries what failed, and audits what was lost, until every root is resolved.
    fn finish(&mut self) -> Result<(), String> {
        for round in 0_u16.. {
            while !self.flying.is_empty() {
                self.take_up(self.flying.len() / 2);
            }
            while !self.work.is_empty() {
                self.ack(self.work.len() / 2);
            }
            while !self.mail.is_empty() {
                self.arrive(self.mail.len() / 2, false)?;
            }
            for task in 0..TASKS {
                // All was heard: what is live still was lost.
                self.now += 100;
                self.audit(task)?;
                self.look(task)?;
                self.retry(TaskId(task as u32), 1)?;
            }
            while let Some((task, slot)) = self.failed.pop() {
                self.ledgers[task.index()].retry_at(slot, self.now);
            }
            self.compare()?;
            if self.pending.iter().all(|n| *n == 0) && self.flying.is_empty() {
                break;
            }
            ensure(round < 2000, || "roots stay pending for ever".into())?;
        }
        (0..TASKS).try_for_each(|task| self.look(task))?;
        ensure(self.unseen == [0; TASKS], || "an acked root was never told".into())
    }
}
