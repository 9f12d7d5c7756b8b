//! What must survive a worker's process, in a file that worker and supervisor map: what executors have in hand (ENGINE 2.4), and the
//! counts of the tasks (ENGINE 7.5). After a death the supervisor reads it and charges the suspects; what merely waited in queues
//! costs no attempt.
//!
//! ```text
//! page 0     length u64, text: why the worker ended itself; in its last words: executors u64, tasks u64
//! executor   16 pages: task + 1 u64 (0: nothing), entries written u64, then a ring of
//!            (owner << 32 | incarnation, attempt, hash of the user's id or 0)
//! task       512 bytes: `snapshot::counts_of`
//! ```
//!
//! Written with plain stores by the executor's thread, read when the process is gone: nothing has to be in order but the count of
//! entries, which is stored last. What an executor holds while it takes more (batches, coroutines) is written anew from time to
//! time ([`Slots::renew`]), so that what it let go is not suspected.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use rainband_core::ids::{RootRef, TaskId};
use rainband_core::ledger::Reason;

use crate::snapshot::{COUNT_WORDS, COUNTS, OF_ROOTS};

const WORDS_OF_PAGE: usize = 512;
/// Of an executor.
const AREA: usize = 16 * WORDS_OF_PAGE;
/// Entries of the ring of an executor.
const ENTRIES: usize = (AREA - 2) / 3;
/// Of a task.
const BLOCK: usize = 64;
const EXECUTORS: usize = WORDS_OF_PAGE - 2;
const TASKS: usize = WORDS_OF_PAGE - 1;
const TEXT_BYTES: usize = (EXECUTORS - 1) * 8;

const _: () = assert!(COUNT_WORDS <= BLOCK);

/// The mapped file of one worker.
pub struct Slots {
    base: NonNull<AtomicU64>,
    words: usize,
    executors: usize,
}

// SAFETY: the mapping is shared memory that is only touched through atomics.
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

impl Slots {
    /// Makes the file anew and maps it, for so many executors and tasks.
    pub fn create(path: &Path, executors: usize, tasks: usize) -> std::io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let words = WORDS_OF_PAGE + executors * AREA + tasks * BLOCK;
        file.set_len((words * 8) as u64)?;
        // SAFETY: a new mapping of a file that is open and long enough; it stays when the file is closed.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                words * 8,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| std::io::Error::other("mapped at 0"))?;
        let slots = Self { base, words, executors };
        slots.word(EXECUTORS).store(executors as u64, Ordering::Relaxed);
        slots.word(TASKS).store(tasks as u64, Ordering::Relaxed);
        Ok(slots)
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at < self.words);
        // SAFETY: within the mapping, which lives as long as `self`; aligned, as its pages are.
        unsafe { &*self.base.as_ptr().add(at) }
    }

    fn area(executor: usize) -> usize {
        WORDS_OF_PAGE + executor * AREA
    }

    /// `task` of `executor` has only a tuple of these roots in hand.
    #[inline]
    pub fn set(&self, executor: usize, task: TaskId, roots: &[RootRef], id_of: impl Fn(&RootRef) -> u64) {
        self.word(Self::area(executor) + 1).store(0, Ordering::Relaxed);
        self.add(executor, task, roots, id_of);
    }

    /// `task` of `executor` has a tuple of these roots in hand besides what it has.
    pub fn add(&self, executor: usize, task: TaskId, roots: &[RootRef], id_of: impl Fn(&RootRef) -> u64) {
        let area = Self::area(executor);
        let mut written = self.word(area + 1).load(Ordering::Relaxed);
        for root in roots {
            let at = area + 2 + 3 * (written as usize % ENTRIES);
            let owner = u64::from(root.task.0) << 32 | u64::from(root.incarnation.0);
            self.word(at).store(owner, Ordering::Relaxed);
            self.word(at + 1).store(root.attempt.bits(), Ordering::Relaxed);
            self.word(at + 2).store(id_of(root), Ordering::Relaxed);
            written += 1;
        }
        self.word(area).store(u64::from(task.0) + 1, Ordering::Relaxed);
        self.word(area + 1).store(written, Ordering::Release);
    }

    /// How many entries were written for `executor` since it had nothing in hand.
    pub fn written(&self, executor: usize) -> usize {
        self.word(Self::area(executor) + 1).load(Ordering::Relaxed) as usize
    }

    /// `executor` has tuples of these roots in hand, and no others.
    pub fn renew(&self, executor: usize, roots: &[RootRef], id_of: impl Fn(&RootRef) -> u64) {
        let task = TaskId((self.word(Self::area(executor)).load(Ordering::Relaxed) as u32).saturating_sub(1));
        self.set(executor, task, roots, id_of);
    }

    /// `executor` has nothing in hand.
    #[inline]
    pub fn clear(&self, executor: usize) {
        self.word(Self::area(executor) + 1).store(0, Ordering::Relaxed);
        self.word(Self::area(executor)).store(0, Ordering::Relaxed);
    }

    /// Keeps the counts of `task`.
    pub fn count(&self, task: TaskId, counts: &[u64; COUNT_WORDS]) {
        let block = Self::area(self.executors) + task.index() * BLOCK;
        for (at, count) in counts.iter().enumerate() {
            self.word(block + at).store(*count, Ordering::Relaxed);
        }
    }

    /// Says why the process ends itself.
    pub fn say(&self, text: &str) {
        let bytes = &text.as_bytes()[..text.len().min(TEXT_BYTES)];
        for (at, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(at + 1).store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
        self.word(0).store(bytes.len() as u64, Ordering::Release);
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `create`, of that length; nobody has a reference into it any more.
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), self.words * 8);
        }
    }
}

/// (executor, task, owner task, owner's incarnation, attempt, hash of the user's id or 0).
type InHand = (usize, u32, u32, u32, u64, u64);

/// Who had what in hand when the worker that wrote `path` died, a row each; (executor, task) of everybody who had something; what the
/// worker said of its end, empty if nothing; and for each task its counts by name (`executed`,
/// `roots.emitted`, `failed.<reason>`), 0 left out.
///
/// Raises `OSError` if the file cannot be read.
#[pyfunction]
#[expect(clippy::type_complexity, reason = "a row each for Python")]
pub fn read_slots(path: &str) -> PyResult<(Vec<InHand>, Vec<(usize, u32)>, String, Vec<Vec<(String, u64)>>)> {
    let bytes = std::fs::read(path)?;
    let word =
        |at: usize| bytes.get(at * 8..at * 8 + 8).map_or(0, |b| u64::from_le_bytes(std::array::from_fn(|i| b[i])));
    let room = bytes.len() / 8;
    let executors = (word(EXECUTORS) as usize).min(room / AREA);
    let tasks = (word(TASKS) as usize).min(room / BLOCK);
    let mut suspects = Vec::new();
    let mut busy = Vec::new();
    for executor in 0..executors {
        let area = Slots::area(executor);
        let Some(task) = (word(area) as u32).checked_sub(1) else { continue };
        busy.push((executor, task));
        for entry in 0..(word(area + 1) as usize).min(ENTRIES) {
            let [owner, attempt, id] = [2, 3, 4].map(|at| word(area + at + 3 * entry));
            suspects.push((executor, task, (owner >> 32) as u32, owner as u32, attempt, id));
        }
    }
    let own = COUNTS[..OF_ROOTS].iter().map(ToString::to_string);
    let of_roots = COUNTS[OF_ROOTS..].iter().map(|name| format!("roots.{name}"));
    let failed = Reason::ALL.iter().map(|reason| format!("failed.{}", reason.as_str()));
    let names: Vec<String> = own.chain(of_roots).chain(failed).collect();
    let counts_of = |task: usize| {
        let block = Slots::area(executors) + task * BLOCK;
        let counts = names.iter().enumerate().map(|(at, name)| (name.clone(), word(block + at)));
        counts.filter(|(_, count)| *count > 0).collect()
    };
    let length = (word(0) as usize).min(TEXT_BYTES);
    let text = bytes.get(8..8 + length).unwrap_or_default();
    Ok((suspects, busy, String::from_utf8_lossy(text).into_owned(), (0..tasks).map(counts_of).collect()))
}

/// Starts a thread that kills the process group (or, if another leads it, the process) with SIGKILL once the other end of the
/// pipe `fd` is closed, whatever holds the interpreter. Takes the descriptor.
///
/// Raises `RunError` if there can be no such thread.
#[pyfunction]
pub fn watch_parent(py: Python<'_>, fd: i32) -> PyResult<()> {
    // SAFETY: the caller gives the descriptor away.
    let fd = unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) };
    rainband_link::watch_parent(fd).map_err(|error| crate::errors::run_error(py, error.to_string()))
}
