//! What the asyncio loop of an `async` bolt (`aio.py`) needs of the engine: tuples to work on, a file descriptor that becomes
//! readable when there is news, and a call after each slice. The tasks' tuples are held until Python acks them.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::bolt_loop::{self, BoltTask};
use crate::shared::Shared;
use crate::turn::Seat;

/// Runs the loop that the runtime gave for the tasks of this executor.
pub fn run(py: Python<'_>, shared: &Arc<Shared>, seat: &Seat, tasks: &mut [BoltTask]) {
    bolt_loop::run(py, shared, seat, tasks);
}
