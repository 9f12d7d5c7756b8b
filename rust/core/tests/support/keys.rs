//! Canonical bytes of keys: no encoding is the beginning of another, and equal keys, and no others, have equal bytes.

use std::slice::from_ref;

use rainband_core::key::{self, KeyBytes};

use super::check::{Effort, ensure, for_all};
use super::key_model::{Value, class, value, write};

fn bytes_of(values: &[Value]) -> Vec<u8> {
    let mut key = KeyBytes::default();
    for value in values {
        write(value, &mut key);
    }
    key.as_slice().to_vec()
}

/// Keys of several fields are told apart without separators.
pub fn encoding_is_prefix_free(effort: Effort) -> Result<(), String> {
    for_all(effort, 6000, &(value(), value(), value()), |(a, b, c)| {
        let (one, other) = (bytes_of(from_ref(&a)), bytes_of(from_ref(&b)));
        let is_prefix = one.starts_with(&other) || other.starts_with(&one);
        ensure(!is_prefix || one == other, || format!("{a:?} begins like {b:?}"))?;
        let joined = bytes_of(&[a, c.clone()]);
        ensure(joined[one.len()..] == bytes_of(&[c]), || "a field changes what follows".into())
    })
}

/// `True`, `1` and `1.0` are one key, `-0.0` is 0, `1e300` a large integer; nothing else meets.
pub fn equal_keys_are_alike(effort: Effort) -> Result<(), String> {
    let one = bytes_of(&[Value::Int(1)]);
    ensure(bytes_of(&[Value::Float(1.0)]) == one, || "1.0 is not 1".into())?;
    ensure(bytes_of(&[Value::Float(-0.0)]) == bytes_of(&[Value::Int(0)]), || "-0.0 is not 0".into())?;
    ensure(bytes_of(&[Value::Float(1e300)])[0] == 0x11, || "1e300 is no large integer".into())?;
    ensure(!KeyBytes::default().float(f64::NAN), || "NaN is a key".into())?;
    for_all(effort, 6000, &(value(), value()), |(a, b)| {
        let same = [(&a, &b), (&a, &as_integer(&a)), (&b, &as_float(&b))].into_iter().try_for_each(|(x, y)| {
            let (alike, equal) = (bytes_of(from_ref(x)) == bytes_of(from_ref(y)), class(x) == class(y));
            ensure(alike == equal, || format!("{x:?} and {y:?}: alike {alike}, equal {equal}"))
        });
        let mut key = KeyBytes::default();
        write(&a, &mut key);
        ensure(key.hash() == key::hash(key.as_slice()), || "two hashes of one key".into())?;
        same
    })
}

/// The same number as an integer with leading zeros, where it is one of few digits.
fn as_integer(value: &Value) -> Value {
    match value {
        Value::Int(n) => Value::Big(*n < 0, [&[0, 0][..], &n.unsigned_abs().to_be_bytes()].concat()),
        Value::Float(f) if f.abs() < 9e15 && f % 1.0 == 0.0 => Value::Int(*f as i64),
        other => other.clone(),
    }
}

/// The nearest float, which may be another number.
fn as_float(value: &Value) -> Value {
    match value {
        Value::Int(n) => Value::Float(*n as f64),
        other => other.clone(),
    }
}
