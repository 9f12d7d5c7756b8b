//! Why a value does not travel, and why bytes are no value; the texts of both.

use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::errors;

/// Characters of a path on either side of what is left out.
const PATH_SHOWN: usize = 60;

/// Why a value does not travel. One word, as results of calls on the fast path are.
pub struct Refusal(Box<Reason>);

struct Reason {
    /// Steps from the outermost value to the refused one: `[2]["at"].name`.
    path: String,
    what: String,
    cause: Option<PyErr>,
}

pub type Done = Result<(), Refusal>;

impl Refusal {
    #[cold]
    pub fn new(what: String) -> Self {
        Self(Box::new(Reason { path: String::new(), what, cause: None }))
    }

    /// A value of a class that does not travel; `why` ends with what to do.
    #[cold]
    pub fn of_class(class: &Bound<'_, PyType>, why: &str) -> Self {
        Self::new(format!("type \"{}\" does not travel{why}", dotted_name(class)))
    }

    /// Code of the user or a library raised.
    #[cold]
    pub fn raised(py: Python<'_>, what: &str, error: PyErr) -> Self {
        let mut refusal = Self::new(format!("{what} raised {}", errors::text_of(py, &error)));
        refusal.0.cause = Some(error);
        refusal
    }

    /// The same, seen from one level further out.
    #[cold]
    pub fn inside(mut self, step: &str) -> Self {
        if self.0.path.len() < 1 << 16 {
            self.0.path.insert_str(0, step);
        }
        self
    }

    /// Whether this value itself does not travel, and not something in it, and no code has raised.
    pub fn is_of_the_value_itself(&self) -> bool {
        self.0.path.is_empty() && self.0.cause.is_none()
    }

    /// Path, type and what to do. The caller says in which component and field.
    pub fn text(&self) -> String {
        let Reason { path, what, .. } = &*self.0;
        if path.is_empty() {
            return what.clone();
        }
        let steps: Vec<char> = path.chars().collect();
        if steps.len() <= 2 * PATH_SHOWN {
            return format!("{path}: {what}");
        }
        let start: String = steps[..PATH_SHOWN].iter().collect();
        let end: String = steps[steps.len() - PATH_SHOWN..].iter().collect();
        format!("{start}…{end}: {what}")
    }

    /// As a `CodecError` with its cause.
    pub fn into_error(self, py: Python<'_>) -> PyErr {
        let error = errors::codec_error(py, self.text());
        error.set_cause(py, self.0.cause);
        error
    }
}

/// "decimal.Decimal", without the module for builtins.
pub fn dotted_name(class: &Bound<'_, PyType>) -> String {
    let name = class.qualname().map_or_else(|_| "?".to_string(), |name| name.to_string());
    match class.module() {
        Ok(module) if module != *"builtins" => format!("{module}.{name}"),
        _ => name,
    }
}

/// Why bytes are no value. One word, too.
pub struct Fault(Box<Cause>);

enum Cause {
    /// They are not what the codec writes; where, and what is wrong.
    Malformed { at: usize, what: String },
    /// What they say cannot be made: an exception of Python, `doing` what.
    Raised { at: usize, doing: String, error: PyErr },
    /// Already an error of ours, as said by `rainband.codec_types`.
    Said(PyErr),
}

pub type Read<T> = Result<T, Fault>;

impl Fault {
    #[cold]
    pub fn at(at: usize, what: impl Into<String>) -> Self {
        Self(Box::new(Cause::Malformed { at, what: what.into() }))
    }

    #[cold]
    pub fn raised(at: usize, doing: &str, error: PyErr) -> Self {
        Self(Box::new(Cause::Raised { at, doing: doing.to_string(), error }))
    }

    /// As a `CodecError`; interrupts and a lack of memory stay what they are.
    pub fn into_error(self, py: Python<'_>) -> PyErr {
        match *self.0 {
            Cause::Malformed { at, what } => errors::codec_error(py, format!("malformed value at byte {at}: {what}")),
            Cause::Raised { error, .. } if !is_plain(py, &error) => error,
            Cause::Raised { at, doing, error } => {
                let text = format!("malformed value at byte {at}: {doing} raised {}", errors::text_of(py, &error));
                let outer = errors::codec_error(py, text);
                outer.set_cause(py, Some(error));
                outer
            }
            Cause::Said(error) => error,
        }
    }

    /// What `rainband.codec_types` raised: its own text if it is a `CodecError`.
    #[cold]
    pub fn said(py: Python<'_>, at: usize, doing: &str, error: PyErr) -> Self {
        if errors::is_codec_error(py, &error) {
            return Self(Box::new(Cause::Said(error)));
        }
        Self::raised(at, doing, error)
    }
}

fn is_plain(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<pyo3::exceptions::PyException>(py)
        && !error.is_instance_of::<pyo3::exceptions::PyMemoryError>(py)
}
