//! Ends the process when its parent is gone, whatever else the process is doing.
//!
//! The parent keeps one end of a pipe or socket pair and never writes; the system closes it when the parent dies, by whatever
//! cause. A thread here waits for that and never attaches to Python, so a call that holds the GIL for ever does not outlive the
//! parent. PDEATHSIG is no way: it fires when the *thread* that forked ends, and does not reach grandchildren.
//!
//! The parent must not let other children inherit its end: each copy keeps the watcher waiting. What left the process group
//! (`setsid` in user code) is not reached.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::{LinkError, quiet};

/// How a process that leads no group ends, as a shell would show a SIGKILL.
const EXIT_CODE: i32 = 128 + libc::SIGKILL;

const STACK_BYTES: usize = 64 * 1024;

/// Starts the watch on the inherited end `fd`. When the other end is closed, SIGKILL goes to the own process group if this
/// process leads it, else this process alone exits at once, with 137. The thread runs for the life of the process.
///
/// # Errors
/// [`LinkError::System`] if there can be no more threads.
pub fn watch_parent(fd: OwnedFd) -> Result<(), LinkError> {
    // Else a program started here would hold our end, and the parent, if it watches it, would not see us die.
    // SAFETY: changes a flag of a descriptor that is ours.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(LinkError::last_of("fcntl"));
    }
    quiet::spawn("rainband-watch", STACK_BYTES, move || {
        wait_for_end(&fd);
        end();
    })?;
    Ok(())
}

/// Returns when the other end is closed, or this one can no longer be watched: who cannot see its parent must not outlive it.
fn wait_for_end(fd: &OwnedFd) {
    let mut scratch = [0_u8; 64];
    loop {
        let mut item = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one item, which is ours; waits for ever.
        if unsafe { libc::poll(&raw mut item, 1, -1) } < 0 {
            if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return;
        }
        if item.revents & libc::POLLIN == 0 {
            return;
        }
        // What a parent writes in spite of the agreement is read away, else the watch would spin.
        // SAFETY: writes at most the length of `scratch`.
        let count = unsafe { libc::read(fd.as_raw_fd(), scratch.as_mut_ptr().cast(), scratch.len()) };
        if count == 0 || (count < 0 && !is_passing(&io::Error::last_os_error())) {
            return;
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

fn end() -> ! {
    // SAFETY: signals and leaves; no destructor or exit handler runs, some of which would want the GIL.
    unsafe {
        if libc::getpgrp() == libc::getpid() {
            libc::kill(0, libc::SIGKILL);
        }
        libc::_exit(EXIT_CODE)
    }
}
