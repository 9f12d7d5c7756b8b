//! Tuples that a task holds un-acked beyond the call that received them: manual acks, async calls in flight, a batch being
//! filled. What is held is timed out here, not in the ledger (ENGINE 2.1).

use pyo3::prelude::*;
use rainband_core::emit::InHand;
use rainband_core::ids::RootRef;

/// A tuple's place in the table of its task; worth nothing once the tuple is acked or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldKey {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Place {
    generation: u32,
    entry: Option<Entry>,
}

#[derive(Debug)]
struct Entry {
    in_hand: InHand,
    since_ns: u64,
    /// A weak reference to the `Tuple`, for tasks that want to know what timed out.
    reference: Option<Py<PyAny>>,
}

/// The table of one task.
#[derive(Debug, Default)]
pub struct Held {
    places: Vec<Place>,
    free: Vec<u32>,
    len: usize,
}

impl Held {
    /// A tuple was handed to user code that will ack it in its own time.
    pub fn insert(&mut self, in_hand: InHand, now_ns: u64) -> HeldKey {
        self.len += 1;
        let entry = Some(Entry { in_hand, since_ns: now_ns, reference: None });
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.entry = entry;
            return HeldKey { index, generation: place.generation };
        }
        self.places.push(Place { generation: 0, entry });
        HeldKey { index: self.places.len() as u32 - 1, generation: 0 }
    }

    fn place(&mut self, key: HeldKey) -> Option<&mut Place> {
        self.places.get_mut(key.index as usize).filter(|p| p.generation == key.generation && p.entry.is_some())
    }

    /// Takes the tuple out, to ack or to fail it. `None` if that was done before. Attached, because of the weak reference.
    pub fn remove(&mut self, key: HeldKey) -> Option<InHand> {
        let place = self.place(key)?;
        place.generation = place.generation.wrapping_add(1);
        let entry = place.entry.take();
        self.free.push(key.index);
        self.len -= 1;
        entry.map(|e| e.in_hand)
    }

    /// What is owed for the tuple, to anchor something to it.
    pub fn get_mut(&mut self, key: HeldKey) -> Option<&mut InHand> {
        self.place(key)?.entry.as_mut().map(|e| &mut e.in_hand)
    }

    /// Keeps a weak reference to the `Tuple` beside what is owed for it. Gives it back if the tuple is not held any more.
    pub fn attach(&mut self, key: HeldKey, reference: Py<PyAny>) -> Option<Py<PyAny>> {
        match self.place(key).and_then(|p| p.entry.as_mut()) {
            Some(entry) => entry.reference.replace(reference),
            None => Some(reference),
        }
    }

    /// Takes that reference out.
    pub fn take_reference(&mut self, key: HeldKey) -> Option<Py<PyAny>> {
        self.place(key)?.entry.as_mut()?.reference.take()
    }

    /// Starts the tuple's time anew. Returns whether it is held.
    pub fn touch(&mut self, key: HeldKey, now_ns: u64) -> bool {
        let Some(entry) = self.place(key).and_then(|p| p.entry.as_mut()) else { return false };
        entry.since_ns = now_ns;
        true
    }

    /// The tuples held since before `before_ns`.
    pub fn older_than(&self, before_ns: u64) -> Vec<HeldKey> {
        let old = |(index, place): (usize, &Place)| {
            let entry = place.entry.as_ref()?;
            (entry.since_ns < before_ns).then_some(HeldKey { index: index as u32, generation: place.generation })
        };
        self.places.iter().enumerate().filter_map(old).collect()
    }

    /// All that is held, to fail it when its task is replaced.
    pub fn keys(&self) -> Vec<HeldKey> {
        self.older_than(u64::MAX)
    }

    /// Visits the roots of all that is held, for the audit.
    pub fn for_each_root(&self, mut visit: impl FnMut(&RootRef)) {
        for entry in self.places.iter().filter_map(|p| p.entry.as_ref()) {
            entry.in_hand.head.roots.as_slice().iter().for_each(&mut visit);
        }
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.len
    }
}
