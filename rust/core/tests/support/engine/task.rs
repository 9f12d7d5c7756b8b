//! What one task of the model owns, and the checks that look at it alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rainband_core::deliver::Outbox;
use rainband_core::emit::{EdgeIds, InHand};
use rainband_core::frontier::{Frontier, Ticket};
use rainband_core::ids::{ComponentId, RootRef, StreamId, TaskId};
use rainband_core::ledger::{Failure, Ledger};
use rainband_core::route::Router;
use rainband_core::signal::TaskEnd;
use rainband_core::tuple::Envelope;

use super::super::check::ensure;
use super::super::payload::Token;
use super::super::rng::Rng;
use super::super::topology::{Character, Topology};

/// The values of a tuple: what the model needs to decide and to check.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// Number of the emission at its task, for the order.
    pub emission: u64,
    /// How many generations may still come of it.
    pub lives: usize,
    /// Hash of its key.
    pub key: u64,
}

/// What a ledger needs to emit a root again.
#[derive(Debug)]
pub struct Record {
    pub token: Token<Body>,
    pub stream: StreamId,
    pub ticket: Ticket,
    pub position: Option<u64>,
}

/// What others say about a task's roots.
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
    /// For async: when its call returns.
    pub due: Option<u64>,
}

/// One task.
#[expect(clippy::struct_excessive_bools, reason = "each is a step that is taken once")]
#[derive(Debug)]
pub struct Task {
    pub id: TaskId,
    pub component: ComponentId,
    pub is_spout: bool,
    pub character: Character,
    pub router: Router,
    pub outbox: Outbox<Token<Body>>,
    pub edges: EdgeIds,
    pub ledger: Ledger<Record>,
    pub frontier: Frontier<Token<u64>>,
    pub end: TaskEnd,
    /// The batch that it works on, and what is to be released after it: tuples, their bytes, bytes of back edges.
    pub batch: VecDeque<Envelope<Token<Body>>>,
    pub to_release: (usize, u64, u64),
    pub held: Vec<Held>,
    pub mail: Vec<Mail>,
    pub wants_flush: bool,
    /// A spout called `end()`, and told itself that all its roots are resolved.
    pub has_ended: bool,
    pub has_resolved: bool,
    pub ran_finish: bool,
    pub roots_left: usize,
    pub ticks_left: usize,
    pub emissions: u64,
    pub done_inside: u64,
    /// Deliveries to this task that it has not begun to work on, wherever they are.
    pub on_the_way: usize,
    last_seen: BTreeMap<(TaskId, StreamId), u64>,
    pub emitted: usize,
    pub acked: usize,
    pub dead: usize,
    pub unresolved: BTreeSet<u64>,
    pub position: Option<u64>,
    pub next_position: u64,
}

impl Task {
    pub fn new(topology: &Topology, id: TaskId, run_key: u64) -> Self {
        let plan = &topology.plan;
        let component = plan.task_component[id.index()];
        let is_spout = plan.components[component.index()].is_spout;
        let character = topology.characters[component.index()];
        let inputs = if is_spout { vec![id] } else { plan.producers(component).0 };
        Self {
            id,
            component,
            is_spout,
            character,
            router: Router::new(plan, component, run_key ^ u64::from(id.0)),
            outbox: Outbox::new(plan, component, |_| true),
            edges: EdgeIds::new(Rng::new(run_key.wrapping_add(u64::from(id.0))).bits()),
            ledger: Ledger::default(),
            frontier: Frontier::default(),
            end: TaskEnd::new(&inputs),
            batch: VecDeque::new(),
            to_release: (0, 0, 0),
            held: Vec::new(),
            mail: Vec::new(),
            wants_flush: false,
            has_ended: false,
            has_resolved: false,
            ran_finish: false,
            roots_left: character.roots,
            ticks_left: character.ticks,
            emissions: 0,
            done_inside: 0,
            on_the_way: 0,
            last_seen: BTreeMap::new(),
            emitted: 0,
            acked: 0,
            dead: 0,
            unresolved: BTreeSet::new(),
            position: None,
            next_position: 0,
        }
    }

    /// When it has something to do that nobody wakes it for.
    pub fn next_due(&self) -> Option<u64> {
        self.held.iter().filter_map(|held| held.due).chain(self.ledger.next_due_ns()).min()
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

    /// ENGINE 4.5: emissions of one task on one stream come in order.
    pub fn check_order(&mut self, from: TaskId, stream: StreamId, emission: u64) -> Result<(), String> {
        let before = self.last_seen.insert((from, stream), emission).unwrap_or(0);
        ensure(before <= emission, || format!("task {}: {emission} of task {from} after {before}", self.id))
    }

    /// What must hold once the task is over.
    pub fn check_end(&self) -> Result<(), String> {
        ensure(self.ran_finish, || format!("task {} ended without finish", self.id))?;
        // Mail may be left: acks of attempts that failed in another branch.
        let left = self.held.len() + self.batch.len() + self.ledger.pending() + self.on_the_way;
        ensure(left == 0 && self.outbox.is_empty(), || format!("task {} ended with work left", self.id))?;
        ensure(self.frontier.is_empty() && self.unresolved.is_empty(), || "a position was not passed".into())?;
        let last = self.next_position.checked_sub(1);
        ensure(self.position == last, || format!("the position is {:?}, expected {last:?}", self.position))
    }

    /// In a line.
    pub fn describe(&self) -> String {
        format!(
            "of {:?}: {} emitted, {} acked, {} dead, {} held, {} in batch, {} on the way, outbox empty {}, {:?}",
            self.component,
            self.emitted,
            self.acked,
            self.dead,
            self.held.len(),
            self.batch.len(),
            self.on_the_way,
            self.outbox.is_empty(),
            self.end
        )
    }
}
