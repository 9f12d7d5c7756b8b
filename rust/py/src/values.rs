//! Small classes that users hold in their hands: `Tuple`, `To`, `Verdict`, `Failure`.
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::exceptions::{PyKeyError, PyIndexError, PyTypeError};

#[pyclass(frozen, module = "rainband._core")]
pub struct Tuple {
    #[pyo3(get)] values: Py<PyTuple>,
    #[pyo3(get)] fields: Py<PyTuple>,
    #[pyo3(get)] component: String,
    #[pyo3(get)] stream: String,
    #[pyo3(get)] task: u32,
    #[pyo3(get)] attempt: u32,
}
#[pymethods]
impl Tuple {
    #[new]
    #[pyo3(signature = (values, fields, component=String::new(), stream="default".to_string(), task=0, attempt=1))]
    fn new(values: Bound<'_, PyAny>, fields: Bound<'_, PyAny>, component: String, stream: String, task: u32, attempt: u32) -> PyResult<Self> {
        let py = values.py();
        let t = |v: Bound<'_, PyAny>| -> PyResult<Py<PyTuple>> { Ok(py.get_type::<PyTuple>().call1((v,))?.cast_into::<PyTuple>()?.unbind()) };
        Ok(Self { values: t(values)?, fields: t(fields)?, component, stream, task, attempt })
    }
    fn __len__(&self, py: Python<'_>) -> usize { self.values.bind(py).len() }
    fn __getitem__(&self, py: Python<'_>, key: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        if let Ok(i) = key.extract::<isize>() {
            let n = self.values.bind(py).len() as isize;
            let j = if i < 0 { i + n } else { i };
            if j < 0 || j >= n { return Err(PyIndexError::new_err("tuple index out of range")); }
            return Ok(self.values.bind(py).get_item(j as usize)?.unbind());
        }
        if let Ok(name) = key.extract::<String>() {
            for (i, f) in self.fields.bind(py).iter().enumerate() {
                if f.eq(&name)? { return Ok(self.values.bind(py).get_item(i)?.unbind()); }
            }
            return Err(PyKeyError::new_err(name));
        }
        Err(PyTypeError::new_err("a field is an index or a name"))
    }
}
#[pyclass(frozen, module = "rainband._core")]
pub struct To { #[pyo3(get)] stream: String, #[pyo3(get)] values: Py<PyTuple> }
#[pyfunction]
#[pyo3(signature = (stream, *values))]
pub fn to(stream: String, values: Py<PyTuple>) -> To { To { stream, values } }
#[pyclass(frozen, module = "rainband._core")]
pub struct Verdict { #[pyo3(get)] kind: String, #[pyo3(get)] after_s: Option<f64> }
#[pymethods]
impl Verdict { #[new] #[pyo3(signature = (kind, after_s=None))] fn new(kind: String, after_s: Option<f64>) -> Self { Self { kind, after_s } } }
#[pyclass(frozen, module = "rainband._core", get_all)]
pub struct Failure { reason: String, component: String, task: u32, attempt: u32, age_s: f64, error: String }
#[pymethods]
impl Failure {
    #[new]
    #[pyo3(signature = (*, reason, component="".to_string(), task=0, attempt=1, age_s=0.0, error="".to_string()))]
    fn new(reason: String, component: String, task: u32, attempt: u32, age_s: f64, error: String) -> Self { Self { reason, component, task, attempt, age_s, error } }
}
