//! What the first byte of a value says, and the second where the first is `EXT`. All numbers are big endian.
//!
//! Where msgpack has a form for a value it is that form: None, bool, int up to 64 bits, float, str, bytes, list and dict can be
//! read by any msgpack reader. Its extension types carry their length in front, which is not known before a value is written;
//! ours do not, so `EXT` and the tuples are ours alone.
//!
//! ("word", 1)  ->  d4 02  a4 77 6f 72 64  01        tuple of 2, str of 4 bytes, 1

pub const FIX_MAP: u8 = 0x80;
pub const FIX_LIST: u8 = 0x90;
pub const FIX_STR: u8 = 0xa0;
pub const NONE: u8 = 0xc0;
pub const FALSE: u8 = 0xc2;
pub const TRUE: u8 = 0xc3;
pub const BYTES_8: u8 = 0xc4;
pub const BYTES_16: u8 = 0xc5;
pub const BYTES_32: u8 = 0xc6;
pub const EXT: u8 = 0xc7;
pub const FLOAT: u8 = 0xcb;
pub const UINT_8: u8 = 0xcc;
pub const UINT_16: u8 = 0xcd;
pub const UINT_32: u8 = 0xce;
pub const UINT_64: u8 = 0xcf;
pub const INT_8: u8 = 0xd0;
pub const INT_16: u8 = 0xd1;
pub const INT_32: u8 = 0xd2;
pub const INT_64: u8 = 0xd3;
pub const TUPLE_8: u8 = 0xd4;
pub const TUPLE_32: u8 = 0xd5;
pub const STR_8: u8 = 0xd9;
pub const STR_16: u8 = 0xda;
pub const STR_32: u8 = 0xdb;
pub const LIST_16: u8 = 0xdc;
pub const LIST_32: u8 = 0xdd;
pub const MAP_16: u8 = 0xde;
pub const MAP_32: u8 = 0xdf;

/// What follows `EXT`. `long` is a u32 length and that many bytes; `text` and `value` are values.
pub mod ext {
    /// An int beyond 64 bits: `long`, two's complement, little endian.
    pub const BIG_INT: u8 = 1;
    /// A str with lone surrogates: `long`, UTF-8 with "surrogatepass".
    pub const SURROGATES: u8 = 2;
    /// `long`.
    pub const BYTEARRAY: u8 = 3;
    /// A u32 count and the elements, for both kinds of sets.
    pub const SET: u8 = 4;
    pub const FROZENSET: u8 = 5;
    /// Two f64.
    pub const COMPLEX: u8 = 6;
    /// Three ints.
    pub const RANGE: u8 = 7;
    /// Year u16, month, day.
    pub const DATE: u8 = 8;
    /// Hour, minute, second, microsecond u32, fold, then None or a time zone.
    pub const TIME: u8 = 9;
    /// As a date and a time.
    pub const DATETIME: u8 = 10;
    /// Days i32, seconds u32, microseconds u32.
    pub const TIMEDELTA: u8 = 11;
    /// A timedelta and its name, or None.
    pub const TIMEZONE: u8 = 12;
    pub const UTC: u8 = 13;
    /// `text`: the key.
    pub const ZONEINFO: u8 = 14;
    /// `text`: what `str()` gives.
    pub const DECIMAL: u8 = 15;
    /// 16 bytes, and whether it was made safely: 0 yes, 1 no, 2 unknown.
    pub const UUID: u8 = 16;
    /// `text`: "module:Class:NAME".
    pub const MEMBER: u8 = 17;
    /// `text`: "module:Class", then the int, for members of a `Flag` that have no name.
    pub const FLAG: u8 = 18;
    /// `text`: "module:Class(field,field)", the values in that order or `UNSET`, and a dict of what else the instance holds.
    pub const DATACLASS: u8 = 19;
    /// As a dataclass.
    pub const MODEL: u8 = 20;
    /// `text` as above, the values, and a dict.
    pub const NAMEDTUPLE: u8 = 21;
    /// In place of the value of a field that has none.
    pub const UNSET: u8 = 22;
    /// `long`: the dtype, itself a value; order b'C' or b'F', number of dimensions, each a u64; then bytes as a value.
    pub const ARRAY: u8 = 23;
    /// `long`: the dtype; `long`: the bytes.
    pub const SCALAR: u8 = 24;
    /// A str or bytes as numpy's `str_` or `bytes_`: the value.
    pub const NUMPY_TEXT: u8 = 25;
    /// `text`: the name; then what the user's `encode` gave.
    pub const REGISTERED: u8 = 26;
    /// `long`: a pickle.
    pub const PICKLED: u8 = 27;
    /// Bytes that travel beside: a u32 index.
    pub const BLOB: u8 = 28;
}
