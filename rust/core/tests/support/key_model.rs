//! Values that are keys, for the tests of their canonical bytes: how to make them, write them, and say which are equal, the
//! last by decimal digits rather than by the encoding.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use rainband_core::key::KeyBytes;

/// A key as Python knows it.
#[derive(Clone, Debug)]
pub enum Value {
    None,
    Int(i64),
    /// Negative, magnitude with possible leading zeros.
    Big(bool, Vec<u8>),
    Float(f64),
    /// In UTF-8, lone surrogates as three bytes each.
    Str(Vec<u8>),
    Bytes(Vec<u8>),
    Date(i32),
    Naive(i64),
    Aware(i64),
    Delta(i32, u32, u32),
    Uuid([u8; 16]),
    Enum(String),
    Tuple(Vec<Value>),
}

/// What two equal keys have in common.
#[derive(Clone, Debug, PartialEq)]
pub enum Class {
    /// An integer, in decimal digits, whatever type it came in.
    Integer(String),
    Fraction(f64),
    Tuple(Vec<Class>),
    Other(String),
}

/// Any value, with small ones and edges of ranges more often than by chance.
pub fn value() -> impl Strategy<Value = Value> {
    let edge = prop_oneof![Just(0_i64), Just(1), Just(-1), Just(i64::MIN), Just(i64::MAX), Just(1 << 53)];
    let float = prop_oneof![
        any::<f64>(),
        any::<i16>().prop_map(f64::from),
        edge.clone().prop_map(|n| n as f64),
        (-1100_i32..1024).prop_map(|exponent| 2_f64.powi(exponent)),
        Just(-0.0),
        Just(f64::INFINITY),
        Just(1e300),
    ];
    let text = "[ab\u{0}\u{1}é ]{0,4}";
    let leaf = prop_oneof![
        Just(Value::None),
        any::<i64>().prop_map(Value::Int),
        any::<i16>().prop_map(|n| Value::Int(n.into())),
        edge.prop_map(Value::Int),
        (any::<bool>(), vec(any::<u8>(), 0..20)).prop_map(|(negative, bytes)| Value::Big(negative, bytes)),
        float.prop_filter("NaN is no key", |f| !f.is_nan()).prop_map(Value::Float),
        text.prop_map(|text| Value::Str(text.into_bytes())),
        vec(any::<u8>(), 0..4).prop_map(Value::Bytes),
        any::<i32>().prop_map(Value::Date),
        any::<i64>().prop_map(Value::Naive),
        any::<i64>().prop_map(Value::Aware),
        (any::<i32>(), 0_u32..86_400, 0_u32..1_000_000).prop_map(|(d, s, u)| Value::Delta(d, s, u)),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        text.prop_map(Value::Enum),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| vec(inner, 0..4).prop_map(Value::Tuple))
}

/// Writes the canonical bytes.
pub fn write(value: &Value, key: &mut KeyBytes) {
    match value {
        Value::None => key.none(),
        Value::Int(n) => key.int(*n),
        Value::Big(negative, magnitude) => key.big_int(*negative, magnitude),
        Value::Float(f) => assert!(key.float(*f), "only NaN is refused"),
        Value::Str(utf8) => key.str(utf8),
        Value::Bytes(bytes) => key.bytes(bytes),
        Value::Date(ordinal) => key.date(*ordinal),
        Value::Naive(micros) => key.naive_datetime(*micros),
        Value::Aware(micros) => key.utc_datetime(*micros),
        Value::Delta(days, seconds, micros) => key.timedelta(*days, *seconds, *micros),
        Value::Uuid(bytes) => key.uuid(*bytes),
        Value::Enum(name) => key.enum_member(name.as_bytes()),
        Value::Tuple(elements) => {
            key.tuple(elements.len() as u32);
            for element in elements {
                write(element, key);
            }
        }
    }
}

/// The class of equal keys that `value` belongs to.
pub fn class(value: &Value) -> Class {
    match value {
        Value::Int(n) => Class::Integer(n.to_string()),
        Value::Big(negative, magnitude) => Class::Integer(signed(*negative, decimal(magnitude))),
        Value::Float(f) if f % 1.0 == 0.0 => Class::Integer(signed(*f < 0.0, format!("{:.0}", f.abs()))),
        Value::Float(f) => Class::Fraction(*f),
        Value::Tuple(elements) => Class::Tuple(elements.iter().map(class).collect()),
        other => Class::Other(format!("{other:?}")),
    }
}

fn signed(negative: bool, digits: String) -> String {
    if negative && digits != "0" { format!("-{digits}") } else { digits }
}

/// Base 256 to base 10, digit by digit as at school.
fn decimal(magnitude: &[u8]) -> String {
    let mut digits = vec![0_u32];
    for byte in magnitude {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += *digit * 256;
            *digit = carry % 10;
            carry /= 10;
        }
        while carry > 0 {
            digits.push(carry % 10);
            carry /= 10;
        }
    }
    digits.iter().rev().map(ToString::to_string).collect()
}
