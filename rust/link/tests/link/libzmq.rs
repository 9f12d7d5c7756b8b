//! What pyzmq does for the link, for its tests: contexts, sockets and their options.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Mutex};

use rainband_link::{SocketHandle, Zmq};

pub const PULL: c_int = 7;
pub const PUSH: c_int = 8;
pub const LINGER: c_int = 17;
pub const SNDHWM: c_int = 23;
pub const RCVHWM: c_int = 24;
pub const CURVE_SERVER: c_int = 47;
pub const CURVE_PUBLICKEY: c_int = 48;
pub const CURVE_SECRETKEY: c_int = 49;
pub const CURVE_SERVERKEY: c_int = 50;
const LAST_ENDPOINT: c_int = 32;

const VARIABLE: &str = "RAINBAND_LIBZMQ";

pub fn open() -> Arc<Zmq> {
    let path = std::env::var_os(VARIABLE).unwrap_or_else(|| {
        panic!("{VARIABLE} is not set: run `make test-link`, or set it to what `scripts/find-libzmq` prints in an environment with pyzmq")
    });
    Zmq::open(Path::new(&path)).expect("a libzmq that is new enough")
}

/// A function of libzmq that only tests need.
fn function<F: Copy>(zmq: &Zmq, name: &CStr) -> F {
    let address = zmq.address_of(name).expect("part of every libzmq");
    assert_eq!(size_of::<F>(), size_of_val(&address));
    // SAFETY: `F` is what zmq.h says of this name; all callers are in this file.
    unsafe { std::mem::transmute_copy(&address) }
}

type OnPointer = unsafe extern "C" fn(*mut c_void) -> c_int;
type OnName = unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int;

/// A context; its sockets that are still open are closed with it.
pub struct Context {
    pub zmq: Arc<Zmq>,
    raw: *mut c_void,
    open: Mutex<Vec<*mut c_void>>,
}

// SAFETY: contexts are safe for threads; a socket is only closed when the test's threads that used it are gone.
unsafe impl Send for Context {}
// SAFETY: see above.
unsafe impl Sync for Context {}

impl Context {
    pub fn new() -> Self {
        let zmq = open();
        let make: unsafe extern "C" fn() -> *mut c_void = function(&zmq, c"zmq_ctx_new");
        // SAFETY: no arguments.
        let raw = unsafe { make() };
        assert!(!raw.is_null());
        Self { zmq, raw, open: Mutex::default() }
    }

    /// A socket with numbers for some of its options. It does not linger unless one of them says so.
    pub fn socket(&self, kind: c_int, options: &[(c_int, c_int)]) -> Maker<'_> {
        let make: unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void = function(&self.zmq, c"zmq_socket");
        // SAFETY: a context that is open.
        let raw = unsafe { make(self.raw, kind) };
        assert!(!raw.is_null());
        self.open.lock().unwrap().push(raw);
        let maker = Maker { context: self, raw };
        for (option, value) in [&[(LINGER, 0)], options].concat() {
            maker.set(option, &value.to_ne_bytes());
        }
        maker
    }

    pub fn close(&self, handle: &SocketHandle) {
        let raw = handle.address() as *mut c_void;
        let mut open = self.open.lock().unwrap();
        let place = open.iter().position(|each| *each == raw).expect("closed once");
        open.swap_remove(place);
        let close: OnPointer = function(&self.zmq, c"zmq_close");
        // SAFETY: open, and used by nobody, because its handle is here.
        assert_eq!(unsafe { close(raw) }, 0);
    }

    /// Makes every call on a socket of this context fail.
    pub fn shut_down(&self) {
        let shut_down: OnPointer = function(&self.zmq, c"zmq_ctx_shutdown");
        // SAFETY: a context that is open.
        assert_eq!(unsafe { shut_down(self.raw) }, 0);
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // Its threads may still run.
        }
        let close: OnPointer = function(&self.zmq, c"zmq_close");
        for raw in self.open.get_mut().unwrap().drain(..) {
            // SAFETY: open, and the threads that used it are gone.
            assert_eq!(unsafe { close(raw) }, 0);
        }
        let end: OnPointer = function(&self.zmq, c"zmq_ctx_term");
        // SAFETY: open, without sockets.
        assert_eq!(unsafe { end(self.raw) }, 0);
    }
}

/// A socket before it is handed over.
pub struct Maker<'a> {
    context: &'a Context,
    raw: *mut c_void,
}

impl Maker<'_> {
    pub fn set(&self, option: c_int, value: &[u8]) {
        let set: unsafe extern "C" fn(*mut c_void, c_int, *const c_void, usize) -> c_int =
            function(&self.context.zmq, c"zmq_setsockopt");
        // SAFETY: an open socket, and a value with its length.
        assert_eq!(unsafe { set(self.raw, option, value.as_ptr().cast(), value.len()) }, 0, "option {option}");
    }

    /// Binds, and gives the address that others connect to.
    pub fn bind(&self, address: &str) -> String {
        assert!(!address.starts_with("tcp:") || address.starts_with("tcp://127.0.0.1:"), "only loopback in tests");
        self.call(c"zmq_bind", address);
        let get: unsafe extern "C" fn(*mut c_void, c_int, *mut c_void, *mut usize) -> c_int =
            function(&self.context.zmq, c"zmq_getsockopt");
        let mut text = [0_u8; 256];
        let mut length = text.len();
        // SAFETY: an open socket, and a buffer with its length.
        assert_eq!(unsafe { get(self.raw, LAST_ENDPOINT, text.as_mut_ptr().cast(), &raw mut length) }, 0);
        CStr::from_bytes_until_nul(&text).unwrap().to_str().unwrap().into()
    }

    pub fn connect(self, address: &str) -> Self {
        self.call(c"zmq_connect", address);
        self
    }

    fn call(&self, name: &CStr, address: &str) {
        let call: OnName = function(&self.context.zmq, name);
        let address = CString::new(address).unwrap();
        // SAFETY: an open socket and a string.
        assert_eq!(unsafe { call(self.raw, address.as_ptr()) }, 0, "{name:?} {address:?}");
    }

    pub fn hand_over(self) -> SocketHandle {
        // SAFETY: open until its context closes it, and the maker, which alone knows it, is gone.
        unsafe { SocketHandle::from_address(self.raw as usize) }.expect("not null")
    }
}

/// A CURVE key pair, as text: public, secret.
pub fn key_pair(zmq: &Zmq) -> [[u8; 41]; 2] {
    let make: unsafe extern "C" fn(*mut c_char, *mut c_char) -> c_int = function(zmq, c"zmq_curve_keypair");
    let mut pair = [[0; 41]; 2];
    let [public, secret] = &mut pair;
    // SAFETY: two buffers of the length that the documentation asks for.
    assert_eq!(unsafe { make(public.as_mut_ptr().cast(), secret.as_mut_ptr().cast()) }, 0, "built without CURVE");
    pair
}

/// Memory that is no socket.
pub fn no_socket() -> SocketHandle {
    let memory = Box::leak(Box::new([0_u64; 1024]));
    // SAFETY: it is none, which is what the test is about: libzmq looks for its mark there and does not find it.
    unsafe { SocketHandle::from_address(ptr::from_mut(memory) as usize) }.expect("not null")
}
