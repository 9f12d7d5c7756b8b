//! Edge ids: the mixer is a bijection, and no id comes twice, within a task or over tasks (ENGINE 1.4). Heads of joins: their
//! roots are limited (ENGINE 1.5).

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::any;
use rainband_core::emit::{EdgeIds, InHand, TooManyRoots, join_heads, mix};
use rainband_core::ids::{AttemptId, Incarnation, RootRef, StreamId, TaskId};
use rainband_core::tuple::{Envelope, Head, Roots};

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

/// A join takes as many distinct roots as it may and no more, and inherits the most hops and the highest stamp.
pub fn joins_have_a_limit(effort: Effort) -> Result<(), String> {
    for_all(effort, 200, &(1_usize..9, vec((0_u64..12, 0_u32..9), 0..12)), |(max, anchors)| {
        let in_hand = |(sequence, hops): &(u64, u32)| {
            let attempt = AttemptId::new(*sequence, 0);
            let root = RootRef { task: TaskId(0), incarnation: Incarnation(0), attempt };
            let head = Head { roots: Roots::One(root), hops: *hops, stamp: *sequence, ..Head::default() };
            let mut envelope =
                Envelope { payload: (), edge: None, head, stream: StreamId(0), from: TaskId(0), bytes: 0 };
            InHand::of(&mut envelope)
        };
        let in_hands: Vec<InHand> = anchors.iter().map(in_hand).collect();
        let roots: HashSet<u64> = anchors.iter().map(|anchor| anchor.0).collect();
        let got = join_heads(&in_hands, max).map(|head| (head.roots.as_slice().len(), head.hops, head.stamp));
        let hops = anchors.iter().map(|anchor| anchor.1 + 1).max().unwrap_or(0);
        let joined = (roots.len(), hops, roots.iter().copied().max().unwrap_or(0));
        let expected = if roots.len() > max { Err(TooManyRoots { got: roots.len(), max }) } else { Ok(joined) };
        ensure(got == expected, || format!("{got:?}, expected {expected:?}"))
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
