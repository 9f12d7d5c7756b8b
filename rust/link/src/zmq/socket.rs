//! A socket: whole messages in and out, without waiting.
//!
//! Messages have several parts, and arrive whole or not at all. A part is not copied on its way in: its `Bytes` owns the message
//! of libzmq. Out, parts from [`COPIED_BELOW`] on are not copied either: libzmq owns a clone of the `Bytes` until it has written
//! it, and drops it on a thread of its own.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::Arc;

use bytes::Bytes;

use super::{Functions, RawMessage, Zmq};
use crate::{LinkError, Place, SocketHandle};

/// Smaller parts are copied: that is cheaper than two allocations and a clone that another thread gives back.
pub const COPIED_BELOW: usize = 2048;

const DONTWAIT: c_int = 1;
const SNDMORE: c_int = 2;

/// How far [`Socket::send`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// libzmq has taken the message.
    Taken,
    /// It has no room; nothing of the message was sent.
    WouldBlock,
}

/// A ZeroMQ socket, used by the one thread that has it. Dropping it closes nothing.
pub struct Socket {
    zmq: Arc<Zmq>,
    handle: SocketHandle,
    place: Place,
    /// The part that the last attempt to receive had no contents for.
    spare: Option<Part>,
}

impl Socket {
    /// Takes over a socket; errors name it by `place`.
    pub fn new(zmq: Arc<Zmq>, handle: SocketHandle, place: Place) -> Self {
        Self { zmq, handle, place, spare: None }
    }

    /// Gives the socket back.
    pub fn into_handle(self) -> SocketHandle {
        self.handle
    }

    pub(super) fn raw(&self) -> *mut c_void {
        self.handle.as_ptr()
    }

    /// Sends a message, if there is room for it. Does not wait. An empty list is no message and counts as taken.
    ///
    /// Taken does not mean sent: what libzmq has queued for a connection that dies is gone, also the message whose first parts
    /// were taken when it died.
    ///
    /// # Errors
    /// Whatever libzmq finds; the socket can only be released then.
    pub fn send(&mut self, parts: &[Bytes]) -> Result<Sent, LinkError> {
        let call = &self.zmq.call;
        let mut sent = Sent::Taken;
        for (index, part) in parts.iter().enumerate() {
            let mut message = RawMessage::blank();
            if !fill(call, &mut message, part) {
                return Err(self.error("zmq_msg_init", self.zmq.errno()));
            }
            // All parts without waiting. The limit counts whole messages: once the first part has room, so have the others, and
            // what is refused then is a message whose connection just ended. libzmq takes back what it had of it and throws away
            // the parts that follow, so these must be offered too, or it would throw away the next message's.
            let flags = if index + 1 < parts.len() { DONTWAIT | SNDMORE } else { DONTWAIT };
            // SAFETY: an initialised message, which the call empties if it succeeds, and a socket of this thread.
            let result = self.until_uninterrupted(|| unsafe { (call.msg_send)(&raw mut message, self.raw(), flags) });
            let Err(errno) = result else { continue };
            // SAFETY: still initialised, because it was not sent.
            unsafe { (call.msg_close)(&raw mut message) };
            if errno != libc::EAGAIN {
                return Err(self.error("zmq_msg_send", errno));
            }
            sent = Sent::WouldBlock;
            if index == 0 {
                break;
            }
        }
        Ok(sent)
    }

    /// The next message, if one is here. Does not wait.
    ///
    /// # Errors
    /// Whatever libzmq finds; the socket can only be released then.
    pub fn recv(&mut self) -> Result<Option<Vec<Bytes>>, LinkError> {
        let mut parts = Vec::new();
        loop {
            let mut part = self.spare.take().unwrap_or_else(|| Part::new(&self.zmq.call));
            let call = &self.zmq.call;
            // SAFETY: an initialised, empty message and a socket of this thread.
            let receive = || unsafe { (call.msg_recv)(&raw mut *part.message, self.handle.as_ptr(), DONTWAIT) };
            if let Err(errno) = self.until_uninterrupted(receive) {
                self.spare = Some(part);
                // A message comes whole: there is nothing to wait for between two parts.
                let is_empty = errno == libc::EAGAIN && parts.is_empty();
                return if is_empty { Ok(None) } else { Err(self.error("zmq_msg_recv", errno)) };
            }
            // SAFETY: an initialised message.
            let has_more = unsafe { (call.msg_more)(&raw const *part.message) } != 0;
            parts.push(Bytes::from_owner(part.with_contents(call)));
            if !has_more {
                return Ok(Some(parts));
            }
        }
    }

    /// Makes the call again when a signal came in between: to leave out a part would make another message of it.
    fn until_uninterrupted(&self, mut call: impl FnMut() -> c_int) -> Result<(), i32> {
        while call() < 0 {
            match self.zmq.errno() {
                libc::EINTR => {}
                errno => return Err(errno),
            }
        }
        Ok(())
    }

    fn error(&self, operation: &'static str, errno: i32) -> LinkError {
        self.zmq.error(operation, self.place, errno)
    }
}

/// Makes `message`, which is blank, one with the contents of `part`. False: no memory, and `message` is still blank.
fn fill(call: &Functions, message: &mut RawMessage, part: &Bytes) -> bool {
    if part.len() < COPIED_BELOW {
        // SAFETY: `message` is blank; once initialised it has room for the contents, which are elsewhere.
        return unsafe {
            let is_made = (call.msg_init_size)(message, part.len()) == 0;
            if is_made {
                ptr::copy_nonoverlapping(part.as_ptr(), (call.msg_data)(message).cast(), part.len());
            }
            is_made
        };
    }
    let owner = Box::into_raw(Box::new(part.clone()));
    // SAFETY: the contents live as long as `owner`, which libzmq gives to `drop_bytes` once, when it needs them no longer;
    // it only reads them. If the call fails, it has not taken `owner`.
    unsafe {
        let data = part.as_ptr().cast_mut().cast();
        let is_made = (call.msg_init_data)(message, data, part.len(), drop_bytes, owner.cast()) == 0;
        if !is_made {
            drop(Box::from_raw(owner));
        }
        is_made
    }
}

/// libzmq needs a part no longer. Runs on any thread.
unsafe extern "C" fn drop_bytes(_data: *mut c_void, owner: *mut c_void) {
    // SAFETY: made by `Box::into_raw` in `fill`, and given back once.
    drop(unsafe { Box::from_raw(owner.cast::<Bytes>()) });
}

/// A message that was received, or will be. Boxed: it stays at its address while `Bytes` looks at its contents.
struct Part {
    message: Box<RawMessage>,
    close: unsafe extern "C" fn(*mut RawMessage) -> c_int,
    /// Contents and their size; of none before something was received.
    contents: (*const u8, usize),
}

// SAFETY: a message is a value of its own, with an atomic count where it shares its contents; libzmq itself passes them between
// threads. `close` needs no socket, and the library stays loaded.
unsafe impl Send for Part {}

impl Part {
    fn new(call: &Functions) -> Self {
        let mut message = Box::new(RawMessage::blank());
        // SAFETY: blank until now; the call never fails.
        unsafe { (call.msg_init)(&raw mut *message) };
        Self { message, close: call.msg_close, contents: (ptr::null(), 0) }
    }

    fn with_contents(mut self, call: &Functions) -> Self {
        // SAFETY: an initialised message, which stays where it is.
        self.contents = unsafe {
            ((call.msg_data)(&raw mut *self.message).cast_const().cast(), (call.msg_size)(&raw const *self.message))
        };
        self
    }
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        let (data, size) = self.contents;
        // SAFETY: the message has that many bytes there until it is closed, and nobody writes them. No bytes have no address.
        if size == 0 { &[] } else { unsafe { slice::from_raw_parts(data, size) } }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // SAFETY: initialised, and closed only here.
        unsafe { (self.close)(&raw mut *self.message) };
    }
}
