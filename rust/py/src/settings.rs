//! The configuration as the core wants it: durations in nanoseconds, sizes checked. Read once from the plan dict. Defaults
//! stand only in `config.py`; a missing key is an error of ours.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Keys of the whole topology.
#[derive(Debug, Clone)]
pub struct Settings {
    pub max_hops: u32,
    pub audit_ns: u64,
    pub checked: bool,
    pub link_bytes: u64,
}

/// What happens after an exception in user code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    Fail,
    Restart,
    Stop,
}

/// Keys of one component.
#[derive(Debug, Clone)]
pub struct ComponentSettings {
    pub queue_capacity: usize,
    pub queue_bytes: u64,
    pub loop_bytes: u64,
    pub max_pending: usize,
    pub max_attempts: u32,
    pub retry_backoff_ns: u64,
    pub retry_backoff_max_ns: u64,
    pub ack_timeout_ns: u64,
    pub execute_timeout_ns: u64,
    pub max_anchors: usize,
    pub tick_interval_ns: Option<u64>,
    pub on_error: OnError,
    pub restart_limit: u32,
}

fn get<'py>(dict: &Bound<'py, PyDict>, key: &str) -> PyResult<Bound<'py, PyAny>> {
    dict.get_item(key)?.ok_or_else(|| crate::errors::internal(format!("the plan's config has no key {key:?}")))
}

fn nanoseconds(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    Ok((value.extract::<f64>()? * 1e9).clamp(1.0, 9e18) as u64)
}

impl Settings {
    pub fn read(dict: &Bound<'_, PyDict>) -> PyResult<Self> {
        Ok(Self {
            max_hops: get(dict, "max_hops")?.extract()?,
            audit_ns: nanoseconds(&get(dict, "audit_s")?)?,
            checked: get(dict, "checked")?.extract()?,
            link_bytes: get(dict, "link_bytes")?.extract()?,
        })
    }
}

impl ComponentSettings {
    pub fn read(dict: &Bound<'_, PyDict>) -> PyResult<Self> {
        let tick = match dict.get_item("tick_interval_s")? {
            Some(value) if !value.is_none() => Some(nanoseconds(&value)?),
            _ => None,
        };
        let on_error = match get(dict, "on_error")?.extract::<String>()?.as_str() {
            "restart" => OnError::Restart,
            "stop" => OnError::Stop,
            _ => OnError::Fail,
        };
        Ok(Self {
            queue_capacity: get(dict, "queue_capacity")?.extract()?,
            queue_bytes: get(dict, "queue_bytes")?.extract()?,
            loop_bytes: get(dict, "loop_bytes")?.extract()?,
            max_pending: get(dict, "max_pending")?.extract()?,
            max_attempts: get(dict, "max_attempts")?.extract()?,
            retry_backoff_ns: nanoseconds(&get(dict, "retry_backoff_s")?)?,
            retry_backoff_max_ns: nanoseconds(&get(dict, "retry_backoff_max_s")?)?,
            ack_timeout_ns: nanoseconds(&get(dict, "ack_timeout_s")?)?,
            execute_timeout_ns: nanoseconds(&get(dict, "execute_timeout_s")?)?,
            max_anchors: get(dict, "max_anchors")?.extract()?,
            tick_interval_ns: tick,
            on_error,
            restart_limit: dict.get_item("restart_limit")?.map_or(Ok(10), |v| v.extract())?,
        })
    }
}
