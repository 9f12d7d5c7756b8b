//! Emissions of the model: routed, split into deliveries, and entered into the truth about their roots.

use rainband_core::deliver::{Anchors, Emission, Values};
use rainband_core::emit::{InHand, join_heads};
use rainband_core::ids::{ComponentId, EdgeId, Incarnation, RootRef, StreamId, TaskId};
use rainband_core::ledger::{Reason, Slot};
use rainband_core::plan::Plan;
use rainband_core::queue::Queue;
use rainband_core::route::Chooser;
use rainband_core::tuple::{Head, Roots};

use super::super::bell::Bell;
use super::super::payload::Token;
use super::super::rng::Rng;
use super::task::{Body, Held, Record};
use super::{ENOUGH, World};

/// Answers the router; custom groupings choose up to two tasks.
struct Choices<'a> {
    plan: &'a Plan,
    queues: &'a [Queue<Token<Body>, Bell>],
    rng: &'a mut Rng,
}

impl Chooser<Token<Body>> for Choices<'_> {
    type Error = String;

    fn key_hash(&mut self, payload: &Token<Body>, _: &[u16]) -> Result<u64, String> {
        Ok(payload.body().key)
    }

    fn is_full(&mut self, task: TaskId) -> bool {
        self.queues[task.index()].is_full()
    }

    fn custom(
        &mut self,
        _: &Token<Body>,
        _: StreamId,
        component: ComponentId,
        targets: &mut Vec<TaskId>,
    ) -> Result<(), String> {
        let tasks = &self.plan.components[component.index()].tasks;
        for _ in 0..self.rng.below(3) {
            targets.push(TaskId(tasks.start + self.rng.below(tasks.len()) as u32));
        }
        Ok(())
    }
}

impl World {
    /// What comes of a tuple with so many `lives`: a number of children's lives.
    pub fn offspring(&mut self, task: TaskId, lives: usize) -> Vec<usize> {
        if lives == 0 || self.deliveries > ENOUGH {
            return Vec::new();
        }
        let n = self.rng.between(0, self.tasks[task.index()].character.fan_out);
        vec![lives - 1; n]
    }

    /// Emits for each of `lives`, anchored to all of `parents`, or untracked.
    pub fn emit_for(&mut self, task: TaskId, lives: &[usize], parents: &mut [Held]) -> Result<(), String> {
        for lives in lives {
            let untracked = self.tasks[task.index()].character.untracked;
            let (stream, token) = self.tuple(task, *lives);
            let targets = self.route(task, stream, &token)?;
            if parents.is_empty() || self.rng.chance(untracked) {
                self.send(task, stream, token, &targets, Head::default(), Anchors::None)?;
            } else if let [one] = parents {
                let head = one.in_hand.child_head();
                self.send(task, stream, token, &targets, head, Anchors::One(&mut one.in_hand))?;
            } else {
                let head =
                    join_heads(parents.iter().map(|held| &held.in_hand), 64).map_err(|error| format!("{error:?}"))?;
                let mut anchors: Vec<&mut InHand> = parents.iter_mut().map(|held| &mut held.in_hand).collect();
                self.send(task, stream, token, &targets, head, Anchors::Many(&mut anchors))?;
            }
        }
        Ok(())
    }

    /// A root of `task`'s own, on any of its streams, or on one that leaves its cycle.
    pub fn emit_root(&mut self, task: TaskId, is_last_word: bool) -> Result<(), String> {
        let lives = self.rng.between(1, 5);
        let (stream, token) = self.tuple(task, lives);
        let component = self.tasks[task.index()].component;
        let plan = &self.topology.plan;
        let stays_inside = plan.streams[stream.index()].subscriptions.iter();
        if is_last_word && stays_inside.clone().any(|s| plan.same_cycle(component, s.component)) {
            token.retire();
            return Ok(());
        }
        let record = self.record(task, token.share(), stream);
        let targets = self.route(task, stream, &token)?;
        let (drawn, sum) = self.draw(task, targets.len());
        let owner = &mut self.tasks[task.index()];
        owner.emitted += 1;
        let attempt = owner.ledger.begin(record, sum, self.now).map_err(|_| "the ledger is full")?;
        let root = RootRef { task, incarnation: Incarnation(0), attempt };
        let head = Head { roots: Roots::One(root), attempt: 1, ..Head::default() };
        self.send(task, stream, token, &targets, head, Anchors::Root(&drawn))?;
        self.hear_news(task)
    }

    /// Another attempt at the root in `slot`, routed anew.
    pub fn emit_again(&mut self, task: TaskId, slot: Slot) -> Result<(), String> {
        let owner = &mut self.tasks[task.index()];
        owner.emissions += 1;
        let emission = owner.emissions;
        let (record, attempts, _) = owner.ledger.record(slot);
        let (stream, body) = (record.stream, record.token.body());
        let token = Token::new(Body { emission, ..body });
        let targets = self.route(task, stream, &token)?;
        let (drawn, sum) = self.draw(task, targets.len());
        let attempt = self.tasks[task.index()].ledger.reattempt(slot, sum, self.now);
        let root = RootRef { task, incarnation: Incarnation(0), attempt };
        let head = Head { roots: Roots::One(root), attempt: attempts + 1, ..Head::default() };
        self.send(task, stream, token, &targets, head, Anchors::Root(&drawn))?;
        self.hear_news(task)
    }

    /// A back edge is full: its roots fail, its untracked tuples are given up.
    pub fn fail_what_is_too_much(&mut self, task: TaskId, target: TaskId) {
        for envelope in self.tasks[task.index()].outbox.take(target) {
            self.tasks[target.index()].on_the_way -= 1;
            self.fail_roots(task, envelope.head.roots.as_slice(), Reason::LoopFull, true);
            envelope.payload.retire();
        }
    }

    fn tuple(&mut self, task: TaskId, lives: usize) -> (StreamId, Token<Body>) {
        let owner = &mut self.tasks[task.index()];
        owner.emissions += 1;
        let streams = &self.topology.plan.components[owner.component.index()].streams;
        let stream = StreamId(streams.start + self.rng.below(streams.len()) as u32);
        (stream, Token::new(Body { emission: owner.emissions, lives, key: self.rng.bits() }))
    }

    fn record(&mut self, task: TaskId, token: Token<Body>, stream: StreamId) -> Record {
        let owner = &mut self.tasks[task.index()];
        if !owner.is_spout || !owner.character.has_positions {
            return Record { token, stream, ticket: rainband_core::frontier::Ticket::NONE, position: None };
        }
        let position = owner.next_position;
        owner.next_position += 1;
        owner.unresolved.insert(position);
        Record { token, stream, ticket: owner.frontier.enter(Token::new(position)), position: Some(position) }
    }

    fn draw(&mut self, task: TaskId, n: usize) -> (Vec<EdgeId>, u64) {
        let drawn: Vec<EdgeId> = (0..n).map(|_| self.tasks[task.index()].edges.draw()).collect();
        let sum = drawn.iter().fold(0, |sum, edge| sum ^ edge.bits());
        (drawn, sum)
    }

    fn route(&mut self, task: TaskId, stream: StreamId, token: &Token<Body>) -> Result<Vec<TaskId>, String> {
        let mut targets = Vec::new();
        let plan = &self.topology.plan;
        let router = &mut self.tasks[task.index()].router;
        if plan.streams[stream.index()].direct {
            let subscribers = plan.streams[stream.index()].subscriptions.iter();
            let tasks: Vec<u32> =
                subscribers.flat_map(|s| plan.components[s.component.index()].tasks.clone()).collect();
            if let Some(target) = tasks.get(self.rng.below(tasks.len())) {
                router.route_direct(stream, TaskId(*target), &mut targets);
            }
            return Ok(targets);
        }
        let mut choices = Choices { plan, queues: &self.queues, rng: &mut self.rng };
        router.route(stream, token, &mut choices, &mut targets)?;
        Ok(targets)
    }

    fn send(
        &mut self,
        from: TaskId,
        stream: StreamId,
        payload: Token<Body>,
        targets: &[TaskId],
        head: Head,
        anchors: Anchors<'_, '_>,
    ) -> Result<(), String> {
        self.deliveries += targets.len();
        for target in targets {
            self.tasks[target.index()].on_the_way += 1;
            let inside = self
                .topology
                .plan
                .same_cycle(self.tasks[from.index()].component, self.topology.plan.task_component[target.index()]);
            if inside && self.tasks[from.index()].ran_finish {
                return Err(format!("task {from} emits into its cycle after finish"));
            }
        }
        for root in head.roots.as_slice() {
            *self.alive.entry((root.task, root.attempt.bits())).or_default() += targets.len();
        }
        let bytes = self.rng.between(1, 5) as u32;
        let emission = Emission { payload, head, stream, from, bytes };
        let owner = &mut self.tasks[from.index()];
        let (unused, wants_flush) =
            owner.outbox.send(emission, targets, anchors, &mut owner.edges, Values::default(), Token::share);
        owner.wants_flush |= wants_flush;
        if let Some(token) = unused {
            token.retire();
        }
        Ok(())
    }
}
