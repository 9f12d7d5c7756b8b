//! The link against the libzmq that pyzmq brings; `make test-link` says where that is.

mod control;
mod errors;
mod figures;
mod libzmq;
mod sockets;
mod thread;
mod wake;
mod watch;
mod worker;

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take that must happen.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `is_true`, which must become so.
fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < DEADLINE, "still waiting until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A folder for the sockets of one test; removed with what is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rainband-link-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).expect("a name of this process alone");
        Self(path)
    }

    fn ipc(&self, name: &str) -> String {
        format!("ipc://{}", self.0.join(name).display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// This program again, for one ignored test: what concerns the whole process cannot run beside others.
fn alone(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the running test"));
    command.args([test, "--exact", "--ignored", "--nocapture"]);
    command
}

/// Runs an ignored test in a process of its own.
fn run_alone(test: &str) {
    let output = alone(test).output().expect("it is the running test");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// Lets the calling thread, and those it starts, run on one core only.
fn pin() {
    // SAFETY: a plain bit mask; 0 is the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set), 0);
    }
}
