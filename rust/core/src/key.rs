//! Canonical bytes of key values, their hash, and the task that a key belongs to. Published: the same key comes to the same
//! task in every process, version and machine, so the vectors in `tests/key_vectors.json` never change.
//!
//! A key of several fields is the concatenation of its fields' bytes; every encoding is prefix-free. All numbers big-endian.
//!
//! | value | bytes |
//! |---|---|
//! | `None` | `00` |
//! | integer in i64, also `True`, `1.0`, `-0.0` | `10`, i64 |
//! | integer beyond, also `1e300` | `11`, sign byte (1 = negative), u32 length, magnitude without leading zeros |
//! | float that is no integer, ±inf | `12`, IEEE 754 binary64 |
//! | str | `20`, u32 length, UTF-8 (lone surrogates as three bytes each) |
//! | bytes | `21`, u32 length, the bytes |
//! | date | `30`, i32 ordinal (day 1 is 0001-01-01) |
//! | datetime without zone | `31`, i64 microseconds since 0001-01-01 |
//! | datetime with zone | `32`, i64 microseconds since 1970-01-01 UTC |
//! | timedelta | `33`, i32 days, u32 seconds, u32 microseconds, normalized as Python does |
//! | UUID | `34`, 16 bytes |
//! | member of a plain Enum | `35`, u32 length, `Class.member` in UTF-8 (of IntEnum and StrEnum: the value) |
//! | tuple | `40`, u32 count, the elements |
//!
//! group = XXH3-64(bytes, seed 0) mod 4096; task = group · n / 4096 (floor). Example: the key "a" is `20 00000001 61`.

use xxhash_rust::xxh3::xxh3_64;

use crate::fault::{Fault, planted};

/// How many groups all keys fall into. Fixed: a rebalance moves groups between tasks, never keys between groups.
pub const GROUPS: u64 = 4096;

/// The group of a key with this hash.
#[inline]
pub fn group_of(hash: u64) -> u64 {
    hash % GROUPS
}

/// The index, among `n` tasks, of the task that `group` belongs to.
#[inline]
pub fn task_of(group: u64, n: usize) -> usize {
    if planted(Fault::FieldsByRemainder) {
        return (group % (n as u64 + 1)) as usize % n;
    }
    (group * n as u64 / GROUPS) as usize
}

/// The hash of canonical bytes.
#[inline]
pub fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// A buffer that canonical bytes are written to; kept and reused by its owner.
///
/// ```
/// use rainband_core::key::{KeyBytes, group_of, task_of};
///
/// let mut key = KeyBytes::default();
/// key.str(b"a");
/// assert_eq!(key.as_slice(), [0x20, 0, 0, 0, 1, b'a']);
/// assert!(task_of(group_of(key.hash()), 3) < 3);
/// ```
#[derive(Debug, Default)]
pub struct KeyBytes {
    bytes: Vec<u8>,
}

impl KeyBytes {
    /// Empties the buffer, keeps its memory.
    #[inline]
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What was written since `clear`.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Their hash.
    #[inline]
    pub fn hash(&self) -> u64 {
        hash(&self.bytes)
    }

    /// `None`.
    pub fn none(&mut self) {
        self.bytes.push(0x00);
    }

    /// An integer that fits.
    #[inline]
    pub fn int(&mut self, value: i64) {
        self.bytes.push(0x10);
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// An integer of any size: big-endian magnitude, leading zeros allowed. One that fits in i64 is written as such.
    pub fn big_int(&mut self, negative: bool, magnitude: &[u8]) {
        let start = magnitude.iter().position(|b| *b != 0).unwrap_or(magnitude.len());
        let magnitude = &magnitude[start..];
        if magnitude.len() <= 8 {
            let mut padded = [0; 8];
            padded[8 - magnitude.len()..].copy_from_slice(magnitude);
            let value = u64::from_be_bytes(padded);
            if negative && value <= 1 << 63 {
                return self.int(value.cast_signed().wrapping_neg());
            }
            if let (false, Ok(value)) = (negative, i64::try_from(value)) {
                return self.int(value);
            }
        }
        self.bytes.push(0x11);
        self.bytes.push(u8::from(negative));
        self.bytes.extend_from_slice(&(magnitude.len() as u32).to_be_bytes());
        self.bytes.extend_from_slice(magnitude);
    }

    /// A float; one that equals an integer is written as that integer. Returns `false`, having written nothing, for NaN, which
    /// equals nothing and so is no key.
    pub fn float(&mut self, value: f64) -> bool {
        if value.is_nan() {
            return false;
        }
        if value.is_finite() && value.fract() == 0.0 {
            if value.abs() < 9_007_199_254_740_992.0 {
                self.int(value as i64);
            } else {
                // Beyond 2^53 every float is an integer: mantissa · 2^exponent, written out.
                let bits = value.abs().to_bits();
                let mantissa = (bits & ((1 << 52) - 1)) | 1 << 52;
                let shift = (bits >> 52) as usize - 1075;
                let mut magnitude = vec![0_u8; shift.div_ceil(8) + 9];
                let wide = u128::from(mantissa) << (shift % 8);
                let end = magnitude.len() - shift / 8;
                let wide = wide.to_be_bytes();
                let taken = wide.len().min(end);
                magnitude[end - taken..end].copy_from_slice(&wide[wide.len() - taken..]);
                self.big_int(value < 0.0, &magnitude);
            }
        } else {
            self.bytes.push(0x12);
            self.bytes.extend_from_slice(&value.to_be_bytes());
        }
        true
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.bytes.push(tag);
        self.bytes.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// A str, as UTF-8.
    #[inline]
    pub fn str(&mut self, utf8: &[u8]) {
        self.tagged(0x20, utf8);
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.tagged(0x21, bytes);
    }

    /// A date, by its ordinal.
    pub fn date(&mut self, ordinal: i32) {
        self.bytes.push(0x30);
        self.bytes.extend_from_slice(&ordinal.to_be_bytes());
    }

    /// A datetime without a zone: microseconds since 0001-01-01.
    pub fn naive_datetime(&mut self, micros: i64) {
        self.bytes.push(0x31);
        self.bytes.extend_from_slice(&micros.to_be_bytes());
    }

    /// A datetime with a zone: microseconds since 1970-01-01 UTC.
    pub fn utc_datetime(&mut self, micros: i64) {
        self.bytes.push(0x32);
        self.bytes.extend_from_slice(&micros.to_be_bytes());
    }

    /// A timedelta, normalized: `0 <= seconds < 86400`, `0 <= micros < 1_000_000`.
    pub fn timedelta(&mut self, days: i32, seconds: u32, micros: u32) {
        self.bytes.push(0x33);
        self.bytes.extend_from_slice(&days.to_be_bytes());
        self.bytes.extend_from_slice(&seconds.to_be_bytes());
        self.bytes.extend_from_slice(&micros.to_be_bytes());
    }

    /// A UUID.
    pub fn uuid(&mut self, bytes: [u8; 16]) {
        self.bytes.push(0x34);
        self.bytes.extend_from_slice(&bytes);
    }

    /// A member of a plain Enum, as `Class.member`.
    pub fn enum_member(&mut self, name: &[u8]) {
        self.tagged(0x35, name);
    }

    /// The head of a tuple of `count` elements, which follow.
    pub fn tuple(&mut self, count: u32) {
        self.bytes.push(0x40);
        self.bytes.extend_from_slice(&count.to_be_bytes());
    }
}
