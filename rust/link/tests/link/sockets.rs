//! Sockets without the thread: what arrives, how, and what is copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rainband_link::zmq::{COPIED_BELOW, PollItem, Sent, Socket};
use rainband_link::{PeerIndex, Place};

use crate::libzmq::{
    CURVE_PUBLICKEY, CURVE_SECRETKEY, CURVE_SERVER, CURVE_SERVERKEY, Context, LINGER, Maker, PULL, PUSH, RCVHWM,
    SNDHWM, key_pair,
};
use crate::{DEADLINE, Folder, wait_until};

const LARGE: usize = 10 << 20;

pub fn outbound(context: &Context, maker: Maker<'_>) -> Socket {
    Socket::new(Arc::clone(&context.zmq), maker.hand_over(), Place::Peer(PeerIndex(0)))
}

pub fn inbound(context: &Context, maker: Maker<'_>) -> Socket {
    Socket::new(Arc::clone(&context.zmq), maker.hand_over(), Place::Inbound)
}

/// A connected pair: out, in.
fn pair(context: &Context, address: &str) -> (Socket, Socket) {
    let receiver = context.socket(PULL, &[]);
    let address = receiver.bind(address);
    let sender = context.socket(PUSH, &[]).connect(&address);
    (outbound(context, sender), inbound(context, receiver))
}

/// The next message, waited for.
pub fn next(context: &Context, socket: &mut Socket) -> Vec<Bytes> {
    let start = Instant::now();
    loop {
        if let Some(parts) = socket.recv().unwrap() {
            return parts;
        }
        assert!(start.elapsed() < DEADLINE, "nothing arrives");
        context.zmq.poll(&mut [PollItem::readable(socket)], Some(DEADLINE)).unwrap();
    }
}

/// Bytes that tell where a piece is missing or in another place.
fn pattern(size: usize, seed: usize) -> Vec<u8> {
    (0..size).map(|index| (index ^ (index >> 8) ^ (index >> 16) ^ seed) as u8).collect()
}

/// A buffer that notes its end.
struct Noted {
    content: Vec<u8>,
    is_dropped: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Noted {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::Release);
    }
}

fn parts_arrive_intact(context: &Context, address: &str) {
    let sizes = [0, 1, 29, 33, 34, COPIED_BELOW - 1, COPIED_BELOW, 8191, 8192, 8193, 65_536, LARGE];
    let (mut out, mut into) = pair(context, address);
    let parts: Vec<Bytes> = sizes.iter().map(|size| pattern(*size, *size).into()).collect();
    for _ in 0..3 {
        assert_eq!(out.send(&parts).unwrap(), Sent::Taken);
        assert_eq!(out.send(&parts[..1]).unwrap(), Sent::Taken);
        assert!(next(context, &mut into) == parts, "the parts differ");
        assert_eq!(next(context, &mut into), [Bytes::new()]);
    }
    assert!(into.recv().unwrap().is_none());
}

#[test]
fn parts_of_all_sizes_arrive_over_ipc() {
    let folder = Folder::new();
    parts_arrive_intact(&Context::new(), &folder.ipc("pull"));
}

#[test]
fn parts_of_all_sizes_arrive_over_tcp() {
    parts_arrive_intact(&Context::new(), "tcp://127.0.0.1:*");
}

#[test]
fn neither_end_copies_a_large_part() {
    // Inside a process libzmq passes the buffer itself, so the receiver sees where it lay.
    let context = Context::new();
    let (mut out, mut into) = pair(&context, "inproc://pull");
    let part = Bytes::from(pattern(LARGE, 7));
    let small = Bytes::from(pattern(COPIED_BELOW - 1, 7));
    out.send(&[part.clone(), small.clone()]).unwrap();
    let received = next(&context, &mut into);
    assert_eq!(received[0].as_ptr(), part.as_ptr());
    assert_ne!(received[1].as_ptr(), small.as_ptr());
    let kept = received[0].slice(5..10);
    drop(received);
    assert_eq!(kept.as_ptr(), part[5..].as_ptr());
    drop(part);
    assert_eq!(kept, pattern(10, 7)[5..]);
}

#[test]
fn a_large_part_lives_until_it_is_sent() {
    let folder = Folder::new();
    let context = Context::new();
    let (mut out, mut into) = pair(&context, &folder.ipc("pull"));
    let is_dropped = Arc::new(AtomicBool::new(false));
    // More than a connection and its receiver take in before anyone reads.
    let content = pattern(LARGE, 0);
    for _ in 0..10 {
        out.send(&[content.clone().into()]).unwrap();
    }
    out.send(&[Bytes::from_owner(Noted { content: content.clone(), is_dropped: Arc::clone(&is_dropped) })]).unwrap();
    for _ in 0..11 {
        assert!(next(&context, &mut into)[0] == content, "it differs");
    }
    wait_until("libzmq gives the part back", || is_dropped.load(Ordering::Acquire));
}

#[test]
fn a_part_that_is_refused_is_given_back() {
    let context = Context::new();
    let sender = context.socket(PUSH, &[]); // Connected to nobody: there is no room.
    let mut out = outbound(&context, sender);
    let is_dropped = Arc::new(AtomicBool::new(false));
    let part = Bytes::from_owner(Noted { content: pattern(LARGE, 0), is_dropped: Arc::clone(&is_dropped) });
    let message = [part.clone(), part];
    assert_eq!(out.send(&message).unwrap(), Sent::WouldBlock);
    assert!(!is_dropped.load(Ordering::Acquire));
    drop(message);
    assert!(is_dropped.load(Ordering::Acquire));
}

#[test]
fn a_full_socket_refuses_whole_messages() {
    let folder = Folder::new();
    let context = Context::new();
    let receiver = context.socket(PULL, &[(RCVHWM, 1)]);
    let address = receiver.bind(&folder.ipc("pull"));
    let sender = context.socket(PUSH, &[(SNDHWM, 2)]).connect(&address);
    let (mut out, mut into) = (outbound(&context, sender), inbound(&context, receiver));
    let parts = |number: u32| -> Vec<Bytes> {
        (0..7_u32).map(|part| [number.to_ne_bytes(), part.to_ne_bytes()].concat().repeat(40_000).into()).collect()
    };
    let (mut sent, mut received, mut refused) = (0, 0, 0);
    while received < 40 {
        while sent < 40 && out.send(&parts(sent)).unwrap() == Sent::Taken {
            sent += 1;
        }
        refused += u32::from(sent < 40);
        assert!(next(&context, &mut into) == parts(received), "message {received} is another");
        received += 1;
        let mut room = [PollItem::writable(&out)];
        context.zmq.poll(&mut room, Some(Duration::from_millis(1))).unwrap();
    }
    assert!(refused > 5);
    assert!(into.recv().unwrap().is_none());
}

#[test]
fn a_message_arrives_whole_or_not_at_all() {
    // The sender binds: with the connection goes its pipe, also when that happens between two parts.
    const PARTS: u32 = 40;
    let folder = Folder::new();
    let context = Context::new();
    let sender = context.socket(PUSH, &[(SNDHWM, 5)]);
    let address = sender.bind(&folder.ipc("push"));
    let mut out = outbound(&context, sender);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u32;
            while !is_over.load(Ordering::Relaxed) {
                let parts: Vec<Bytes> =
                    (0..PARTS).map(|part| [number.to_ne_bytes(), part.to_ne_bytes()].concat().into()).collect();
                if out.send(&parts).unwrap() == Sent::WouldBlock {
                    context.zmq.poll(&mut [PollItem::writable(&out)], Some(Duration::from_millis(1))).unwrap();
                }
                number += 1;
            }
        });
        let mut seen = 0;
        for round in 0..300 {
            let mut into = inbound(&context, context.socket(PULL, &[(RCVHWM, 5)]).connect(&address));
            for _ in 0..=round % 7 {
                let parts = next(&context, &mut into);
                assert_eq!(parts.len() as u32, PARTS);
                for (index, part) in parts.iter().enumerate() {
                    assert_eq!(part[..4], parts[0][..4], "parts of two messages");
                    assert_eq!(part[4..], (index as u32).to_ne_bytes());
                }
                seen += 1;
            }
            context.close(&into.into_handle());
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(seen >= 300);
    });
}

#[test]
fn parts_may_outlive_their_socket_and_go_to_other_threads() {
    let folder = Folder::new();
    let context = Context::new();
    let (mut out, mut into) = pair(&context, &folder.ipc("pull"));
    let parts: Vec<Bytes> = [20, 4000, LARGE].iter().map(|size| pattern(*size, 3).into()).collect();
    out.send(&parts).unwrap();
    let received = next(&context, &mut into);
    for socket in [out, into] {
        context.close(&socket.into_handle());
    }
    drop(context);
    std::thread::spawn(move || assert!(received == parts, "the parts differ")).join().unwrap();
}

#[test]
fn a_curve_pair_works_and_others_stay_outside() {
    let context = Context::new();
    let [server_public, server_secret] = key_pair(&context.zmq);
    let [client_public, client_secret] = key_pair(&context.zmq);
    let receiver = context.socket(PULL, &[(CURVE_SERVER, 1)]);
    receiver.set(CURVE_SECRETKEY, &server_secret);
    let address = receiver.bind("tcp://127.0.0.1:*");
    let mut into = inbound(&context, receiver);

    let mut stranger = outbound(&context, context.socket(PUSH, &[]).connect(&address));
    stranger.send(&["from outside".into()]).unwrap();

    let sender = context.socket(PUSH, &[(LINGER, 1000)]);
    for (option, key) in
        [(CURVE_SERVERKEY, &server_public), (CURVE_PUBLICKEY, &client_public), (CURVE_SECRETKEY, &client_secret)]
    {
        sender.set(option, key);
    }
    let mut out = outbound(&context, sender.connect(&address));
    let message = [Bytes::from_static(b"from inside"), pattern(LARGE, 1).into()];
    out.send(&message).unwrap();
    assert!(next(&context, &mut into) == message, "another message");
    context.zmq.poll(&mut [PollItem::readable(&into)], Some(Duration::from_millis(300))).unwrap();
    assert!(into.recv().unwrap().is_none());
}

#[test]
fn poll_says_which_is_ready_and_keeps_the_time() {
    let context = Context::new();
    let (mut out, mut into) = pair(&context, "inproc://pull");
    let mut items = [PollItem::readable(&into), PollItem::writable(&out)];
    context.zmq.poll(&mut items, None).unwrap();
    assert_eq!(items.map(|item| item.is_ready()), [false, true]);

    let start = Instant::now();
    let mut items = [PollItem::readable(&into)];
    context.zmq.poll(&mut items, Some(Duration::from_micros(20_500))).unwrap();
    assert!(!items[0].is_ready());
    assert!(start.elapsed() >= Duration::from_micros(20_500), "it rounds up");

    out.send(&["a".into()]).unwrap();
    let mut items = [PollItem::readable(&into)];
    context.zmq.poll(&mut items, Some(DEADLINE)).unwrap();
    assert!(items[0].is_ready());
    assert_eq!(into.recv().unwrap().unwrap(), ["a"]);
}
