//! Every planted fault is found by a property, and without one no property finds anything: a test that cannot fail is a defect.
//!
//! `cargo test -p rainband-core --features fault --test faults`. A fault is planted in the whole process, so this is one test,
//! and the properties run one after the other, until one finds it. `RAINBAND_FAULT=Credit` asks only about those whose names have
//! that in them, and prints all properties that find them.

mod support;

use std::panic;

use rainband_core::fault::{Fault, plant};
use support::PROPERTIES;
use support::check::Effort;

const EFFORT: Effort = Effort { factor: 1, shrink: false };

/// The properties that find something, `at_most` of them.
fn found(at_most: usize) -> Vec<&'static str> {
    let finds = |check: fn(Effort) -> Result<(), String>| {
        panic::catch_unwind(|| check(EFFORT)).map_or(true, |result| result.is_err())
    };
    PROPERTIES.iter().filter(|(_, check)| finds(*check)).map(|(name, _)| *name).take(at_most).collect()
}

#[test]
fn every_fault_is_found() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let without = found(usize::MAX);
    let only = std::env::var("RAINBAND_FAULT").ok();
    let at_most = if only.is_some() { usize::MAX } else { 1 };
    let is_asked = |fault: &&Fault| only.as_ref().is_none_or(|only| format!("{fault:?}").contains(only));
    let with: Vec<_> = Fault::ALL.iter().filter(is_asked).map(|fault| (fault, found_with(*fault, at_most))).collect();
    panic::set_hook(hook);
    assert!(without.is_empty(), "found without a fault: {without:?}");
    for (fault, found) in &with {
        println!("{fault:?}: {}", found.join(", "));
    }
    let missed: Vec<_> = with.iter().filter(|(_, found)| found.is_empty()).map(|(fault, _)| fault).collect();
    assert!(missed.is_empty(), "no property finds {missed:?}");
}

fn found_with(fault: Fault, at_most: usize) -> Vec<&'static str> {
    plant(fault);
    let found = found(at_most);
    plant(Fault::None);
    found
}
