//! Calling user code at the price of a Python call: the function behind a bound method, by vectorcall, with the values straight
//! from the payload.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// A callable kept for the life of its task. A bound method is kept as function and `self`, which saves the step between.
pub struct Callable {
    function: Py<PyAny>,
    this: Option<Py<PyAny>>,
}

/// Arguments of one call at most; more fields than this go through a heap buffer.
const INLINE: usize = 6;

impl Callable {
    pub fn new(callable: &Bound<'_, PyAny>) -> Self {
        let is_method = callable.py().import("types").and_then(|types| types.getattr("MethodType"));
        if is_method.is_ok_and(|method| callable.get_type().is(&method))
            && let (Ok(function), Ok(this)) = (callable.getattr("__func__"), callable.getattr("__self__"))
        {
            return Self { function: function.unbind(), this: Some(this.unbind()) };
        }
        Self { function: callable.clone().unbind(), this: None }
    }

    /// Calls with one positional argument.
    #[inline]
    pub fn call_with<'py>(&self, argument: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let this = self.this.as_ref().map_or(std::ptr::null_mut(), pyo3::Py::as_ptr);
        let mut arguments = [std::ptr::null_mut(), this, argument.as_ptr()];
        let has_this = usize::from(self.this.is_some());
        // SAFETY: slot 0 or the slot before the argument is scratch for the callee, what follows are live objects; a null result
        // means that an exception is set.
        unsafe {
            let result = ffi::PyObject_Vectorcall(
                self.function.as_ptr(),
                arguments.as_mut_ptr().add(2 - has_this),
                (1 + has_this) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                std::ptr::null_mut(),
            );
            Bound::from_owned_ptr_or_err(argument.py(), result)
        }
    }

    /// Calls without arguments.
    #[inline]
    pub fn call_bare<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let this = self.this.as_ref().map_or(std::ptr::null_mut(), pyo3::Py::as_ptr);
        let mut arguments = [std::ptr::null_mut(), this];
        let count = usize::from(self.this.is_some());
        // SAFETY: slot 0 is scratch for the callee, slot 1 a live object if it counts; a null result means that an exception is
        // set.
        unsafe {
            let result = ffi::PyObject_Vectorcall(
                self.function.as_ptr(),
                arguments.as_mut_ptr().add(1),
                count | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                std::ptr::null_mut(),
            );
            Bound::from_owned_ptr_or_err(py, result)
        }
    }

    /// Calls with `fill` writing `count` borrowed arguments, the last `kwnames.len()` of them by keyword.
    #[inline]
    pub fn call<'py>(
        &self,
        py: Python<'py>,
        count: usize,
        kwnames: Option<&Bound<'py, PyTuple>>,
        fill: impl FnOnce(&mut [*mut ffi::PyObject]),
    ) -> PyResult<Bound<'py, PyAny>> {
        if count > INLINE {
            let mut arguments = vec![std::ptr::null_mut(); count + 2];
            return self.call_in(py, &mut arguments, count, kwnames, fill);
        }
        let mut arguments = [std::ptr::null_mut(); INLINE + 2];
        self.call_in(py, &mut arguments, count, kwnames, fill)
    }

    #[inline]
    fn call_in<'py>(
        &self,
        py: Python<'py>,
        arguments: &mut [*mut ffi::PyObject],
        count: usize,
        kwnames: Option<&Bound<'py, PyTuple>>,
        fill: impl FnOnce(&mut [*mut ffi::PyObject]),
    ) -> PyResult<Bound<'py, PyAny>> {
        // Slot 0 is scratch for the callee (PY_VECTORCALL_ARGUMENTS_OFFSET), slot 1 is `self` if there is one.
        let first = if let Some(this) = &self.this {
            arguments[1] = this.as_ptr();
            2
        } else {
            1
        };
        fill(&mut arguments[first..first + count]);
        let keywords = kwnames.map_or(0, pyo3::types::PyTupleMethods::len);
        let positional = first - 1 + count - keywords;
        // SAFETY: `arguments[1..]` holds `positional + keywords` live objects, kept alive by `self` and by the caller of `fill`
        // for the time of the call; a null result means that an exception is set.
        unsafe {
            let result = ffi::PyObject_Vectorcall(
                self.function.as_ptr(),
                arguments.as_ptr().add(1),
                positional | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                kwnames.map_or(std::ptr::null_mut(), pyo3::Bound::as_ptr),
            );
            Bound::from_owned_ptr_or_err(py, result)
        }
    }
}

/// The next value of a generator, `None` at its end.
#[inline]
pub fn next_of<'py>(generator: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = generator.py();
    // SAFETY: the callers checked that it is an exact generator, whose type has `tp_iternext`.
    unsafe {
        let next = (*ffi::Py_TYPE(generator.as_ptr())).tp_iternext.expect("generators are iterators");
        let value = next(generator.as_ptr());
        if !value.is_null() {
            return Ok(Some(Bound::from_owned_ptr(py, value)));
        }
    }
    match PyErr::take(py) {
        Some(error) if !error.is_instance_of::<pyo3::exceptions::PyStopIteration>(py) => Err(error),
        _ => Ok(None),
    }
}

/// Whether `object` is exactly a generator.
#[inline]
pub fn is_generator(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object; only its type pointer is compared.
    unsafe { ffi::Py_TYPE(object.as_ptr()) == &raw mut ffi::PyGen_Type }
}
