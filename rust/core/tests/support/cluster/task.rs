//! What one task of one process owns.

use std::collections::{BTreeMap, VecDeque};

use rainband_core::deliver::Outbox;
use rainband_core::emit::{EdgeIds, InHand};
use rainband_core::frontier::{Frontier, Ticket};
use rainband_core::ids::{ComponentId, RootRef, StreamId, TaskId};
use rainband_core::ledger::{Failure, Ledger, Mark};
use rainband_core::queue::Frame;
use rainband_core::route::Router;
use rainband_core::signal::TaskEnd;
use rainband_core::tuple::Envelope;
use rainband_core::wire::End;

use super::super::check::ensure;
use super::super::payload::Token;
use super::super::rng::Rng;
use super::super::topology::Character;
use super::shared::Shared;

/// The values of a tuple.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// Number of the emission at its task, for the order.
    pub emission: u64,
    /// How many generations may still come of it.
    pub lives: usize,
    /// Hash of its key.
    pub key: u64,
}

impl Body {
    pub fn encode(self) -> [u8; 17] {
        let mut bytes = [self.lives as u8; 17];
        bytes[..8].copy_from_slice(&self.emission.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.key.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 17] = bytes.try_into().ok()?;
        let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Some(Self { emission: half(0), lives: usize::from(bytes[16]), key: half(8) })
    }
}

/// What a ledger needs to emit a root again.
#[derive(Debug)]
pub struct Record {
    pub token: Token<Body>,
    pub stream: StreamId,
    pub ticket: Ticket,
    /// Which record of the source it is.
    pub number: Option<u64>,
}

/// What is said about a task's roots.
#[derive(Debug)]
pub enum Mail {
    Ack(RootRef, u64),
    Fail(RootRef, Failure),
}

/// A tuple that was processed and not let go.
#[derive(Debug)]
pub struct Held {
    pub in_hand: InHand,
    pub token: Token<Body>,
    /// When its call returns, or it times out.
    pub due: u64,
    pub is_call: bool,
}

/// What it works on: a batch of this worker, or a frame from another.
#[derive(Debug)]
pub enum Desk {
    Batch(VecDeque<Envelope<Token<Body>>>),
    Frame(Box<Frame>),
}

/// One task.
#[expect(clippy::struct_excessive_bools, reason = "each is a step that is taken once")]
pub struct Task {
    pub id: TaskId,
    pub component: ComponentId,
    pub is_spout: bool,
    pub character: Character,
    pub router: Router,
    pub outbox: Outbox<Token<Body>>,
    pub edges: EdgeIds,
    pub ledger: Ledger<Record>,
    pub mark: Option<Mark>,
    pub frontier: Frontier<Token<u64>>,
    pub end: TaskEnd,
    /// It ended in an earlier process.
    pub was_over: bool,
    pub desk: Option<Desk>,
    /// What is to be released once the desk is empty: tuples, their bytes, bytes of back edges.
    pub to_release: (usize, u64, u64),
    pub held: Vec<Held>,
    pub mail: Vec<Mail>,
    /// Acks for tasks elsewhere that were not handed over yet.
    pub acks: BTreeMap<TaskId, Vec<(RootRef, u64)>>,
    pub wants_flush: bool,
    /// A spout called `end()`, and told itself that all its roots are resolved.
    pub has_ended: bool,
    pub has_resolved: bool,
    pub ran_finish: bool,
    pub ticks_left: usize,
    pub emissions: u64,
    pub done_inside: u64,
    pub emitted: usize,
    pub acked: usize,
    pub dead: usize,
    pub next_number: u64,
}

impl Task {
    pub fn new(cx: &Shared, id: TaskId, me: End, stored: Option<u64>, was_over: bool) -> Self {
        let plan = &cx.topology.plan;
        let component = plan.task_component[id.index()];
        let is_spout = plan.components[component.index()].is_spout;
        let character = cx.topology.characters[component.index()];
        let inputs = if is_spout { vec![id] } else { plan.producers(component).0 };
        let is_here = |task: TaskId| cx.placement[task.index()] == me.worker;
        let key = cx.run_key ^ u64::from(id.0) << 32 ^ u64::from(me.incarnation.0);
        Self {
            id,
            component,
            is_spout,
            character,
            router: Router::new(plan, component, key),
            outbox: Outbox::new(plan, component, is_here),
            edges: EdgeIds::new(Rng::new(key).bits()),
            ledger: Ledger::default(),
            mark: None,
            frontier: Frontier::default(),
            end: TaskEnd::new(&inputs),
            was_over,
            desk: None,
            to_release: (0, 0, 0),
            held: Vec::new(),
            mail: Vec::new(),
            acks: BTreeMap::new(),
            wants_flush: false,
            has_ended: false,
            has_resolved: false,
            ran_finish: false,
            ticks_left: character.ticks,
            emissions: 0,
            done_inside: 0,
            emitted: 0,
            acked: 0,
            dead: 0,
            next_number: stored.map_or(0, |stored| stored + 1),
        }
    }

    pub fn is_over(&self) -> bool {
        self.was_over || self.end.is_over()
    }

    /// When it has something to do that nobody wakes it for.
    pub fn next_due(&self) -> Option<u64> {
        self.held.iter().map(|held| held.due).chain(self.ledger.next_due_ns()).min()
    }

    /// ENGINE 1.1.
    pub fn check_account(&self) -> Result<(), String> {
        let pending = self.ledger.pending();
        ensure(self.emitted == self.acked + self.dead + pending, || {
            format!(
                "task {}: {} emitted, {} acked, {} dead, {pending} pending",
                self.id, self.emitted, self.acked, self.dead
            )
        })
    }

    /// What must hold once the task is over.
    pub fn check_end(&self) -> Result<(), String> {
        if self.was_over {
            return Ok(());
        }
        ensure(self.ran_finish, || format!("task {} ended without finish", self.id))?;
        let left = self.held.len() + self.ledger.pending() + usize::from(self.desk.is_some());
        ensure(left == 0 && self.outbox.is_empty(), || format!("task {} ended with work left", self.id))?;
        ensure(self.frontier.is_empty(), || "a position was not passed".into())
    }

    /// In a line.
    pub fn describe(&self) -> String {
        format!(
            "task {} of {:?}: {} emitted, {} acked, {} dead, {} held, {} letters, outbox empty {}, was over {}, {:?}",
            self.id,
            self.component,
            self.emitted,
            self.acked,
            self.dead,
            self.held.len(),
            self.mail.len(),
            self.outbox.is_empty(),
            self.was_over,
            self.end
        )
    }
}
