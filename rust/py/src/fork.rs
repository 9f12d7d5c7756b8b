//! After `fork` in user code the child has one thread, and locks that other threads of the parent may have held. Every call of
//! the engine in the child raises, and no destructor touches a queue (ENGINE 6.4). An engine that the child makes itself works.

use std::sync::atomic::{AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Notes forks from now on. Called whenever an engine is made.
pub fn watch() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler only adds to an atomic, which is allowed after fork.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

/// How many forks lie between this process and the first: an engine of another generation is the parent's.
#[inline]
pub fn generation() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// A child came back from user code into the loop of an executor. It must not go on as a second engine on the parent's queues,
/// and raising would only unwind into the parent's stack: it ends here, as `os._exit(0)` would have.
#[cold]
pub fn end_child() -> ! {
    eprintln!(
        "rainband: a forked child returned from user code into the engine and ends here; leave it with os._exit(), or start processes with subprocess or the spawn method"
    );
    // SAFETY: ends the process without running destructors, which might wait for locks that other threads of the parent held.
    unsafe { libc::_exit(0) }
}
