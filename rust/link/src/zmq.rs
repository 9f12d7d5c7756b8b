//! ZeroMQ, through the libzmq that pyzmq has loaded: the only module that knows its C functions.
//!
//! pyzmq brings a libzmq with CURVE, and two copies in one process would mean two contexts. So nothing is linked: the functions
//! are looked up in the shared object of pyzmq's backend, whose dependencies the loader searches too.
//!
//! Sockets are neither made nor closed nor configured here. A [`Socket`] is used by one thread; it may be handed to another.
//! Nothing waits but [`Zmq::poll`].

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_short, c_void};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

pub use socket::{COPIED_BELOW, Sent, Socket};

use crate::{LinkError, Place};

mod socket;

/// What [`Socket::send`] relies on when a connection dies between two parts holds from this version on.
pub const OLDEST: (i32, i32, i32) = (4, 3, 5);

const POLLIN: c_short = 1;
const POLLOUT: c_short = 2;
const ETERM: i32 = 156_384_712 + 53;

/// `zmq_msg_t`. It holds short contents itself, so it must not move while someone looks at them.
#[repr(C, align(8))]
struct RawMessage([u8; 64]);

impl RawMessage {
    fn blank() -> Self {
        Self([0; 64])
    }
}

type Free = unsafe extern "C" fn(data: *mut c_void, hint: *mut c_void);

struct Functions {
    errno: unsafe extern "C" fn() -> c_int,
    strerror: unsafe extern "C" fn(c_int) -> *const c_char,
    version: unsafe extern "C" fn(*mut c_int, *mut c_int, *mut c_int),
    msg_init: unsafe extern "C" fn(*mut RawMessage) -> c_int,
    msg_init_size: unsafe extern "C" fn(*mut RawMessage, usize) -> c_int,
    msg_init_data: unsafe extern "C" fn(*mut RawMessage, *mut c_void, usize, Free, *mut c_void) -> c_int,
    msg_data: unsafe extern "C" fn(*mut RawMessage) -> *mut c_void,
    msg_size: unsafe extern "C" fn(*const RawMessage) -> usize,
    msg_more: unsafe extern "C" fn(*const RawMessage) -> c_int,
    msg_close: unsafe extern "C" fn(*mut RawMessage) -> c_int,
    msg_send: unsafe extern "C" fn(*mut RawMessage, *mut c_void, c_int) -> c_int,
    msg_recv: unsafe extern "C" fn(*mut RawMessage, *mut c_void, c_int) -> c_int,
    poll: unsafe extern "C" fn(*mut RawItem, c_int, c_long) -> c_int,
}

/// The functions of a libzmq that stays loaded for the life of the process.
pub struct Zmq {
    library: NonNull<c_void>,
    call: Functions,
}

// SAFETY: a handle of the loader and addresses of functions, never written; libzmq's functions may be called by any thread, and
// what is bound to one thread, a socket, is a type of its own.
unsafe impl Send for Zmq {}
// SAFETY: see above.
unsafe impl Sync for Zmq {}

impl Zmq {
    /// The libzmq that is reached from a shared object: pyzmq's `zmq.backend.cython._zmq.__file__` in a process that has
    /// imported it, or the file of libzmq itself.
    ///
    /// # Errors
    /// [`LinkError::Library`] if the file cannot be loaded or lacks a function, [`LinkError::TooOld`] before [`OLDEST`].
    pub fn open(path: &Path) -> Result<Arc<Self>, LinkError> {
        let refused = |reason: String| LinkError::Library { path: path.into(), reason };
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| refused(error.to_string()))?;
        // SAFETY: `name` is a string. NOLOAD finds what is loaded already; otherwise the file's constructors run, which are
        // libzmq's. The handle is never given back, so that no address taken from it can become stale.
        let library = unsafe {
            let loaded = libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
            if loaded.is_null() { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) } else { loaded }
        };
        let library = NonNull::new(library).ok_or_else(|| refused(loader_error()))?;
        let find = |name: &CStr| find(library, name).ok_or_else(|| refused(loader_error()));
        // SAFETY: each address is that of the function of this name, whose signature in zmq.h is the field's.
        let call = unsafe {
            Functions {
                errno: as_function(find(c"zmq_errno")?),
                strerror: as_function(find(c"zmq_strerror")?),
                version: as_function(find(c"zmq_version")?),
                msg_init: as_function(find(c"zmq_msg_init")?),
                msg_init_size: as_function(find(c"zmq_msg_init_size")?),
                msg_init_data: as_function(find(c"zmq_msg_init_data")?),
                msg_data: as_function(find(c"zmq_msg_data")?),
                msg_size: as_function(find(c"zmq_msg_size")?),
                msg_more: as_function(find(c"zmq_msg_more")?),
                msg_close: as_function(find(c"zmq_msg_close")?),
                msg_send: as_function(find(c"zmq_msg_send")?),
                msg_recv: as_function(find(c"zmq_msg_recv")?),
                poll: as_function(find(c"zmq_poll")?),
            }
        };
        let zmq = Self { library, call };
        let version = zmq.version();
        if version < OLDEST {
            return Err(LinkError::TooOld { path: path.into(), version });
        }
        Ok(Arc::new(zmq))
    }

    /// Major, minor, patch.
    pub fn version(&self) -> (i32, i32, i32) {
        let (mut major, mut minor, mut patch) = (0, 0, 0);
        // SAFETY: writes three numbers.
        unsafe { (self.call.version)(&raw mut major, &raw mut minor, &raw mut patch) };
        (major, minor, patch)
    }

    /// The address of another function of this libzmq, which the link has no use for: tests make their sockets with it.
    pub fn address_of(&self, name: &CStr) -> Option<NonNull<c_void>> {
        find(self.library, name)
    }

    /// Waits until an item is ready, the time is over (in whole milliseconds, rounded up; `None`: for ever) or a signal comes.
    /// Ask the items which are ready.
    ///
    /// # Errors
    /// [`LinkError::Terminated`], [`LinkError::NotASocket`].
    pub fn poll(&self, items: &mut [PollItem<'_>], timeout: Option<Duration>) -> Result<(), LinkError> {
        let timeout_ms =
            timeout.map_or(-1, |time| c_long::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(c_long::MAX));
        // SAFETY: a `PollItem` is a `RawItem`; its socket or descriptor is borrowed for longer than this call, by the only thread
        // that has the socket, because a `Socket` is not `Sync` and an item not `Send`.
        let ready = unsafe { (self.call.poll)(items.as_mut_ptr().cast(), items.len() as c_int, timeout_ms) };
        if ready >= 0 {
            return Ok(());
        }
        for item in items {
            item.raw.revents = 0;
        }
        match self.errno() {
            libc::EINTR => Ok(()),
            errno => Err(self.error("zmq_poll", Place::Poll, errno)),
        }
    }

    fn errno(&self) -> i32 {
        // SAFETY: no arguments.
        unsafe { (self.call.errno)() }
    }

    fn error(&self, operation: &'static str, place: Place, errno: i32) -> LinkError {
        match errno {
            ETERM => LinkError::Terminated { place },
            libc::ENOTSOCK => LinkError::NotASocket { place },
            _ => {
                // SAFETY: every number has a text, which is static.
                let text = unsafe { CStr::from_ptr((self.call.strerror)(errno)) };
                LinkError::Zmq { operation, place, errno, text: text.to_string_lossy().into_owned() }
            }
        }
    }
}

fn find(library: NonNull<c_void>, name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: a handle that stays open, and a string.
    NonNull::new(unsafe { libc::dlsym(library.as_ptr(), name.as_ptr()) })
}

fn loader_error() -> String {
    // SAFETY: the text is the thread's own and stays until its next call of the loader.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            "it has no such function".into()
        } else {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}

/// # Safety
/// `F` is a function pointer with the signature of the function at `address`.
unsafe fn as_function<F: Copy>(address: NonNull<c_void>) -> F {
    const { assert!(size_of::<F>() == size_of::<NonNull<c_void>>()) };
    // SAFETY: the sizes are equal, the rest the caller promises.
    unsafe { std::mem::transmute_copy(&address) }
}

#[repr(C)]
struct RawItem {
    socket: *mut c_void,
    fd: c_int,
    events: c_short,
    revents: c_short,
}

/// One thing that [`Zmq::poll`] waits for.
#[repr(transparent)]
pub struct PollItem<'a> {
    raw: RawItem,
    borrowed: PhantomData<&'a Socket>,
}

impl<'a> PollItem<'a> {
    /// Something can be read from this descriptor.
    pub fn readable_fd(fd: BorrowedFd<'a>) -> Self {
        Self::new(ptr::null_mut(), fd.as_raw_fd(), POLLIN)
    }

    /// A message is here.
    pub fn readable(socket: &'a Socket) -> Self {
        Self::new(socket.raw(), 0, POLLIN)
    }

    /// There is room for a message.
    pub fn writable(socket: &'a Socket) -> Self {
        Self::new(socket.raw(), 0, POLLOUT)
    }

    fn new(socket: *mut c_void, fd: c_int, events: c_short) -> Self {
        Self { raw: RawItem { socket, fd, events, revents: 0 }, borrowed: PhantomData }
    }

    /// Whether the last poll ended for this, or an error of it.
    pub fn is_ready(&self) -> bool {
        self.raw.revents != 0
    }
}
