//! What can go wrong on a link. Every variant but those of [`Zmq::open`](crate::Zmq::open) and of starting ends the thread.

use std::fmt;
use std::path::PathBuf;

use crate::PeerIndex;

/// Where a call of libzmq failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The socket that messages come in by.
    Inbound,
    /// The socket to this peer.
    Peer(PeerIndex),
    /// While waiting for any of them.
    Poll,
}

/// Why there is no link, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// The file cannot be loaded, or lacks a function of libzmq.
    Library {
        /// The file that was asked for.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },
    /// That libzmq is older than what this crate was written for.
    TooOld {
        /// Where it was found.
        path: PathBuf,
        /// Its version.
        version: (i32, i32, i32),
    },
    /// The ZeroMQ context was terminated while its sockets were in use.
    Terminated {
        /// The socket where that was seen.
        place: Place,
    },
    /// What should be a socket is none: it was closed by someone else, or never was one.
    NotASocket {
        /// The socket.
        place: Place,
    },
    /// Another failure of libzmq.
    Zmq {
        /// The function that failed.
        operation: &'static str,
        /// The socket it was called on.
        place: Place,
        /// The number that libzmq gives.
        errno: i32,
        /// What libzmq says about it.
        text: String,
    },
    /// The system refused what the link needs: a file descriptor, a thread.
    System {
        /// The call that failed.
        operation: &'static str,
        /// The system's number.
        errno: i32,
    },
}

impl LinkError {
    /// The last error of the system, of this call.
    pub(crate) fn last_of(operation: &'static str) -> Self {
        Self::of_io(operation, &std::io::Error::last_os_error())
    }

    pub(crate) fn of_io(operation: &'static str, error: &std::io::Error) -> Self {
        Self::System { operation, errno: error.raw_os_error().unwrap_or(0) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inbound => f.write_str("the inbound socket"),
            Self::Peer(PeerIndex(index)) => write!(f, "the socket to worker {index}"),
            Self::Poll => f.write_str("the sockets of the link"),
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library { path, reason } => write!(f, "no libzmq in {}: {reason}", path.display()),
            Self::TooOld { path, version: (major, minor, patch) } => {
                let (wanted_major, wanted_minor, wanted_patch) = crate::zmq::OLDEST;
                write!(
                    f,
                    "libzmq {major}.{minor}.{patch} of {} is too old; at least {wanted_major}.{wanted_minor}.{wanted_patch} \
                     is needed, install a newer pyzmq",
                    path.display()
                )
            }
            Self::Terminated { place } => write!(f, "the ZeroMQ context of {place} was terminated while it was in use"),
            Self::NotASocket { place } => write!(f, "{place} is no socket: it was closed before it was released"),
            Self::Zmq { operation, place, errno, text } => {
                write!(f, "{operation}() failed on {place}: {text} (errno {errno})")
            }
            Self::System { operation, errno } => {
                write!(f, "{operation}() failed: {}", std::io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl std::error::Error for LinkError {}
