//! The I/O thread of a worker: one loop that owns all sockets.
//!
//! A round: commands, read, timers, write. It reads always, whatever becomes of what it sends, so that two workers never wait for
//! each other's buffers. A peer whose socket has no room keeps the message it was to get, and is asked again when there is room;
//! meanwhile the others are served. Reading and writing to one peer are bounded per round, so that none starves the rest.
//!
//! A round in which nothing happened is followed by an announcement, another round, and sleep (see [`wake`](crate::wake)) until a
//! message, room, a wake-up or the time that the [`Machine`] gave. It does not spin before: 20 to 500 empty rounds more made a
//! round trip on two cores slower (ipc 27 → 28 to 35 µs, tcp 29 → 36 to 41 µs), because they take the core from who answers.
//!
//! The thread ends by [`LinkControl::stop`] or an error, never silently: [`Link::spawn`] takes what is to be done then.

use std::mem;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use crate::control::Command;
use crate::zmq::{PollItem, Sent, Socket, Zmq};
use crate::{LinkControl, LinkError, PeerIndex, Place, SocketHandle, quiet};

/// Messages read in a round, and messages written to one peer in a round.
const BURST: usize = 64;

/// Frames are decoded elsewhere; nothing here recurses.
const STACK_BYTES: usize = 1 << 20;

/// What the link carries: which messages, and what they mean. Called by the I/O thread only, and it holds up all links of the
/// worker while it runs.
pub trait Machine {
    /// One message came in on the inbound socket.
    fn receive(&mut self, parts: Vec<Bytes>, now_ns: u64);

    /// The next message for this peer, or `None` if there is nothing to send now. Asked again in every round, and after
    /// [`LinkControl::wake`]. Not asked while the peer has no socket or the message before has found no room.
    fn transmit(&mut self, peer: PeerIndex, now_ns: u64) -> Option<Vec<Bytes>>;

    /// Timers; called in every round between reading and writing. Returns when it wants to be called at the latest, on the same
    /// clock; a time that is past keeps the thread awake. The thread sleeps whole milliseconds, so it may be one late.
    fn tick(&mut self, now_ns: u64) -> Option<u64>;

    /// A new socket carries what is transmitted to `peer` from now on. Messages that were transmitted before may be lost, also
    /// the one that had found no room. Called before the peer is asked for a message again.
    fn connected(&mut self, _peer: PeerIndex, _now_ns: u64) {}
}

/// A peer as the loop sees it.
#[derive(Default)]
struct Outbound {
    socket: Option<Socket>,
    /// Taken from the machine, refused by the socket: goes first when there is room.
    blocked: Option<Vec<Bytes>>,
}

/// A link that is not running yet.
pub struct Link<M, C> {
    sockets: Sockets,
    machine: M,
    clock: C,
}

/// All sockets; however the loop ends, also by a panic of the machine, they are released.
struct Sockets {
    zmq: Arc<Zmq>,
    control: Arc<LinkControl>,
    inbound: Option<Socket>,
    peers: Vec<Outbound>,
}

impl<M: Machine, C: FnMut() -> u64> Link<M, C> {
    /// A link that receives on `inbound`, obeys `control` (which no other link has) and reads the time in ns from `clock`.
    pub fn new(zmq: Arc<Zmq>, inbound: SocketHandle, control: Arc<LinkControl>, machine: M, clock: C) -> Self {
        let inbound = Some(Socket::new(Arc::clone(&zmq), inbound, Place::Inbound));
        Self { sockets: Sockets { zmq, control, inbound, peers: Vec::new() }, machine, clock }
    }

    /// Runs the loop on the calling thread until it is stopped or fails. All sockets are released when this returns.
    pub fn run(self) -> (M, Result<(), LinkError>) {
        let Self { mut sockets, mut machine, mut clock } = self;
        let result = sockets.serve(&mut machine, &mut clock);
        drop(sockets);
        (machine, result)
    }

    /// Runs the loop on a thread of its own, which takes no signals, and then `ended` there.
    ///
    /// # Errors
    /// [`LinkError::System`] if there can be no more threads; the sockets are released then.
    pub fn spawn(
        self,
        ended: impl FnOnce(M, Result<(), LinkError>) + Send + 'static,
    ) -> Result<JoinHandle<()>, LinkError>
    where
        M: Send + 'static,
        C: Send + 'static,
    {
        quiet::spawn("rainband-link", STACK_BYTES, move || {
            let (machine, result) = self.run();
            ended(machine, result);
        })
    }
}

impl Sockets {
    fn serve(&mut self, machine: &mut impl Machine, clock: &mut impl FnMut() -> u64) -> Result<(), LinkError> {
        let mut is_announced = false;
        loop {
            let now_ns = clock();
            let Some(mut is_busy) = self.obey(machine, now_ns) else { return Ok(()) };
            is_busy |= self.read(machine, now_ns)?;
            // Before writing: what a timer wants to send is sent in this round, which may be the last before sleep.
            let wanted_ns = machine.tick(now_ns);
            is_busy |= self.write(machine, now_ns)?;
            if is_busy || wanted_ns.is_some_and(|at| at <= now_ns) {
                if mem::take(&mut is_announced) {
                    self.control.bell().rise();
                }
            } else if is_announced {
                self.sleep(wanted_ns.map(|at| Duration::from_nanos(at - now_ns)))?;
                is_announced = false;
            } else {
                self.control.bell().announce();
                is_announced = true;
            }
        }
    }

    /// Carries out what was asked for. `None`: the end. Otherwise whether there was anything.
    fn obey(&mut self, machine: &mut impl Machine, now_ns: u64) -> Option<bool> {
        let commands = self.control.take_commands();
        let is_busy = !commands.is_empty();
        let mut commands = commands.into_iter();
        while let Some(command) = commands.next() {
            match command {
                Command::Connect(peer, handle) => {
                    let socket = Socket::new(Arc::clone(&self.zmq), handle, Place::Peer(peer));
                    self.replace(peer, Some(socket));
                    machine.connected(peer, now_ns);
                }
                Command::Disconnect(peer) => self.replace(peer, None),
                Command::Stop => {
                    self.release_late(commands);
                    return None;
                }
            }
        }
        Some(is_busy)
    }

    fn replace(&mut self, peer: PeerIndex, socket: Option<Socket>) {
        if self.peers.len() <= peer.index() {
            self.peers.resize_with(peer.index() + 1, Outbound::default);
        }
        let before = mem::replace(&mut self.peers[peer.index()], Outbound { socket, blocked: None });
        if let Some(socket) = before.socket {
            self.control.release(socket.into_handle());
        }
    }

    /// Commands that came together with the end, behind it.
    fn release_late(&self, commands: impl Iterator<Item = Command>) {
        for command in commands {
            if let Command::Connect(_, handle) = command {
                self.control.release(handle);
            }
        }
    }

    /// Hands over what has arrived. Returns whether there was anything.
    fn read(&mut self, machine: &mut impl Machine, now_ns: u64) -> Result<bool, LinkError> {
        let Some(inbound) = &mut self.inbound else { return Ok(false) };
        for count in 0..BURST {
            match inbound.recv()? {
                Some(parts) => machine.receive(parts, now_ns),
                None => return Ok(count > 0),
            }
        }
        Ok(true)
    }

    /// Sends to every peer what there is for it, as far as there is room. Returns whether anything was sent.
    fn write(&mut self, machine: &mut impl Machine, now_ns: u64) -> Result<bool, LinkError> {
        let mut has_sent = false;
        for (index, peer) in self.peers.iter_mut().enumerate() {
            let Some(socket) = &mut peer.socket else { continue };
            for _ in 0..BURST {
                let waiting = peer.blocked.take();
                let Some(parts) = waiting.or_else(|| machine.transmit(PeerIndex(index as u32), now_ns)) else { break };
                match socket.send(&parts)? {
                    Sent::Taken => has_sent = true,
                    Sent::WouldBlock => {
                        peer.blocked = Some(parts);
                        break;
                    }
                }
            }
        }
        Ok(has_sent)
    }

    /// Waits for a message, a wake-up, or room for what found none.
    fn sleep(&self, time: Option<Duration>) -> Result<(), LinkError> {
        let bell = self.control.bell();
        let Some(event) = bell.event() else { return Ok(()) };
        let mut items = vec![PollItem::readable_fd(event.as_fd())];
        items.extend(self.inbound.iter().map(PollItem::readable));
        let blocked = self.peers.iter().filter(|peer| peer.blocked.is_some());
        items.extend(blocked.filter_map(|peer| peer.socket.as_ref()).map(PollItem::writable));
        let result = self.zmq.poll(&mut items, time);
        bell.rise();
        if items[0].is_ready() {
            bell.clear();
        }
        result
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let peers = mem::take(&mut self.peers).into_iter().filter_map(|peer| peer.socket);
        let sockets = self.inbound.take().into_iter().chain(peers);
        self.control.end(sockets.map(Socket::into_handle));
    }
}
