//! The properties of the core, as functions that `properties.rs` runs as they are and `faults.rs` with a fault planted.
//!
//! Each takes an [`Effort`] and returns what it found wrong; a panic of the core counts as found, too. Seeds are fixed, so a
//! failure comes again. `RAINBAND_CASES=20` multiplies the number of cases by 20.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod bell;
pub mod check;
pub mod cluster;
pub mod edges;
pub mod engine;
pub mod frontier;
pub mod key_model;
pub mod keys;
pub mod lineage;
pub mod links;
pub mod payload;
pub mod plans;
pub mod queues;
pub mod rng;
pub mod routes;
pub mod shares;
pub mod signals;
pub mod topology;
pub mod vectors;
pub mod wires;

use check::Effort;

/// A property: its name and how to check it.
pub type Property = (&'static str, fn(Effort) -> Result<(), String>);

/// All of them, the quick ones first.
pub const PROPERTIES: &[Property] = &[
    ("mix is a bijection", edges::mix_is_a_bijection),
    ("edge ids are unique", edges::edge_ids_are_unique),
    ("joins have a limit", edges::joins_have_a_limit),
    ("the frontier is a naive frontier", frontier::follows_the_model),
    ("routing conserves", routes::conserves),
    ("shuffle shares", shares::shuffle_is_even),
    ("shuffle passes over full queues", shares::shuffle_passes_over_full),
    ("fields follow the formula", routes::fields_follow_the_formula),
    ("fields under Zipf", shares::fields_under_zipf),
    ("partial key under Zipf", shares::partial_key_under_zipf),
    ("keys match the published vectors", vectors::match_the_file),
    ("keys are prefix-free", keys::encoding_is_prefix_free),
    ("equal keys are alike", keys::equal_keys_are_alike),
    ("plans have no blocking circle", plans::no_blocking_circle),
    ("plans split evenly", plans::splits_evenly),
    ("inputs merge by kind", signals::inputs_merge),
    ("a cycle is over when nothing moves", signals::cycle_count_is_right),
    ("the queue is a naive queue", queues::follows_the_model),
    ("the ledger is a naive ledger", lineage::follows_the_model),
    ("frames match the published bytes", wires::golden::match_the_files),
    ("published bytes are understood", wires::golden::files_are_understood),
    ("frames come back as they were", wires::round_trip),
    ("heartbeats come back as they were", wires::beats_round_trip),
    ("two workers shake hands", links::scenes::shake_hands),
    ("strangers are refused", links::scenes::strangers_are_refused),
    ("one accident on a link", links::scenes::one_accident),
    ("a lost tail shows", links::timers::lost_tail),
    ("credit is per task", links::scenes::credit_is_per_task),
    ("lanes and their order", links::scenes::lanes_and_their_order),
    ("a worker is replaced", links::scenes::replacement),
    ("an idle link is quiet", links::timers::idle_link),
    ("a dead link is patient", links::timers::patience),
    ("large values travel beside", links::scenes::large_values),
    ("links lose nothing in a storm", links::storms::nothing_is_lost),
    ("a cluster survives", cluster::survives),
    ("a cluster repeats itself", cluster::is_repeatable),
    ("every topology ends", engine::every_topology_ends),
];
