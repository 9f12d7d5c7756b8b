//! A link with a machine as simple as can be: queues of messages to send, a list of what arrived.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use rainband_link::{Link, LinkControl, LinkError, Machine, PeerIndex, SocketHandle};

use crate::libzmq::{Context, PULL, PUSH, SNDHWM};
use crate::{DEADLINE, wait_until};

type Message = Vec<Bytes>;

/// What test and machine share.
#[derive(Default)]
pub struct Desk {
    outgoing: [Mutex<VecDeque<Message>>; 3],
    arrived: Mutex<VecDeque<Message>>,
    has_arrived: Condvar,
    pub connected: Mutex<Vec<PeerIndex>>,
    pub ticks: AtomicU64,
    /// How long after a tick the next is wanted; 0: none.
    pub tick_ns: AtomicU64,
    ended: Mutex<Option<Result<(), LinkError>>>,
}

struct Clerk(Arc<Desk>);

impl Machine for Clerk {
    fn receive(&mut self, parts: Message, _now_ns: u64) {
        assert_ne!(parts[0], "panic");
        self.0.arrived.lock().unwrap().push_back(parts);
        self.0.has_arrived.notify_one();
    }

    fn transmit(&mut self, peer: PeerIndex, _now_ns: u64) -> Option<Message> {
        self.0.outgoing[peer.index()].lock().unwrap().pop_front()
    }

    fn tick(&mut self, now_ns: u64) -> Option<u64> {
        self.0.ticks.fetch_add(1, Ordering::Relaxed);
        let period = self.0.tick_ns.load(Ordering::Relaxed);
        (period > 0).then_some(now_ns + period)
    }

    fn connected(&mut self, peer: PeerIndex, _now_ns: u64) {
        self.0.connected.lock().unwrap().push(peer);
    }
}

pub struct Worker {
    pub address: String,
    pub control: Arc<LinkControl>,
    pub desk: Arc<Desk>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// One that receives at this address.
    pub fn start(context: &Context, address: &str) -> Self {
        let inbound = context.socket(PULL, &[]);
        let address = inbound.bind(address);
        Self { address, ..Self::with_inbound(context, inbound.hand_over()) }
    }

    pub fn with_inbound(context: &Context, inbound: SocketHandle) -> Self {
        let control = Arc::new(LinkControl::new().unwrap());
        let desk = Arc::new(Desk::default());
        let start = Instant::now();
        let clock = move || start.elapsed().as_nanos() as u64;
        let link = Link::new(Arc::clone(&context.zmq), inbound, Arc::clone(&control), Clerk(Arc::clone(&desk)), clock);
        let thread = link.spawn(|clerk, result| *clerk.0.ended.lock().unwrap() = Some(result)).unwrap();
        Self { address: String::new(), control, desk, thread }
    }

    /// Makes a socket to an address that this worker's peer has.
    pub fn connect(&self, context: &Context, peer: u32, address: &str, room: i32) -> usize {
        let socket = context.socket(PUSH, &[(SNDHWM, room)]).connect(address).hand_over();
        let place = socket.address();
        self.control.connect(PeerIndex(peer), socket);
        place
    }

    pub fn send(&self, peer: u32, message: Message) {
        self.desk.outgoing[peer as usize].lock().unwrap().push_back(message);
        self.control.wake();
    }

    /// Messages for this peer that the link has not taken.
    pub fn waiting(&self, peer: u32) -> usize {
        self.desk.outgoing[peer as usize].lock().unwrap().len()
    }

    /// The next message that arrives, which must.
    pub fn next(&self) -> Message {
        let arrived = self.desk.arrived.lock().unwrap();
        let (mut arrived, _) =
            self.desk.has_arrived.wait_timeout_while(arrived, DEADLINE, |queue| queue.is_empty()).unwrap();
        arrived.pop_front().expect("nothing arrives")
    }

    pub fn has_message(&self) -> bool {
        !self.desk.arrived.lock().unwrap().is_empty()
    }

    /// How the thread ended, which it must have been told to.
    pub fn result(&self) -> Result<(), LinkError> {
        wait_until("the thread has ended", || self.desk.ended.lock().unwrap().is_some());
        self.desk.ended.lock().unwrap().clone().expect("just seen")
    }

    pub fn stop(self) -> Vec<SocketHandle> {
        self.control.stop();
        assert_eq!(self.result(), Ok(()));
        self.join().unwrap()
    }

    /// Waits for the thread; an error if it panicked.
    pub fn join(self) -> std::thread::Result<Vec<SocketHandle>> {
        self.thread.join().map(|()| self.control.take_released())
    }

    /// For a thread that panics: waits for it, whatever came of it.
    pub fn into_thread(self) -> (Arc<LinkControl>, JoinHandle<()>) {
        (self.control, self.thread)
    }
}

/// A message of one part.
pub fn text(part: impl Into<String>) -> Message {
    vec![Bytes::from(part.into())]
}
