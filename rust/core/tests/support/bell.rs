//! A wake-up for models in one thread: a flag, as a parked thread has one.

use std::cell::Cell;
use std::rc::Rc;

use rainband_core::queue::Wake;

/// Rung by whoever wakes, cleared by whoever looks.
#[derive(Clone, Debug, Default)]
pub struct Bell(Rc<Cell<bool>>);

impl Bell {
    pub fn has_rung(&self) -> bool {
        self.0.get()
    }

    pub fn clear(&self) {
        self.0.set(false);
    }

    /// Whether it rang since the last time.
    pub fn take(&self) -> bool {
        self.0.replace(false)
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.0.set(true);
    }

    fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}
