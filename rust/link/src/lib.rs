//! Links between the workers of a topology: ZeroMQ sockets and the thread that owns them. Bytes and peers, no Python.
//!
//! Python makes the sockets and configures them (addresses, keys, limits); their raw pointers come here and are used by the
//! thread of [`thread`] alone, through [`zmq`], the only module that knows libzmq. What to send and what a message means, the
//! [`Machine`] knows. [`control`] is how the rest of the process talks to the thread, [`wake`] how it is woken, [`watch`] what
//! ends the process when its parent is gone.
//!
//! Rules that hold everywhere in here:
//! - The thread never attaches to Python, and nothing that it or libzmq drops may own a Python object: buffers are freed on
//!   threads of libzmq.
//! - Links lose messages in ordinary faults (a receiver that dies, a connection that is cut). Whatever must arrive is kept by
//!   the [`Machine`] until its receiver has said so.
//! - A socket is closed by Python, which made it, and only after it was released here.
#![deny(missing_docs)]

pub mod control;
mod error;
mod quiet;
pub mod thread;
pub mod wake;
pub mod watch;
pub mod zmq;

pub use control::{LinkControl, SocketHandle};
pub use error::{LinkError, Place};
pub use thread::{Link, Machine};
pub use watch::watch_parent;
pub use zmq::Zmq;

/// Another worker of the topology; dense, counted like the workers of the placement, own place included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerIndex(pub u32);

impl PeerIndex {
    /// The position in a vector over peers.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
