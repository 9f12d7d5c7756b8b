//! Stage 2 of 8: which tasks receive a tuple. Called by the collector after the values were checked, calls nothing but the
//! caller's [`Chooser`] for what only the caller knows: hashes of keys, full queues, the user's own grouping.
//!
//! One [`Router`] a task; it is used by that task's thread alone and keeps the round-robin places and the use counts of its
//! subscriptions. Conservation: per subscription one target for shuffle, fields, partial key, global, none, local-or-shuffle,
//! all tasks for all, at most one for direct, whatever the user says for custom.
//!
//! Partial key: Nasir et al., "The power of both choices" (ICDE 2015): two candidate tasks a key, the one that this router
//! has used less. Example of fields with 3 tasks: group 4095 → 4095 · 3 / 4096 = task index 2.

use crate::emit::mix;
use crate::fault::{Fault, planted};
use crate::ids::{ComponentId, StreamId, TaskId};
use crate::key;
use crate::plan::{Grouping, Plan};

/// What the router asks its caller.
pub trait Chooser<P> {
    /// Why a question could not be answered; the emission fails with it.
    type Error;
    /// The hash of the key in `fields`.
    ///
    /// # Errors
    /// If a value is of a type that is no key.
    fn key_hash(&mut self, payload: &P, fields: &[u16]) -> Result<u64, Self::Error>;
    /// Whether `fields` hold a key at all, asked instead of the hash where one task takes every key.
    ///
    /// # Errors
    /// As [`Chooser::key_hash`], which this calls unless the caller knows something faster.
    fn check_key(&mut self, payload: &P, fields: &[u16]) -> Result<(), Self::Error> {
        self.key_hash(payload, fields).map(drop)
    }
    /// Whether shuffle should pass over `task` because its queue is full.
    fn is_full(&mut self, task: TaskId) -> bool;
    /// The tasks that the custom grouping of subscriber `component` chose for a tuple on `stream`; pushed onto `targets`.
    ///
    /// # Errors
    /// If the user's object raises, or names a task that is not one of the subscriber's.
    fn custom(
        &mut self,
        payload: &P,
        stream: StreamId,
        component: ComponentId,
        targets: &mut Vec<TaskId>,
    ) -> Result<(), Self::Error>;
}

#[derive(Debug)]
struct Route {
    grouping: Grouping,
    component: ComponentId,
    tasks: Vec<TaskId>,
    /// For shuffles: the next place. For partial key: nothing.
    next: usize,
    /// For partial key: how often each task was used.
    used: Vec<u64>,
}

/// Where the tuples of one task go.
#[derive(Debug)]
pub struct Router {
    first_stream: u32,
    streams: Vec<Vec<Route>>,
    ways: Vec<Option<Way>>,
}

/// How each tuple of a stream finds the only task that it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is the same for all.
    Task {
        /// That one.
        task: TaskId,
        /// Whether the values must hold a key all the same ([`Chooser::check_key`]).
        needs_key: bool,
    },
    /// By the hash of its first field: [`Router::task_of_key`].
    FirstField,
}

impl Router {
    /// The router of one task of `component`. `seed` shuffles the lists, so that the tasks of a component do not all begin with
    /// the same target.
    pub fn new(plan: &Plan, component: ComponentId, seed: u64) -> Self {
        let streams = plan.components[component.index()].streams.clone();
        let routes = |stream: u32| {
            plan.streams[stream as usize]
                .subscriptions
                .iter()
                .enumerate()
                .map(|(at, subscription)| {
                    let mut tasks: Vec<TaskId> =
                        plan.components[subscription.component.index()].tasks.clone().map(TaskId).collect();
                    if matches!(subscription.grouping, Grouping::Shuffle | Grouping::None | Grouping::LocalOrShuffle) {
                        shuffle(&mut tasks, seed ^ mix(u64::from(stream) << 32 | at as u64));
                    }
                    Route {
                        grouping: subscription.grouping.clone(),
                        component: subscription.component,
                        used: vec![0; tasks.len()],
                        tasks,
                        next: 0,
                    }
                })
                .collect()
        };
        let first_stream = streams.start;
        let streams: Vec<Vec<Route>> = streams.map(routes).collect();
        let ways = streams.iter().map(|routes| way(routes)).collect();
        Self { first_stream, streams, ways }
    }

    /// Tells which tasks are of this worker: those of `local_or_shuffle` get its tuples alone, if there are any.
    pub fn keep_local(&mut self, is_here: impl Fn(TaskId) -> bool) {
        for route in self.streams.iter_mut().flatten().filter(|r| r.grouping == Grouping::LocalOrShuffle) {
            if route.tasks.iter().any(|task| is_here(*task)) {
                route.tasks.retain(|task| is_here(*task));
            }
        }
        self.ways = self.streams.iter().map(|routes| way(routes)).collect();
    }

    /// Writes to `targets` the tasks that a tuple on `stream` goes to, one entry a delivery.
    ///
    /// # Errors
    /// What the chooser could not answer.
    #[inline]
    pub fn route<P, C: Chooser<P>>(
        &mut self,
        stream: StreamId,
        payload: &P,
        chooser: &mut C,
        targets: &mut Vec<TaskId>,
    ) -> Result<(), C::Error> {
        for route in &mut self.streams[(stream.0 - self.first_stream) as usize] {
            route.choose(stream, payload, chooser, targets)?;
        }
        Ok(())
    }

    /// The short way of the tuples on `stream`, if they have one: a single subscription, by a component of one task or by one key.
    #[inline]
    pub fn way(&self, stream: StreamId) -> Option<Way> {
        self.ways[(stream.0 - self.first_stream) as usize]
    }

    /// The target on `stream`, whose way is [`Way::FirstField`], of a tuple whose key has this hash.
    #[inline]
    pub fn task_of_key(&self, stream: StreamId, hash: u64) -> TaskId {
        let tasks = &self.streams[(stream.0 - self.first_stream) as usize][0].tasks;
        tasks[key::task_of(key::group_of(hash), tasks.len())]
    }

    /// Writes to `targets` the delivery of a direct emit to `task`. Returns whether a subscriber has that task.
    pub fn route_direct(&self, stream: StreamId, task: TaskId, targets: &mut Vec<TaskId>) -> bool {
        let routes = &self.streams[(stream.0 - self.first_stream) as usize];
        let hits = routes.iter().filter(|r| r.grouping == Grouping::Direct && r.tasks.contains(&task));
        let before = targets.len();
        targets.extend(hits.map(|_| task));
        targets.len() > before
    }
}

impl Route {
    fn choose<P, C: Chooser<P>>(
        &mut self,
        stream: StreamId,
        payload: &P,
        chooser: &mut C,
        targets: &mut Vec<TaskId>,
    ) -> Result<(), C::Error> {
        match &self.grouping {
            Grouping::Shuffle | Grouping::None | Grouping::LocalOrShuffle => targets.push(self.round_robin(chooser)),
            Grouping::Fields(_) if self.tasks.len() == 1 && !planted(Fault::FieldsByRemainder) => {
                // One task takes every key, but a value that is no key must fail here as it does with two.
                if let Grouping::Fields(fields) = &self.grouping {
                    chooser.check_key(payload, fields)?;
                }
                targets.push(self.tasks[0]);
            }
            Grouping::Fields(fields) => {
                let hash = chooser.key_hash(payload, fields)?;
                targets.push(self.tasks[key::task_of(key::group_of(hash), self.tasks.len())]);
            }
            Grouping::PartialKey(fields) => {
                let hash = chooser.key_hash(payload, fields)?;
                let (a, b) = candidates(hash, self.tasks.len());
                let at = if self.used[b] < self.used[a] && !planted(Fault::OneCandidate) { b } else { a };
                self.used[at] += 1;
                targets.push(self.tasks[at]);
            }
            Grouping::All => {
                let skip = usize::from(planted(Fault::AllSkipsLast));
                targets.extend_from_slice(&self.tasks[..self.tasks.len() - skip]);
            }
            Grouping::Global => targets.push(self.tasks[0]),
            Grouping::Direct => {}
            Grouping::Custom => chooser.custom(payload, stream, self.component, targets)?,
        }
        Ok(())
    }

    fn round_robin<P, C: Chooser<P>>(&mut self, chooser: &mut C) -> TaskId {
        let n = self.tasks.len();
        if n == 1 {
            return self.tasks[0];
        }
        let start = self.next;
        let mut at = start;
        while chooser.is_full(self.tasks[at]) {
            at = if at + 1 == n { 0 } else { at + 1 };
            if at == start {
                break; // All are full: wait for the one whose turn it is.
            }
        }
        if !planted(Fault::ShuffleSticks) {
            self.next = if at + 1 == n { 0 } else { at + 1 };
        }
        self.tasks[at]
    }
}

fn way(routes: &[Route]) -> Option<Way> {
    let [route] = routes else { return None };
    match (&route.grouping, &route.tasks[..]) {
        (Grouping::Direct | Grouping::Custom | Grouping::PartialKey(_), _) => None,
        (Grouping::Fields(_), [task]) => Some(Way::Task { task: *task, needs_key: true }),
        (Grouping::Fields(fields), _) if fields[..] == [0] => Some(Way::FirstField),
        (_, [task]) => Some(Way::Task { task: *task, needs_key: false }),
        _ => None,
    }
}

/// The two candidates of a key for partial key grouping, as indexes among `n` tasks; the same only if `n` is 1.
pub fn candidates(hash: u64, n: usize) -> (usize, usize) {
    let a = key::task_of(key::group_of(hash), n);
    if n == 1 {
        return (0, 0);
    }
    let step = (mix(hash) % (n as u64 - 1)) as usize + 1;
    (a, (a + step) % n)
}

/// Fisher-Yates with the mixer as source.
fn shuffle(tasks: &mut [TaskId], seed: u64) {
    for i in (1..tasks.len()).rev() {
        let j = (mix(seed.wrapping_add(i as u64)) % (i as u64 + 1)) as usize;
        tasks.swap(i, j);
    }
}
