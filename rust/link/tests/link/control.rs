//! Commands while no thread takes them.

use std::sync::Arc;

use rainband_link::{Link, LinkControl, Machine, PeerIndex, SocketHandle};

use crate::libzmq::{Context, PULL, PUSH};

struct Idle;

impl Machine for Idle {
    fn receive(&mut self, _parts: Vec<bytes::Bytes>, _now_ns: u64) {}

    fn transmit(&mut self, _peer: PeerIndex, _now_ns: u64) -> Option<Vec<bytes::Bytes>> {
        None
    }

    fn tick(&mut self, _now_ns: u64) -> Option<u64> {
        None
    }
}

#[test]
fn commands_wait_for_the_thread_and_keep_their_order() {
    let context = Context::new();
    let control = Arc::new(LinkControl::new().unwrap());
    let handles = [0; 4].map(|_| context.socket(PUSH, &[]).hand_over());
    let places = handles.each_ref().map(SocketHandle::address);
    let [first, second, third, behind_the_end] = handles;
    control.connect(PeerIndex(0), first);
    control.connect(PeerIndex(0), second);
    control.disconnect(PeerIndex(0));
    control.connect(PeerIndex(5), third);
    control.stop();
    control.connect(PeerIndex(0), behind_the_end);
    let inbound = context.socket(PULL, &[]).hand_over();
    let inbound_place = inbound.address();
    let link = Link::new(Arc::clone(&context.zmq), inbound, Arc::clone(&control), Idle, || 0);
    assert_eq!(link.run().1, Ok(()));
    let released: Vec<usize> = control.take_released().iter().map(SocketHandle::address).collect();
    assert_eq!(released, [places[0], places[1], places[3], inbound_place, places[2]]);
}

#[test]
fn a_link_that_never_runs_gives_its_sockets_back() {
    let context = Context::new();
    let control = Arc::new(LinkControl::new().unwrap());
    control.connect(PeerIndex(0), context.socket(PUSH, &[]).hand_over());
    let inbound = context.socket(PULL, &[]).hand_over();
    drop(Link::new(Arc::clone(&context.zmq), inbound, Arc::clone(&control), Idle, || 0));
    assert!(control.is_over());
    assert_eq!(control.take_released().len(), 2);
}

#[test]
fn a_closed_socket_of_pyzmq_has_no_handle() {
    // SAFETY: 0 is never an address.
    assert!(unsafe { SocketHandle::from_address(0) }.is_none());
}
