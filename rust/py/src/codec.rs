use bytes::Bytes;
use pyo3::prelude::*;
pub struct Refusal;
impl Refusal {
    pub fn text(&self) -> String {
        String::new()
    }
}
pub fn encode(
    _py: Python<'_>,
    _v: &Bound<'_, PyAny>,
    _o: &mut Vec<u8>,
    _b: &mut Vec<Bytes>,
) -> Result<(), Box<Refusal>> {
    Err(Box::new(Refusal))
}
pub fn decode<'py>(py: Python<'py>, _b: &[u8], _p: &[Bytes]) -> PyResult<Bound<'py, PyAny>> {
    Ok(py.None().into_bound(py))
}
