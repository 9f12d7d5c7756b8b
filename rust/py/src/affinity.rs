//! On which core a thread may wake up. Linux; elsewhere hand-overs leave the core alone.
//!
//! A woken thread is restricted to its waker's core for the moment of waking and lifts that itself (see `turn`), so the mask
//! that a thread has while user code runs is always the one that the process had at the start.

use std::sync::OnceLock;

struct Allowed(libc::cpu_set_t);

static ALLOWED: OnceLock<Option<Allowed>> = OnceLock::new();

/// The cores this process may use, read once. `None` if that cannot be found out or is a single core.
fn allowed() -> Option<&'static Allowed> {
    ALLOWED
        .get_or_init(|| {
            // SAFETY: `set` is a plain bit mask that the call fills; 0 is the calling thread.
            unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                let read = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set);
                (read == 0 && libc::CPU_COUNT(&set) > 1).then_some(Allowed(set))
            }
        })
        .as_ref()
}

/// Whether threads can be restricted here, and there is a choice of cores.
pub fn is_available() -> bool {
    allowed().is_some()
}

/// The kernel's id of the calling thread.
pub fn thread_id() -> libc::pid_t {
    // SAFETY: no arguments, no failure.
    unsafe { libc::gettid() }
}

/// Restricts thread `tid` to the core that the caller runs on. Returns whether it is restricted now.
pub fn restrict_to_my_core(tid: libc::pid_t) -> bool {
    // SAFETY: `set` is a plain bit mask; `CPU_SET` ignores a core beyond its size. A `tid` that is gone makes the call fail.
    unsafe {
        let core = libc::sched_getcpu();
        if core < 0 {
            return false;
        }
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core as usize, &mut set);
        libc::sched_setaffinity(tid, size_of::<libc::cpu_set_t>(), &raw const set) == 0
    }
}

/// Lets the calling thread run on every core of the process again.
pub fn unrestrict() {
    if let Some(Allowed(set)) = allowed() {
        // SAFETY: `set` was filled by the kernel; 0 is the calling thread.
        unsafe {
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const *set);
        }
    }
}
