//! What executors have in hand, where it survives their process (ENGINE 2.4): a file that worker and supervisor map. After a death
//! the supervisor reads it and charges the suspects; what merely waited in queues costs no attempt.
//!
//! ```text
//! page 0            length u64, text: why the worker ended itself
//! page 1 + executor task + 1 u64 (0: nothing), entries written u64, then a ring of
//!                   (owner << 32 | incarnation, attempt, hash of the user's id or 0)
//! ```
//!
//! Written with plain stores by the executor's thread, read when the process is gone: nothing has to be in order but the count,
//! which is stored last.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use rainband_core::ids::{RootRef, TaskId};

const PAGE: usize = 4096;
const WORDS: usize = PAGE / 8;
/// Entries of the ring of an executor.
const ENTRIES: usize = (WORDS - 2) / 3;

/// The mapped file of one worker.
pub struct Slots {
    base: NonNull<AtomicU64>,
    executors: usize,
}

// SAFETY: the mapping is shared memory that is only touched through atomics.
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

impl Slots {
    /// Makes the file anew and maps it, for so many executors.
    pub fn create(path: &Path, executors: usize) -> std::io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let length = PAGE * (executors + 1);
        file.set_len(length as u64)?;
        // SAFETY: a new mapping of a file that is open and long enough; it stays when the file is closed.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
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
        Ok(Self { base, executors })
    }

    fn word(&self, page: usize, word: usize) -> &AtomicU64 {
        debug_assert!(page <= self.executors && word < WORDS);
        // SAFETY: within the mapping, which lives as long as `self`; aligned, as pages and words are.
        unsafe { &*self.base.as_ptr().add(page * WORDS + word) }
    }

    /// `task` of `executor` has only a tuple of these roots in hand.
    #[inline]
    pub fn set(&self, executor: usize, task: TaskId, roots: &[RootRef], id_of: impl Fn(&RootRef) -> u64) {
        self.word(executor + 1, 1).store(0, Ordering::Relaxed);
        self.add(executor, task, roots, id_of);
    }

    /// `task` of `executor` has a tuple of these roots in hand besides what it has.
    pub fn add(&self, executor: usize, task: TaskId, roots: &[RootRef], id_of: impl Fn(&RootRef) -> u64) {
        let page = executor + 1;
        let mut written = self.word(page, 1).load(Ordering::Relaxed);
        for root in roots {
            let at = 2 + 3 * (written as usize % ENTRIES);
            let owner = u64::from(root.task.0) << 32 | u64::from(root.incarnation.0);
            self.word(page, at).store(owner, Ordering::Relaxed);
            self.word(page, at + 1).store(root.attempt.bits(), Ordering::Relaxed);
            self.word(page, at + 2).store(id_of(root), Ordering::Relaxed);
            written += 1;
        }
        self.word(page, 0).store(u64::from(task.0) + 1, Ordering::Relaxed);
        self.word(page, 1).store(written, Ordering::Release);
    }

    /// `executor` has nothing in hand.
    #[inline]
    pub fn clear(&self, executor: usize) {
        self.word(executor + 1, 1).store(0, Ordering::Relaxed);
        self.word(executor + 1, 0).store(0, Ordering::Relaxed);
    }

    /// Says why the process ends itself.
    pub fn say(&self, text: &str) {
        let bytes = &text.as_bytes()[..text.len().min(PAGE - 16)];
        for (at, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(0, at + 1).store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
        self.word(0, 0).store(bytes.len() as u64, Ordering::Release);
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `create`, of that length; nobody has a reference into it any more.
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), PAGE * (self.executors + 1));
        }
    }
}

/// Who had what in hand when the worker that wrote `path` died: (executor, task, owner task, owner's incarnation, attempt, hash
/// of the user's id or 0) a row; (executor, task) of everybody who had something; and what the worker said of its end, empty if nothing.
///
/// Raises `OSError` if the file cannot be read.
#[pyfunction]
#[expect(clippy::type_complexity, reason = "a row each for Python")]
pub fn read_slots(path: &str) -> PyResult<(Vec<(usize, u32, u32, u32, u64, u64)>, Vec<(usize, u32)>, String)> {
    let bytes = std::fs::read(path)?;
    let word = |page: usize, word: usize| {
        let at = page * PAGE + word * 8;
        bytes.get(at..at + 8).map_or(0, |b| u64::from_le_bytes(std::array::from_fn(|i| b[i])))
    };
    let mut suspects = Vec::new();
    let mut busy = Vec::new();
    for page in 1..bytes.len() / PAGE {
        let Some(task) = (word(page, 0) as u32).checked_sub(1) else { continue };
        busy.push((page - 1, task));
        for entry in 0..(word(page, 1) as usize).min(ENTRIES) {
            let [owner, attempt, id] = [2, 3, 4].map(|at| word(page, at + 3 * entry));
            suspects.push((page - 1, task, (owner >> 32) as u32, owner as u32, attempt, id));
        }
    }
    let length = (word(0, 0) as usize).min(PAGE - 16);
    let text = bytes.get(8..8 + length).unwrap_or_default();
    Ok((suspects, busy, String::from_utf8_lossy(text).into_owned()))
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
