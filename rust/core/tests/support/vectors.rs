//! The published vectors of keys: `key_vectors.json` was computed without the core, by `key_vectors.py`.

use rainband_core::key::{KeyBytes, group_of, task_of};

use super::check::{Effort, ensure};
use super::key_model::{Value, write};

const FILE: &str = include_str!("../key_vectors.json");

/// Each line of the file is what the core computes for that key, and no line is left out.
pub fn match_the_file(_: Effort) -> Result<(), String> {
    let lines: Vec<&str> = FILE.lines().filter(|line| line.starts_with('{')).collect();
    let keys = keys();
    ensure(lines.len() == keys.len(), || format!("{} vectors for {} keys", lines.len(), keys.len()))?;
    lines.into_iter().zip(&keys).try_for_each(|(line, (literal, value))| {
        let expected = vector(literal, value);
        ensure(line.trim_end_matches(',') == expected, || format!("the file says {line}\nthe core says {expected}"))
    })
}

fn vector(literal: &str, value: &Value) -> String {
    let mut key = KeyBytes::default();
    write(value, &mut key);
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('?');
    let bytes: String = key.as_slice().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
    let group = group_of(key.hash());
    let [two, three, seven] = [2, 3, 7].map(|n| task_of(group, n));
    let literal = literal.replace('\\', "\\\\");
    format!(
        r#"{{"key": "{literal}", "bytes": "{bytes}", "hash": "{:016x}", "group": {group}, "tasks": {{"2": {two}, "3": {three}, "7": {seven}}}}}"#,
        key.hash()
    )
}

/// Microseconds of a day and the ordinals of three days, for dates and times.
const DAY: i64 = 86_400_000_000;
const LEAP_DAY: i64 = 738_945;
const EPOCH: i64 = 719_163;

fn keys() -> Vec<(&'static str, Value)> {
    [numbers(), texts(), times(), others()].concat()
}

fn numbers() -> Vec<(&'static str, Value)> {
    let ten_to_30 = 10_u128.pow(30).to_be_bytes().to_vec();
    let big = |n: u128| n.to_be_bytes().to_vec();
    vec![
        ("None", Value::None),
        ("True", Value::Int(1)),
        ("False", Value::Int(0)),
        ("0", Value::Int(0)),
        ("1", Value::Int(1)),
        ("1.0", Value::Float(1.0)),
        ("-0.0", Value::Float(-0.0)),
        ("-1", Value::Int(-1)),
        ("127", Value::Int(127)),
        ("1234567890123", Value::Int(1_234_567_890_123)),
        ("2**53", Value::Int(1 << 53)),
        ("float(2**53)", Value::Float(9_007_199_254_740_992.0)),
        ("2**63 - 1", Value::Int(i64::MAX)),
        ("-(2**63)", Value::Int(i64::MIN)),
        ("2**63", Value::Big(false, big(1 << 63))),
        ("2.0**63", Value::Float(9_223_372_036_854_775_808.0)),
        ("-(2**63) - 1", Value::Big(true, big((1 << 63) + 1))),
        ("2**64", Value::Big(false, big(1 << 64))),
        ("10**30", Value::Big(false, ten_to_30.clone())),
        ("-(10**30)", Value::Big(true, ten_to_30)),
        ("1e300", Value::Float(1e300)),
        ("-1e300", Value::Float(-1e300)),
        ("0.5", Value::Float(0.5)),
        ("-0.1", Value::Float(-0.1)),
        ("5e-324", Value::Float(5e-324)),
        ("1.7976931348623157e308", Value::Float(f64::MAX)),
        ("float('inf')", Value::Float(f64::INFINITY)),
        ("float('-inf')", Value::Float(f64::NEG_INFINITY)),
    ]
}

fn texts() -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::Str(text.as_bytes().to_vec());
    vec![
        ("''", text("")),
        ("'a'", text("a")),
        ("'word'", text("word")),
        ("'the'", text("the")),
        ("'é'", text("é")),
        ("'日本'", text("日本")),
        (r"'\ud800'", Value::Str(vec![0xed, 0xa0, 0x80])),
        (r"'a\x00b'", text("a\0b")),
        ("b''", Value::Bytes(Vec::new())),
        ("b'a'", Value::Bytes(b"a".to_vec())),
        (r"b'\x00\xff'", Value::Bytes(vec![0, 255])),
    ]
}

fn times() -> Vec<(&'static str, Value)> {
    let noon_and_more = (12 * 3600 + 30 * 60 + 15) * 1_000_000 + 250;
    let half_past_noon = (12 * 3600 + 30 * 60) * 1_000_000;
    let aware = Value::Aware((LEAP_DAY - EPOCH) * DAY + half_past_noon);
    vec![
        ("date(1, 1, 1)", Value::Date(1)),
        ("date(2024, 2, 29)", Value::Date(LEAP_DAY as i32)),
        ("date(9999, 12, 31)", Value::Date(3_652_059)),
        ("datetime(1, 1, 1)", Value::Naive(0)),
        ("datetime(2024, 2, 29, 12, 30, 15, 250)", Value::Naive((LEAP_DAY - 1) * DAY + noon_and_more)),
        ("datetime(1970, 1, 1, tzinfo=UTC)", Value::Aware(0)),
        ("datetime(2024, 2, 29, 12, 30, tzinfo=UTC)", aware.clone()),
        ("datetime(2024, 2, 29, 14, 30, tzinfo=timezone(timedelta(hours=2)))", aware),
        ("datetime(1900, 1, 1, tzinfo=UTC)", Value::Aware(-25_567 * DAY)),
        ("timedelta(0)", Value::Delta(0, 0, 0)),
        ("timedelta(days=1, seconds=2, microseconds=3)", Value::Delta(1, 2, 3)),
        ("timedelta(microseconds=-1)", Value::Delta(-1, 86_399, 999_999)),
    ]
}

fn others() -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::Str(text.as_bytes().to_vec());
    let uuid = 0x1234_5678_1234_5678_1234_5678_1234_5678_u128;
    let pair = |a: &str, b: &str| Value::Tuple(vec![text(a), text(b)]);
    vec![
        ("UUID('12345678-1234-5678-1234-567812345678')", Value::Uuid(uuid.to_be_bytes())),
        ("Color.RED", Value::Enum("Color.RED".into())),
        ("()", Value::Tuple(Vec::new())),
        ("('a',)", Value::Tuple(vec![text("a")])),
        ("('a', 1)", Value::Tuple(vec![text("a"), Value::Int(1)])),
        ("(('a', 'b'), 'c')", Value::Tuple(vec![pair("a", "b"), text("c")])),
        ("('a', ('b', 'c'))", Value::Tuple(vec![text("a"), pair("b", "c")])),
        ("(None, 1.5, b'x')", Value::Tuple(vec![Value::None, Value::Float(1.5), Value::Bytes(b"x".to_vec())])),
    ]
}
