//! The door between Python and the core: the only code here that knows Python.
//!
//! A tuple's path in order: `emit_call` (the user's `emit`) → `collector` (1) → the core's emit, route, deliver, queue (2-4) →
//! `bolt_loop` (5) → `hand_over` (6) / `ack` → the core's ledger (7) → `service` → `spout_loop` (8).

mod ack;
mod affinity;
mod aio;
mod audit;
mod base;
mod bolt_loop;
mod call;
mod choose;
mod codec;
mod collector;
mod emit_call;
mod engine;
mod errors;
mod executor;
mod fork;
mod hand_over;
mod hang;
mod held;
mod home;
mod keys;
mod packing;
mod payload;
mod plan_dict;
mod remote;
mod roots;
mod service;
mod settings;
mod shared;
mod slots;
mod snapshot;
mod spout_loop;
mod stats;
mod task;
mod task_cell;
mod timer;
mod turn;
mod values;

use pyo3::prelude::*;

/// The engine of rainband. Users meet its classes through `rainband`.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::affinity::_free_core;
    #[pymodule_export]
    use crate::base::{BoltBase, SpoutBase};
    #[pymodule_export]
    use crate::codec::{_decode, _decode_parts, _encode, _encode_parts, _forget_types, Part};
    #[pymodule_export]
    use crate::engine::{Engine, Waker};
    #[pymodule_export]
    use crate::keys::{key_bytes, key_group, key_task};
    #[pymodule_export]
    use crate::slots::{read_slots, watch_parent};
    #[pymodule_export]
    use crate::values::{Failure, To, Tuple, Verdict, to};

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::refuse_subinterpreters()?;
        crate::emit_call::install(m.py())
    }
}

/// Executors attach to the main interpreter, and types are kept once for the process.
fn refuse_subinterpreters() -> PyResult<()> {
    // SAFETY: attached; both calls only return pointers, which are compared.
    let is_main = unsafe { pyo3::ffi::PyInterpreterState_Get() == PyInterpreterState_Main() };
    if is_main {
        return Ok(());
    }
    Err(pyo3::exceptions::PyImportError::new_err(
        "rainband does not run in subinterpreters; import it in the main interpreter",
    ))
}

unsafe extern "C" {
    /// Not among the bindings of `PyO3`; stable since Python 3.7.
    fn PyInterpreterState_Main() -> *mut pyo3::ffi::PyInterpreterState;
}
