//! How the I/O thread is woken: an eventfd beside the sockets it waits for, and a flag that says whether anyone needs to write it.
//!
//! Any thread may call [`Wake::wake`]; the others are the sleeper's own. While the sleeper is awake, waking it costs a fence and
//! the load of a flag that nobody writes.
//!
//! No wake-up is lost if both sides keep the order, which is Dekker's:
//! ```text
//!   producer                          sleeper
//!   1 publish the work                1 announce()       is_asleep = true, fence
//!   2 wake(): fence, is_asleep?       2 look for work once more, everywhere
//!       true: false, write eventfd    3 poll(eventfd, …), then rise()
//! ```
//! Of two sequentially consistent fences one is first. Is it the producer's, the sleeper's second look (2) sees the work; is it
//! the sleeper's, the producer sees the flag. Without the fences both could read the old value. Only one of many producers
//! writes the eventfd: the one that takes the flag down.
//!
//! The sleeper gives the descriptor back when it sleeps no more: who holds the bell only to ring it may hold it for long, a
//! Python traceback for instance.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::LinkError;

/// The bell of one sleeping thread. On a cache line of its own, so that waking does not touch what others write.
#[derive(Debug)]
#[repr(align(64))]
pub struct Wake {
    is_asleep: AtomicBool,
    /// `None` once the sleeper sleeps no more. Locked by those who ring, which is rare, and for no longer than a `write`.
    event: Mutex<Option<Arc<OwnedFd>>>,
}

impl Wake {
    /// A bell for a thread that is awake.
    ///
    /// # Errors
    /// [`LinkError::System`] if the process has no file descriptor left.
    pub fn new() -> Result<Self, LinkError> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(LinkError::last_of("eventfd"));
        }
        // SAFETY: just made, owned by nobody else.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { is_asleep: AtomicBool::new(false), event: Mutex::new(Some(Arc::new(event))) })
    }

    /// Makes the sleeper look for work that was published before this call. Any thread; does not block.
    #[inline]
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed) {
            self.ring();
        }
    }

    #[cold]
    fn ring(&self) {
        if self.is_asleep.swap(false, Ordering::Relaxed)
            && let Some(event) = &*self.lock()
        {
            let one = 1_u64;
            // SAFETY: writes 8 bytes of `one`. It fails only if the counter is full, and then the eventfd is readable anyway.
            unsafe { libc::write(event.as_raw_fd(), (&raw const one).cast(), 8) };
        }
    }

    /// The sleeper says that it is about to sleep. It must look for work once more before it does.
    pub fn announce(&self) {
        self.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The sleeper is awake, or found work after all. An eventfd that was written in between ends the next sleep at once.
    pub fn rise(&self) {
        self.is_asleep.store(false, Ordering::Relaxed);
    }

    /// Takes back what was written, if [`Self::event`] was found readable.
    pub fn clear(&self) {
        if let Some(event) = &*self.lock() {
            let mut count = 0_u64;
            // SAFETY: reads 8 bytes into `count`; does not block.
            unsafe { libc::read(event.as_raw_fd(), (&raw mut count).cast(), 8) };
        }
    }

    /// What becomes readable when the sleeper is woken; `None` after [`Self::close`].
    pub fn event(&self) -> Option<Arc<OwnedFd>> {
        self.lock().clone()
    }

    /// The sleeper sleeps no more: the descriptor is given back, and waking does nothing.
    pub fn close(&self) {
        self.rise();
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.event.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
