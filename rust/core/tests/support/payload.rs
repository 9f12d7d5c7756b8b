//! A payload that notices when the core drops, clones or keeps it (ENGINE 6.5).
//!
//! [`Token`] cannot be cloned, so fan-out must ask for a share. Its owner takes it apart with [`Token::retire`]; one that is
//! dropped otherwise is counted as lost, and one that is neither is missing in the [`Census`].

use std::cell::Cell;

thread_local! {
    static MADE: Cell<u64> = const { Cell::new(0) };
    static RETIRED: Cell<u64> = const { Cell::new(0) };
    static LOST: Cell<u64> = const { Cell::new(0) };
}

fn count(counter: &'static std::thread::LocalKey<Cell<u64>>) {
    counter.with(|n| n.set(n.get() + 1));
}

/// An opaque payload around `B`.
#[derive(Debug)]
pub struct Token<B: Copy> {
    body: B,
    /// Which token this is; shares have numbers of their own.
    pub serial: u64,
    is_armed: bool,
}

impl<B: Copy> Token<B> {
    /// A new payload.
    pub fn new(body: B) -> Self {
        count(&MADE);
        Self { body, serial: MADE.get(), is_armed: true }
    }

    /// Another reference to the same values.
    pub fn share(&self) -> Self {
        Self::new(self.body)
    }

    /// The values.
    pub fn body(&self) -> B {
        self.body
    }

    /// The end that the owner chose.
    pub fn retire(mut self) -> B {
        self.is_armed = false;
        count(&RETIRED);
        self.body
    }
}

impl<B: Copy> Drop for Token<B> {
    fn drop(&mut self) {
        if self.is_armed {
            count(&LOST);
        }
    }
}

/// What `die` drops is gone with its process, which nobody holds against the core.
pub fn write_off(die: impl FnOnce()) {
    let before = LOST.get();
    die();
    let died = LOST.replace(before) - before;
    RETIRED.set(RETIRED.get() + died);
}

/// Counts the tokens of this thread from its beginning on; holds the number that were lost before.
#[derive(Debug)]
pub struct Census {
    lost: u64,
    alive: u64,
}

impl Census {
    /// Begins to count.
    pub fn begin() -> Self {
        Self { lost: LOST.get(), alive: alive() }
    }

    /// Nothing was dropped so far.
    pub fn check(&self) -> Result<(), String> {
        match LOST.get() - self.lost {
            0 => Ok(()),
            lost => Err(format!("the core dropped {lost} payloads")),
        }
    }

    /// Every token was retired.
    pub fn end(self) -> Result<(), String> {
        self.check()?;
        match alive().wrapping_sub(self.alive) {
            0 => Ok(()),
            kept => Err(format!("{kept} payloads did not come back")),
        }
    }
}

/// Tokens that are neither retired nor lost.
fn alive() -> u64 {
    MADE.get() - RETIRED.get() - LOST.get()
}
