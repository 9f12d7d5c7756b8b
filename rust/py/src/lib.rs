//! The door between Python and the core: the only code here that knows Python.
use pyo3::prelude::*;

pub mod values;

#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::values::{Failure, To, Tuple, Verdict, to};
    #[pymodule_export]
    use crate::skeleton::{BoltBase, SpoutBase};
}

pub mod skeleton {
    use pyo3::prelude::*;
    use pyo3::types::{PyDict, PyTuple};
    use std::sync::Mutex;

    macro_rules! base {
        ($name:ident, $prep:literal, [$($m:ident),*]) => {
            #[pyclass(subclass, frozen, module = "rainband._core")]
            pub struct $name { sink: Mutex<Option<Py<PyAny>>> }
            #[pymethods]
            impl $name {
                #[new]
                #[pyo3(signature = (*_args, **_kwargs))]
                fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self { Self { sink: Mutex::new(None) } }
                fn _attach(&self, sink: Option<Py<PyAny>>) { *self.sink.lock().unwrap() = sink; }
                $(
                #[pyo3(signature = (*args, **kwargs))]
                fn $m(&self, py: Python<'_>, args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Py<PyAny>> {
                    let sink = self.sink.lock().unwrap().as_ref().map(|s| s.clone_ref(py));
                    match sink {
                        Some(s) => s.getattr(py, stringify!($m))?.call(py, args, kwargs),
                        None => {
                            let err = py.import("rainband.errors")?.getattr("EmitError")?;
                            let text = format!("{}() before {}: the task is not attached to a running topology yet; emit from {} on", stringify!($m), $prep, $prep);
                            Err(PyErr::from_value(err.call1((text,))?))
                        }
                    }
                }
                )*
            }
        };
    }
    base!(SpoutBase, "open()", [emit, end]);
    base!(BoltBase, "prepare()", [emit, ack, fail, reset_timeout]);
}
