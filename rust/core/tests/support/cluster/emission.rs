//! Emissions: routed, split into deliveries, encoded for other workers, and entered into the truth.

use rainband_core::deliver::{Anchors, Emission, Values};
use rainband_core::emit::{InHand, join_heads};
use rainband_core::fault::{Fault, planted};
use rainband_core::frontier::Ticket;
use rainband_core::ids::{ComponentId, EdgeId, RootRef, StreamId, TaskId};
use rainband_core::ledger::{Failure, Reason, Slot};
use rainband_core::peer::Links;
use rainband_core::plan::Plan;
use rainband_core::queue::Queue;
use rainband_core::route::Chooser;
use rainband_core::tuple::{Head, Roots};

use super::super::bell::Bell;
use super::super::payload::Token;
use super::super::rng::Rng;
use super::boss::Report;
use super::shared::Shared;
use super::task::{Body, Held, Record};
use super::worker::{Inboxes, Worker};

/// Deliveries of one run after which nobody emits for a tuple any more, so that cycles with fan-out stay small.
const ENOUGH: usize = 400;

/// Answers the router; custom groupings choose up to two tasks.
struct Choices<'a> {
    plan: &'a Plan,
    queues: &'a Inboxes,
    links: &'a Links<Bell, Bell>,
    rng: &'a mut Rng,
}

impl Chooser<Token<Body>> for Choices<'_> {
    type Error = String;

    fn key_hash(&mut self, payload: &Token<Body>, _: &[u16]) -> Result<u64, String> {
        Ok(payload.body().key)
    }

    fn is_full(&mut self, task: TaskId) -> bool {
        self.queues[task.index()].as_ref().map_or_else(|| self.links.is_full(task), Queue::is_full)
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

impl Worker {
    /// What comes of a tuple with so many `lives`: a number of children's lives.
    pub fn offspring(&mut self, cx: &mut Shared, task: TaskId, lives: usize) -> Vec<usize> {
        if lives == 0 || cx.truth.sent > ENOUGH {
            return Vec::new();
        }
        vec![lives - 1; cx.rng.between(0, self.task(task).character.fan_out)]
    }

    /// Emits for each of `lives`, anchored to all of `parents`, or untracked.
    pub fn emit_for(
        &mut self,
        cx: &mut Shared,
        task: TaskId,
        lives: &[usize],
        parents: &mut [Held],
    ) -> Result<(), String> {
        for lives in lives {
            let untracked = self.task(task).character.untracked;
            let (stream, token) = self.tuple(cx, task, *lives);
            let targets = self.route(cx, task, stream, &token)?;
            if parents.is_empty() || cx.rng.chance(untracked) {
                self.send(cx, task, stream, token, &targets, Head::default(), Anchors::None);
            } else if let [one] = parents {
                let head = one.in_hand.child_head();
                self.send(cx, task, stream, token, &targets, head, Anchors::One(&mut one.in_hand));
            } else {
                let head =
                    join_heads(parents.iter().map(|held| &held.in_hand), 64).map_err(|error| format!("{error:?}"))?;
                let mut anchors: Vec<&mut InHand> = parents.iter_mut().map(|held| &mut held.in_hand).collect();
                self.send(cx, task, stream, token, &targets, head, Anchors::Many(&mut anchors));
            }
        }
        Ok(())
    }

    /// A root of `task`'s own, on any of its streams, or on one that leaves its cycle.
    pub fn emit_root(&mut self, cx: &mut Shared, task: TaskId, is_last_word: bool) -> Result<(), String> {
        let lives = cx.rng.between(1, 5);
        let (stream, token) = self.tuple(cx, task, lives);
        let component = self.task(task).component;
        let plan = &cx.topology.plan;
        let mut subscriptions = plan.streams[stream.index()].subscriptions.iter();
        if is_last_word && subscriptions.any(|s| plan.same_cycle(component, s.component)) {
            token.retire();
            return Ok(());
        }
        let record = self.record(cx, task, token.share(), stream);
        let targets = self.route(cx, task, stream, &token)?;
        let (drawn, sum) = self.draw(task, targets.len());
        let (incarnation, now) = (self.me.incarnation, cx.now);
        let owner = self.task(task);
        owner.emitted += 1;
        let attempt = owner.ledger.begin(record, sum, now).map_err(|_| "the ledger is full")?;
        let root = RootRef { task, incarnation, attempt };
        let head = Head { roots: Roots::One(root), attempt: 1, ..Head::default() };
        self.send(cx, task, stream, token, &targets, head, Anchors::Root(&drawn));
        self.hear_news(cx, task)
    }

    /// Another attempt at the root in `slot`, routed anew.
    pub fn emit_again(&mut self, cx: &mut Shared, task: TaskId, slot: Slot) -> Result<(), String> {
        let (incarnation, now) = (self.me.incarnation, cx.now);
        let owner = self.task(task);
        owner.emissions += 1;
        let emission = owner.emissions;
        let (record, attempts, _) = owner.ledger.record(slot);
        let (stream, body) = (record.stream, record.token.body());
        let token = Token::new(Body { emission, ..body });
        let targets = self.route(cx, task, stream, &token)?;
        let (drawn, sum) = self.draw(task, targets.len());
        let attempt = self.task(task).ledger.reattempt(slot, sum, now);
        let root = RootRef { task, incarnation, attempt };
        let head = Head { roots: Roots::One(root), attempt: attempts + 1, ..Head::default() };
        self.send(cx, task, stream, token, &targets, head, Anchors::Root(&drawn));
        self.hear_news(cx, task)
    }

    /// A back edge is full: its roots fail, its untracked tuples are given up.
    pub fn fail_what_is_too_much(&mut self, cx: &Shared, task: TaskId, target: TaskId) {
        for envelope in self.task(task).outbox.take(target) {
            for root in envelope.head.roots.as_slice() {
                let failure = Failure { reason: Reason::LoopFull, task, error: "".into(), retry: true };
                self.tell_failure(cx, root, failure);
            }
            envelope.payload.retire();
        }
    }

    fn tuple(&mut self, cx: &mut Shared, task: TaskId, lives: usize) -> (StreamId, Token<Body>) {
        let owner = self.task(task);
        owner.emissions += 1;
        let streams = &cx.topology.plan.components[owner.component.index()].streams;
        let stream = StreamId(streams.start + cx.rng.below(streams.len()) as u32);
        (stream, Token::new(Body { emission: owner.emissions, lives, key: cx.rng.bits() }))
    }

    /// The record of a root; for a spout the next one of its source.
    fn record(&mut self, cx: &mut Shared, task: TaskId, token: Token<Body>, stream: StreamId) -> Record {
        let owner = self.task(task);
        let source = &mut cx.truth.sources[task.index()];
        if !owner.is_spout {
            return Record { token, stream, ticket: Ticket::NONE, number: None };
        }
        if !source.has_positions {
            source.next += 1;
            return Record { token, stream, ticket: Ticket::NONE, number: Some(source.next - 1) };
        }
        let number = owner.next_number;
        owner.next_number += 1;
        if planted(Fault::StoredTooFar) {
            cx.reports.push(Report::Position(task, number));
        }
        Record { token, stream, ticket: owner.frontier.enter(Token::new(number)), number: Some(number) }
    }

    fn draw(&mut self, task: TaskId, n: usize) -> (Vec<EdgeId>, u64) {
        let edges = &mut self.task(task).edges;
        let drawn: Vec<EdgeId> = (0..n).map(|_| edges.draw()).collect();
        let sum = drawn.iter().fold(0, |sum, edge| sum ^ edge.bits());
        (drawn, sum)
    }

    fn route(
        &mut self,
        cx: &mut Shared,
        task: TaskId,
        stream: StreamId,
        token: &Token<Body>,
    ) -> Result<Vec<TaskId>, String> {
        let mut targets = Vec::new();
        let plan = &cx.topology.plan;
        let router = &mut self.tasks[task.index()].as_mut().expect("it is of this worker").router;
        if plan.streams[stream.index()].direct {
            let subscribers = plan.streams[stream.index()].subscriptions.iter();
            let tasks: Vec<u32> =
                subscribers.flat_map(|s| plan.components[s.component.index()].tasks.clone()).collect();
            if let Some(target) = tasks.get(cx.rng.below(tasks.len())) {
                router.route_direct(stream, TaskId(*target), &mut targets);
            }
            return Ok(targets);
        }
        let mut choices = Choices { plan, queues: &self.queues, links: &self.links, rng: &mut cx.rng };
        router.route(stream, token, &mut choices, &mut targets)?;
        Ok(targets)
    }

    #[expect(clippy::too_many_arguments, reason = "an emission with all that belongs to it")]
    fn send(
        &mut self,
        cx: &mut Shared,
        from: TaskId,
        stream: StreamId,
        payload: Token<Body>,
        targets: &[TaskId],
        head: Head,
        anchors: Anchors<'_, '_>,
    ) {
        let body = payload.body();
        for target in targets {
            cx.truth.sends(from, self.me.incarnation, body.emission, *target);
        }
        for root in head.roots.as_slice() {
            *cx.truth.open.entry(*root).or_default() += targets.len() as u32;
        }
        let bytes = cx.rng.between(1, 5) as u32;
        let emission = Emission { payload, head, stream, from, bytes };
        let encoded = body.encode();
        let values = Values { bytes: &encoded, blobs: &[] };
        let owner = self.task(from);
        let (unused, wants_flush) =
            owner.outbox.send(emission, targets, anchors, &mut owner.edges, values, Token::share);
        owner.wants_flush |= wants_flush;
        if let Some(token) = unused {
            token.retire();
        }
    }
}
