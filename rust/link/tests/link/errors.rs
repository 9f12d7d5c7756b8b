//! The text of every error, and those of opening.

use std::path::Path;

use rainband_link::{LinkError, PeerIndex, Place, Zmq};

#[test]
fn every_error_has_its_text() {
    let inbound = Place::Inbound;
    let peer = Place::Peer(PeerIndex(3));
    let cases = [
        (LinkError::Library { path: "/a/b.so".into(), reason: "why".into() }, "no libzmq in /a/b.so: why"),
        (
            LinkError::TooOld { path: "/a/b.so".into(), version: (4, 2, 1) },
            "libzmq 4.2.1 of /a/b.so is too old; at least 4.3.5 is needed, install a newer pyzmq",
        ),
        (
            LinkError::Terminated { place: Place::Poll },
            "the ZeroMQ context of the sockets of the link was terminated while it was in use",
        ),
        (
            LinkError::NotASocket { place: peer },
            "the socket to worker 3 is no socket: it was closed before it was released",
        ),
        (
            LinkError::Zmq { operation: "zmq_msg_recv", place: inbound, errno: 14, text: "Bad address".into() },
            "zmq_msg_recv() failed on the inbound socket: Bad address (errno 14)",
        ),
        (LinkError::System { operation: "eventfd", errno: 24 }, "eventfd() failed: Too many open files (os error 24)"),
    ];
    for (error, text) in cases {
        // A variant that is added makes this fail to compile until it has a case above.
        match &error {
            LinkError::Library { .. }
            | LinkError::TooOld { .. }
            | LinkError::Terminated { .. }
            | LinkError::NotASocket { .. }
            | LinkError::Zmq { .. }
            | LinkError::System { .. } => {}
        }
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn what_is_no_libzmq_is_refused() {
    for path in ["/nowhere/libzmq.so", "/dev/null", "nul\0byte"] {
        let Err(LinkError::Library { path: named, reason }) = Zmq::open(Path::new(path)) else {
            panic!("{path} opens")
        };
        assert_eq!(named, Path::new(path));
        assert!(!reason.is_empty());
    }
    let Err(LinkError::Library { reason, .. }) = Zmq::open(Path::new("libc.so.6")) else { panic!("libc is no libzmq") };
    assert!(reason.contains("zmq_errno"), "{reason}");
}
