//! The door between Python and the core: the only code here that knows Python.
//!
//! A tuple's path in order: `base` (the user's `emit`) → `collector` (1, 6) → the core's emit, route, deliver, queue (2-4) →
//! `bolt_loop` (5) → `collector` / `ack` → the core's ledger (7) → `service` → `spout_loop` (8).

mod ack;
mod affinity;
mod aio;
mod base;
mod bolt_loop;
mod call;
mod collector;
mod engine;
mod errors;
mod executor;
mod fork;
mod held;
mod keys;
mod payload;
mod roots;
mod service;
mod settings;
mod shared;
mod snapshot;
mod spout_loop;
mod stats;
mod task;
mod timer;
mod turn;
mod values;

use pyo3::prelude::*;

/// The engine of rainband. Users meet its classes through `rainband`.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::base::{BoltBase, SpoutBase};
    #[pymodule_export]
    use crate::engine::{Engine, Waker};
    #[pymodule_export]
    use crate::keys::{key_bytes, key_group, key_task};
    #[pymodule_export]
    use crate::values::{Failure, To, Tuple, Verdict, to};

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::base::install(m.py())
    }
}
