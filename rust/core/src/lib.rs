//! The engine of rainband without Python, sockets, clocks or threads.
//!
//! A tuple's path, a stage a file: [`emit`] (1) gives each delivery its edge id, [`route`] (2) chooses the tasks, [`deliver`]
//! (3) buffers per target, [`queue`] (4) holds what waits for a task, the door calls user code, and [`ledger`] (7) finds out
//! that a root's whole tree was acked. [`signal`] says when a task may flush, finish and end; [`plan`] is the compiled
//! topology that all of them read.
//!
//! Rules that hold everywhere in here:
//! - A payload `P` is opaque. It is never cloned (fan-out asks the caller for a share), never looked into (keys arrive as
//!   hashes) and never dropped: whatever the core discards goes back to its caller, because dropping a Python object may run
//!   user code.
//! - Every envelope has one owner. A refused push leaves the envelope with the one who pushed.
//! - Time is a `u64` of nanoseconds on any monotonic clock, random bits are arguments. Nothing here reads a clock.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod deliver;
pub mod emit;
pub mod fault;
pub mod frontier;
pub mod ids;
pub mod key;
pub mod ledger;
pub mod peer;
pub mod plan;
pub mod queue;
pub mod route;
pub mod signal;
pub mod sync;
pub mod tuple;
pub mod wire;
