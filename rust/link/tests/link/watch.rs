//! The watch on the parent, on real processes. The pipe is the child's standard input.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rainband_link::watch_parent;

use crate::{alone, wait_until};

/// Says that the child watches; its grandchild's process id follows.
const READY: &str = "watching ";

#[test]
#[ignore = "a child of other tests"]
fn child() {
    watch_parent(std::io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap();
    let mut grandchild = Command::new("sleep").arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    println!("\n{READY}{}", grandchild.id());
    // Busy, and deaf to everything that can be ignored.
    // SAFETY: sets handlers that do nothing.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGTERM, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
    }
    while grandchild.try_wait().unwrap().is_none() {}
    panic!("the grandchild should live as long as this process");
}

#[test]
#[ignore = "a child of another test"]
fn parent() {
    let mut command = alone("watch::child");
    let mut child = command.process_group(0).stdin(Stdio::piped()).spawn().unwrap();
    let _pipe = child.stdin.take(); // Else waiting would close it.
    child.wait().unwrap();
}

/// Reads what the child prints until it watches; returns the grandchild.
fn ready(from: impl Read) -> i32 {
    let line = BufReader::new(from).lines().map(Result::unwrap).find(|line| line.starts_with(READY));
    line.expect("the child watches")[READY.len()..].parse().unwrap()
}

fn start(mut command: Command) -> (Child, i32) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let grandchild = ready(child.stdout.take().unwrap());
    (child, grandchild)
}

/// Whether a process runs; one that only waits to be reaped does not.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !matches!(rest.trim_start().chars().next(), None | Some('Z' | 'X')))
}

#[test]
fn a_leader_takes_its_group_with_it() {
    let mut command = alone("watch::child");
    command.process_group(0).stdin(Stdio::piped());
    let (mut child, grandchild) = start(command);
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(b"what a parent writes is no end").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(child.try_wait().unwrap().is_none() && is_alive(grandchild));
    drop(pipe);
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    wait_until("the grandchild is gone", || !is_alive(grandchild));
}

#[test]
fn who_leads_no_group_goes_alone() {
    let mut command = alone("watch::child");
    command.stdin(Stdio::piped());
    let (mut child, grandchild) = start(command);
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(128 + libc::SIGKILL));
    assert!(is_alive(grandchild), "it is of the group of this test");
    // SAFETY: the process that the child of this test started, which was alive a moment ago.
    unsafe { libc::kill(grandchild, libc::SIGKILL) };
}

#[test]
fn a_socket_pair_does_as_well() {
    let (own, theirs) = UnixStream::pair().unwrap();
    let mut command = alone("watch::child");
    command.process_group(0).stdin(Stdio::from(OwnedFd::from(theirs)));
    let (mut child, _) = start(command);
    drop(own);
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn a_parent_that_is_killed_is_missed() {
    let (mut parent, grandchild) = start(alone("watch::parent"));
    assert!(is_alive(grandchild));
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("the child's group is gone", || !is_alive(grandchild));
}
