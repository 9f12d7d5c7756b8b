//! On which core the executors that take turns run. Linux; elsewhere the kernel decides alone.
//!
//! An executor that takes turns is kept on the home core while it holds the turn (see `turn`). Nothing that user code starts may
//! inherit that: before Python starts a thread or a process, or imports a module (which may start a pool of its own), an audit
//! hook lifts the restriction of the calling executor until its next turn. What starts threads behind Python's back (a native
//! pool made in the middle of a call) is found and freed by the timer, which looks at the threads and children of the process.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::turn::Seat;

#[derive(Clone, Copy)]
struct Mask(libc::cpu_set_t);

static ALLOWED: OnceLock<Option<Mask>> = OnceLock::new();

thread_local! {
    /// The seat of this thread if it is an executor's.
    static SEAT: RefCell<Option<Seat>> = const { RefCell::new(None) };
}

/// The cores this process may use, read once. `None` if that cannot be found out or is a single core.
fn allowed() -> Option<&'static Mask> {
    ALLOWED.get_or_init(|| mask_of(0).filter(|mask| count(mask) > 1)).as_ref()
}

fn mask_of(tid: libc::pid_t) -> Option<Mask> {
    // SAFETY: `set` is a plain bit mask that the call fills; 0 is the calling thread, a thread that is gone makes it fail.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (libc::sched_getaffinity(tid, size_of::<libc::cpu_set_t>(), &raw mut set) == 0).then_some(Mask(set))
    }
}

fn count(mask: &Mask) -> i32 {
    // SAFETY: counts bits of a plain mask.
    unsafe { libc::CPU_COUNT(&mask.0) }
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

/// The core that the caller runs on; negative if unknown.
pub fn current_core() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::sched_getcpu() }
}

/// The core for worker number `worker` of several on this machine: the cores of the process in turn.
pub fn core_of_worker(worker: usize) -> Option<i32> {
    let Mask(set) = allowed()?;
    // SAFETY: reads bits of a plain mask; a core beyond its size is not in it.
    let mut cores = (0..libc::CPU_SETSIZE).filter(|core| unsafe { libc::CPU_ISSET(*core as usize, set) });
    let count = cores.clone().count();
    cores.nth(worker % count)
}

/// Restricts the calling thread to `core`. Returns whether that worked.
pub fn pin(core: i32) -> bool {
    // SAFETY: `set` is a plain bit mask; `CPU_SET` ignores a core beyond its size; 0 is the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core as usize, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
    }
}

/// Lets thread `tid` (0: the caller) run on every core of the process.
pub fn unpin(tid: libc::pid_t) {
    if let Some(Mask(set)) = allowed() {
        // SAFETY: `set` was filled by the kernel; a `tid` that is gone makes the call fail, which is as good.
        unsafe {
            libc::sched_setaffinity(tid, size_of::<libc::cpu_set_t>(), &raw const *set);
        }
    }
}

/// Notes that the calling thread is the executor with this seat, for the audit hook.
pub fn enter_executor(seat: Option<Seat>) {
    SEAT.with(|own| *own.borrow_mut() = seat);
}

/// Events before which user code may start something that inherits the mask of the thread.
const STARTERS: [&CStr; 11] = [
    c"import",
    c"_thread.start_new_thread",
    c"_thread.start_joinable_thread",
    c"subprocess.Popen",
    c"os.fork",
    c"os.forkpty",
    c"os.posix_spawn",
    c"os.system",
    c"os.spawn",
    c"os.exec",
    c"ctypes.dlopen",
];

type Hook = unsafe extern "C" fn(*const c_char, *mut ffi::PyObject, *mut c_void) -> c_int;

unsafe extern "C" {
    /// Not among the bindings of `PyO3`; stable since Python 3.8.
    fn PySys_AddAuditHook(hook: Option<Hook>, data: *mut c_void) -> c_int;
}

unsafe extern "C" fn hook(event: *const c_char, _args: *mut ffi::PyObject, _data: *mut c_void) -> c_int {
    SEAT.with(|seat| {
        let Ok(seat) = seat.try_borrow() else { return };
        let Some(seat) = seat.as_ref().filter(|seat| seat.is_pinned()) else { return };
        // SAFETY: the interpreter passes a string that lives for the call.
        let event = unsafe { CStr::from_ptr(event) };
        if STARTERS.contains(&event) {
            seat.unpin();
        }
    });
    0
}

/// Lets the calling thread run on every core until its next turn, if it is an executor; `homecore.py` calls it where no audit
/// event is raised.
#[pyfunction]
pub fn _free_core() {
    SEAT.with(|seat| {
        if let Ok(seat) = seat.try_borrow()
            && let Some(seat) = seat.as_ref()
        {
            seat.unpin();
        }
    });
}

/// Installs the audit hook, once for the process: hooks cannot be taken out again. Outside of executors it does nothing.
pub fn watch_starts(_py: Python<'_>) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: attached; the hook is a plain function that neither keeps its arguments nor calls Python.
        unsafe {
            PySys_AddAuditHook(Some(hook), std::ptr::null_mut());
        }
    });
}

/// Frees threads and children of this process that inherited a single core of ours: all but those in `own`.
pub fn free_strangers(home: i32, own: &[libc::pid_t]) {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return };
    for task in tasks.flatten() {
        let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if own.contains(&tid) {
            let Ok(children) = std::fs::read_to_string(task.path().join("children")) else { continue };
            children
                .split_ascii_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .for_each(|pid| free_if_home(home, pid));
        } else {
            free_if_home(home, tid);
        }
    }
}

fn free_if_home(home: i32, tid: libc::pid_t) {
    // SAFETY: reads a bit of a plain mask.
    let is_home =
        mask_of(tid).is_some_and(|mask| count(&mask) == 1 && unsafe { libc::CPU_ISSET(home as usize, &mask.0) });
    if is_home {
        unpin(tid);
    }
}

/// How long thread `tid` has waited for a core although it could run, in ns.
pub fn run_delay_ns(tid: libc::pid_t) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).unwrap_or_default();
    text.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0)
}
