//! Threads that take no signals.
//!
//! A signal that asks the process for something (SIGINT, SIGTERM, SIGCHLD, …) is Python's; delivered to a thread of ours it would
//! only interrupt a wait. What a fault in the thread itself raises stays unblocked: `faulthandler` reports it.

use std::mem::MaybeUninit;
use std::thread::{Builder, JoinHandle};

use crate::LinkError;

/// Starts a thread that has these signals blocked from its first instruction on.
pub fn spawn<T: Send + 'static>(
    name: &str,
    stack_bytes: usize,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, LinkError> {
    let caller = block();
    // The new thread inherits the mask; blocking in the thread itself would leave a moment in which it takes signals.
    let spawned = Builder::new().name(name.into()).stack_size(stack_bytes).spawn(body);
    // SAFETY: `caller` was filled by `block`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const caller, std::ptr::null_mut()) };
    spawned.map_err(|error| LinkError::of_io("pthread_create", &error))
}

/// Blocks what is not the thread's own fault; returns the mask there was.
fn block() -> libc::sigset_t {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` fills `all`, `pthread_sigmask` fills `before`; neither fails for valid arguments.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGTRAP] {
            libc::sigdelset(all.as_mut_ptr(), fault);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    }
}
