//! Edge ids: the mixer is a bijection, and no id comes twice, within a task or over tasks (ENGINE 1.4).

use std::collections::HashSet;

use proptest::prelude::any;
use rainband_core::emit::{EdgeIds, mix};

use super::check::{Effort, ensure, for_all};

/// Every value has one origin: `mix` is undone by its inverse, computed backwards.
pub fn mix_is_a_bijection(effort: Effort) -> Result<(), String> {
    let undoes = |x: u64| ensure(unmix(mix(x)) == x, || format!("mix({x:#x}) has another origin"));
    (0..64).try_for_each(|bit| undoes(1 << bit).and_then(|()| undoes(!(1 << bit))))?;
    (0..4096).try_for_each(undoes)?;
    for_all(effort, 4096, &any::<u64>(), undoes)
}

/// Tasks that draw the same number of ids, each with its own key, never meet.
pub fn edge_ids_are_unique(effort: Effort) -> Result<(), String> {
    for_all(effort, 8, &(any::<u64>(), 2_u64..12), |(run_key, tasks)| {
        let mut seen = HashSet::new();
        for task in 0..tasks {
            // As the door does: the key of a task is the run's random number, spread by the task's number.
            let mut edges = EdgeIds::new(unmix(run_key.wrapping_add(task)));
            for n in 0..5000 {
                let edge = edges.draw().bits();
                ensure(seen.insert(edge), || format!("task {task} draws {edge:#x} again, as id {n}"))?;
            }
        }
        Ok(())
    })
}

/// The inverse of the finalizer of splitmix64: xor-shifts undone by repeating them, products by the inverses of their factors.
fn unmix(x: u64) -> u64 {
    let unshift = |x: u64, by: u32| (0..64 / by).fold(x, |y, _| x ^ (y >> by));
    let x = unshift(x, 31).wrapping_mul(inverse(0x94d0_49bb_1331_11eb));
    let x = unshift(x, 27).wrapping_mul(inverse(0xbf58_476d_1ce4_e5b9));
    unshift(x, 30)
}

/// The inverse of an odd factor modulo 2^64, by Newton's iteration: each round doubles the bits that are right.
fn inverse(odd: u64) -> u64 {
    (0..6).fold(odd, |y, _| y.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(y))))
}
