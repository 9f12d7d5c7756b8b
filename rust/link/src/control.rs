//! How the rest of the process talks to the I/O thread: a few commands, and the sockets that it gives back.
//!
//! Any thread may call; nothing here waits for the I/O thread, which looks at the commands once a round.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::wake::Wake;
use crate::{LinkError, PeerIndex};

/// A socket on its way between its maker and the I/O thread: pyzmq's `Socket.underlying`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SocketHandle(NonNull<c_void>);

// SAFETY: libzmq lets sockets go from one thread to another if there is a full fence between; whoever passes a handle passes it
// through a lock or the start of a thread. A handle can not be cloned, so one thread has it at a time.
unsafe impl Send for SocketHandle {}

impl SocketHandle {
    /// The socket at an address; `None` for 0, which is what pyzmq has once a socket is closed.
    ///
    /// # Safety
    /// The address is that of an open socket, nobody else uses or closes it before it is released, and there is one handle.
    pub unsafe fn from_address(address: usize) -> Option<Self> {
        NonNull::new(address as *mut c_void).map(Self)
    }

    /// The address, by which the maker of the socket finds it again.
    pub fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }

    pub(crate) fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }
}

/// What the I/O thread is asked to do, in order.
pub(crate) enum Command {
    Connect(PeerIndex, SocketHandle),
    Disconnect(PeerIndex),
    Stop,
}

#[derive(Default)]
struct Shared {
    commands: Vec<Command>,
    released: Vec<SocketHandle>,
    /// The thread has ended: nobody takes commands any more.
    is_over: bool,
}

/// The handle of a link's I/O thread.
pub struct LinkControl {
    wake: Wake,
    shared: Mutex<Shared>,
}

impl LinkControl {
    /// For one link, whose thread may be started later: commands wait for it.
    ///
    /// # Errors
    /// [`LinkError::System`] if the process has no file descriptor left.
    pub fn new() -> Result<Self, LinkError> {
        Ok(Self { wake: Wake::new()?, shared: Mutex::default() })
    }

    /// From now on what is for `peer` goes by this socket. The one before is released; what it had not sent may be lost, and
    /// [`Machine::connected`](crate::Machine::connected) says when.
    pub fn connect(&self, peer: PeerIndex, socket: SocketHandle) {
        self.command(Command::Connect(peer, socket));
    }

    /// Nothing is asked for or sent to `peer` any more; its socket is released.
    pub fn disconnect(&self, peer: PeerIndex) {
        self.command(Command::Disconnect(peer));
    }

    /// Ends the thread after its round. All sockets are released; libzmq goes on sending what it has, as long as their linger
    /// says.
    pub fn stop(&self) {
        self.command(Command::Stop);
    }

    /// There is something to send: makes the thread ask the [`Machine`](crate::Machine) after what was published before this
    /// call. A few nanoseconds while the thread is awake.
    #[inline]
    pub fn wake(&self) {
        self.wake.wake();
    }

    /// The sockets that the thread uses no longer, each once: they are the caller's to close.
    pub fn take_released(&self) -> Vec<SocketHandle> {
        std::mem::take(&mut self.lock().released)
    }

    /// Whether the thread has ended, and all sockets were released.
    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }

    fn command(&self, command: Command) {
        let mut shared = self.lock();
        match command {
            // Else the socket would belong to nobody.
            Command::Connect(_, socket) if shared.is_over => shared.released.push(socket),
            _ => shared.commands.push(command),
        }
        drop(shared);
        self.wake.wake();
    }

    pub(crate) fn take_commands(&self) -> Vec<Command> {
        std::mem::take(&mut self.lock().commands)
    }

    pub(crate) fn release(&self, socket: SocketHandle) {
        self.lock().released.push(socket);
    }

    /// The thread ends with these sockets; what was still on its way to it is released too.
    pub(crate) fn end(&self, sockets: impl Iterator<Item = SocketHandle>) {
        let mut shared = self.lock();
        shared.is_over = true;
        let late = std::mem::take(&mut shared.commands).into_iter().filter_map(|command| match command {
            Command::Connect(_, socket) => Some(socket),
            Command::Disconnect(_) | Command::Stop => None,
        });
        shared.released.extend(sockets.chain(late));
        drop(shared);
        self.wake.close();
    }

    pub(crate) fn bell(&self) -> &Wake {
        &self.wake
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
