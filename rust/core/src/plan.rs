//! The compiled topology: components, tasks, executors, streams and who is subscribed to what, with every id dense. Made once
//! at the start and read by all; it does not change while a topology runs.
//!
//! Also here, because it is a property of the graph alone: which components form a cycle, and which edges of it are *back
//! edges* (to the same or an earlier component in definition order, within a cycle). A back edge never blocks its producer;
//! since all other edges inside a cycle go forward in definition order and edges between cycles cannot close a loop, producers
//! that wait for room never wait in a circle.

use std::ops::Range;

use crate::fault::{Fault, planted};
use crate::ids::{ComponentId, ExecutorId, TaskId};

/// How a subscriber's tasks share a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Round robin over a shuffled list; a task whose queue is full is passed over.
    Shuffle,
    /// By the key in these fields.
    Fields(Box<[u16]>),
    /// By the key in these fields, to the less used of two candidates.
    PartialKey(Box<[u16]>),
    /// To every task.
    All,
    /// To the lowest task.
    Global,
    /// As shuffle: the user does not care.
    None,
    /// To a task of the same worker if there is one, else as shuffle.
    LocalOrShuffle,
    /// To the task that the emitter names.
    Direct,
    /// By the user's object.
    Custom,
}

/// What a bolt asks for.
#[derive(Clone, Debug)]
pub struct InputSpec {
    /// The component it comes from, by position.
    pub component: usize,
    /// The name of that component's stream.
    pub stream: String,
    /// How it is shared.
    pub grouping: Grouping,
}

/// A declared output stream.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    /// Its name.
    pub name: String,
    /// How many fields its tuples have.
    pub width: usize,
    /// Whether only `emit(…, task=…)` delivers on it.
    pub direct: bool,
}

/// A component as the user defined it.
#[derive(Clone, Debug)]
pub struct ComponentSpec {
    /// Its name.
    pub name: String,
    /// Whether it is a spout.
    pub is_spout: bool,
    /// How many executors run it.
    pub parallelism: u32,
    /// How many instances it has; never fewer than executors.
    pub tasks: u32,
    /// What it emits.
    pub streams: Vec<StreamSpec>,
    /// What it receives.
    pub inputs: Vec<InputSpec>,
}

/// What cannot be compiled. `check()` of the Python side finds these first, with better texts; here they keep the core safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// A component without tasks or executors, or with fewer tasks than executors.
    BadParallelism(String),
    /// An input from a component that does not exist.
    UnknownComponent(String, usize),
    /// An input from a stream that does not exist.
    UnknownStream(String, String),
    /// A grouping by a field that the stream does not have.
    UnknownField(String, u16),
}

/// One subscription to a stream.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Who receives.
    pub component: ComponentId,
    /// How its tasks share.
    pub grouping: Grouping,
    /// Position of this input in the subscriber's list of inputs.
    pub input: usize,
}

/// A stream with its subscribers, in definition order.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Who emits on it.
    pub component: ComponentId,
    /// Its name.
    pub name: String,
    /// How many fields.
    pub width: usize,
    /// Direct emit only.
    pub direct: bool,
    /// Who receives.
    pub subscriptions: Vec<Subscription>,
}

/// A component with its dense ids.
#[derive(Clone, Debug)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Whether it is a spout.
    pub is_spout: bool,
    /// Its tasks, `start..end`.
    pub tasks: Range<u32>,
    /// Its executors, `start..end`.
    pub executors: Range<u32>,
    /// Its streams, in the order they were declared.
    pub streams: Range<u32>,
    /// The components it receives from, each once.
    pub producers: Vec<ComponentId>,
    /// The cycle it belongs to, if any: components of one cycle have the same number.
    pub cycle: Option<u32>,
}

/// The compiled topology.
///
/// ```
/// use rainband_core::ids::ComponentId;
/// use rainband_core::plan::{ComponentSpec, Grouping, InputSpec, Plan, StreamSpec};
///
/// let component = |name: &str, is_spout, tasks, inputs: &[usize]| ComponentSpec {
///     name: name.into(),
///     is_spout,
///     parallelism: 1,
///     tasks,
///     streams: vec![StreamSpec { name: "default".into(), width: 1, direct: false }],
///     inputs: inputs
///         .iter()
///         .map(|from| InputSpec { component: *from, stream: "default".into(), grouping: Grouping::Shuffle })
///         .collect(),
/// };
/// let plan = Plan::compile(&[component("numbers", true, 1, &[]), component("step", false, 2, &[0, 1])])?;
/// assert_eq!(plan.components[1].tasks, 1..3);
/// assert!(plan.is_back_edge(ComponentId(1), ComponentId(1)));
/// # Ok::<(), rainband_core::plan::PlanError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    /// In definition order.
    pub components: Vec<Component>,
    /// All streams, by component.
    pub streams: Vec<Stream>,
    /// Component of every task.
    pub task_component: Vec<ComponentId>,
    /// Executor of every task.
    pub task_executor: Vec<ExecutorId>,
    /// Component and tasks of every executor.
    pub executors: Vec<(ComponentId, Vec<TaskId>)>,
    /// How many cycles there are.
    pub cycles: u32,
}

impl Plan {
    /// Compiles `specs`.
    ///
    /// # Errors
    /// [`PlanError`] for the first thing that does not fit together.
    pub fn compile(specs: &[ComponentSpec]) -> Result<Self, PlanError> {
        let mut plan = Self {
            components: Vec::with_capacity(specs.len()),
            streams: Vec::new(),
            task_component: Vec::new(),
            task_executor: Vec::new(),
            executors: Vec::new(),
            cycles: 0,
        };
        for (at, spec) in specs.iter().enumerate() {
            plan.add_component(ComponentId(at as u32), spec)?;
        }
        for (at, spec) in specs.iter().enumerate() {
            plan.subscribe(ComponentId(at as u32), spec)?;
        }
        plan.find_cycles();
        Ok(plan)
    }

    fn add_component(&mut self, id: ComponentId, spec: &ComponentSpec) -> Result<(), PlanError> {
        if spec.parallelism == 0 || spec.tasks < spec.parallelism {
            return Err(PlanError::BadParallelism(spec.name.clone()));
        }
        let first_task = self.task_component.len() as u32;
        let first_executor = self.executors.len() as u32;
        let first_stream = self.streams.len() as u32;
        for n in 0..spec.parallelism {
            // Tasks are dealt out so that the shares differ by one at most: 5 tasks on 2 executors are 3 and 2.
            let tasks: Vec<TaskId> =
                (0..spec.tasks).filter(|t| t % spec.parallelism == n).map(|t| TaskId(first_task + t)).collect();
            self.executors.push((id, tasks));
        }
        for t in 0..spec.tasks {
            self.task_component.push(id);
            self.task_executor.push(ExecutorId(first_executor + t % spec.parallelism));
        }
        self.streams.extend(spec.streams.iter().map(|s| Stream {
            component: id,
            name: s.name.clone(),
            width: s.width,
            direct: s.direct,
            subscriptions: Vec::new(),
        }));
        self.components.push(Component {
            name: spec.name.clone(),
            is_spout: spec.is_spout,
            tasks: first_task..first_task + spec.tasks,
            executors: first_executor..first_executor + spec.parallelism,
            streams: first_stream..self.streams.len() as u32,
            producers: Vec::new(),
            cycle: None,
        });
        Ok(())
    }

    fn subscribe(&mut self, id: ComponentId, spec: &ComponentSpec) -> Result<(), PlanError> {
        for (at, input) in spec.inputs.iter().enumerate() {
            let Some(producer) = self.components.get(input.component) else {
                return Err(PlanError::UnknownComponent(spec.name.clone(), input.component));
            };
            let streams = producer.streams.start as usize..producer.streams.end as usize;
            let Some(stream) = self.streams[streams].iter_mut().find(|s| s.name == input.stream) else {
                return Err(PlanError::UnknownStream(spec.name.clone(), input.stream.clone()));
            };
            if let Grouping::Fields(fields) | Grouping::PartialKey(fields) = &input.grouping
                && let Some(field) = fields.iter().find(|f| usize::from(**f) >= stream.width)
            {
                return Err(PlanError::UnknownField(spec.name.clone(), *field));
            }
            stream.subscriptions.push(Subscription { component: id, grouping: input.grouping.clone(), input: at });
            let from = ComponentId(input.component as u32);
            let producers = &mut self.components[id.index()].producers;
            if !producers.contains(&from) {
                producers.push(from);
            }
        }
        Ok(())
    }

    fn find_cycles(&mut self) {
        let n = self.components.len();
        let reaches: Vec<Vec<bool>> = (0..n).map(|from| self.reachable(from)).collect();
        for (at, from_here) in reaches.iter().enumerate() {
            if !from_here[at] {
                continue;
            }
            let earlier = (0..at).find(|other| from_here[*other] && reaches[*other][at]);
            self.components[at].cycle = earlier.map_or_else(
                || {
                    self.cycles += 1;
                    Some(self.cycles - 1)
                },
                |other| self.components[other].cycle,
            );
        }
    }

    /// What is downstream of `from` over at least one edge.
    fn reachable(&self, from: usize) -> Vec<bool> {
        let mut seen = vec![false; self.components.len()];
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            for stream in
                &self.streams[self.components[at].streams.start as usize..self.components[at].streams.end as usize]
            {
                for subscription in &stream.subscriptions {
                    let to = subscription.component.index();
                    if !seen[to] {
                        seen[to] = true;
                        open.push(to);
                    }
                }
            }
        }
        seen
    }

    /// The component of `task`.
    pub fn component_of(&self, task: TaskId) -> &Component {
        &self.components[self.task_component[task.index()].index()]
    }

    /// Whether both belong to one cycle (or are one component that feeds itself).
    pub fn same_cycle(&self, a: ComponentId, b: ComponentId) -> bool {
        let cycle = self.components[a.index()].cycle;
        cycle.is_some() && cycle == self.components[b.index()].cycle
    }

    /// Whether an edge between these components never blocks its producer.
    pub fn is_back_edge(&self, from: ComponentId, to: ComponentId) -> bool {
        self.same_cycle(from, to) && to <= from && !(to == from && planted(Fault::SelfLoopBlocks))
    }

    /// The tasks of all components that receive from `component`, each once, in order.
    pub fn consumers(&self, component: ComponentId) -> Vec<TaskId> {
        let streams = &self.components[component.index()].streams;
        let mut to: Vec<ComponentId> = self.streams[streams.start as usize..streams.end as usize]
            .iter()
            .flat_map(|s| s.subscriptions.iter().map(|sub| sub.component))
            .collect();
        to.sort_unstable();
        to.dedup();
        to.into_iter().flat_map(|c| self.components[c.index()].tasks.clone().map(TaskId)).collect()
    }

    /// The tasks that send to `component`: those outside its cycle, and those inside.
    pub fn producers(&self, component: ComponentId) -> (Vec<TaskId>, Vec<TaskId>) {
        let tasks = |inside: bool| {
            self.components[component.index()]
                .producers
                .iter()
                .filter(|p| self.same_cycle(**p, component) == inside)
                .flat_map(|p| self.components[p.index()].tasks.clone().map(TaskId))
                .collect()
        };
        (tasks(false), tasks(true))
    }
}
