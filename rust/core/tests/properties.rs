//! The properties of the core, a test each. What they say stands with them in `support`.

mod support;

use support::check::Effort;
use support::{
    cluster, edges, engine, frontier, keys, lineage, links, plans, queues, routes, shares, signals, vectors, wires,
};

fn check(property: fn(Effort) -> Result<(), String>) {
    if let Err(error) = property(Effort::from_env()) {
        panic!("{error}");
    }
}

#[test]
fn edges_mix_is_a_bijection() {
    check(edges::mix_is_a_bijection);
}

#[test]
fn edges_edge_ids_are_unique() {
    check(edges::edge_ids_are_unique);
}

#[test]
fn edges_joins_have_a_limit() {
    check(edges::joins_have_a_limit);
}

#[test]
fn frontier_follows_the_model() {
    check(frontier::follows_the_model);
}

#[test]
fn routes_conserves() {
    check(routes::conserves);
}

#[test]
fn routes_fields_follow_the_formula() {
    check(routes::fields_follow_the_formula);
}

#[test]
fn shares_shuffle_is_even() {
    check(shares::shuffle_is_even);
}

#[test]
fn shares_shuffle_passes_over_full() {
    check(shares::shuffle_passes_over_full);
}

#[test]
fn shares_fields_under_zipf() {
    check(shares::fields_under_zipf);
}

#[test]
fn shares_partial_key_under_zipf() {
    check(shares::partial_key_under_zipf);
}

#[test]
fn keys_encoding_is_prefix_free() {
    check(keys::encoding_is_prefix_free);
}

#[test]
fn keys_equal_keys_are_alike() {
    check(keys::equal_keys_are_alike);
}

#[test]
fn vectors_match_the_file() {
    check(vectors::match_the_file);
}

#[test]
fn plans_no_blocking_circle() {
    check(plans::no_blocking_circle);
}

#[test]
fn plans_splits_evenly() {
    check(plans::splits_evenly);
}

#[test]
fn signals_inputs_merge() {
    check(signals::inputs_merge);
}

#[test]
fn signals_cycle_count_is_right() {
    check(signals::cycle_count_is_right);
}

#[test]
fn queues_follows_the_model() {
    check(queues::follows_the_model);
}

#[test]
fn lineage_follows_the_model() {
    check(lineage::follows_the_model);
}

#[test]
fn wires_match_the_files() {
    check(wires::golden::match_the_files);
}

#[test]
fn wires_files_are_understood() {
    check(wires::golden::files_are_understood);
}

#[test]
fn wires_round_trip() {
    check(wires::round_trip);
}

#[test]
fn wires_beats_round_trip() {
    check(wires::beats_round_trip);
}

#[test]
fn links_shake_hands() {
    check(links::scenes::shake_hands);
}

#[test]
fn links_late_view() {
    check(links::scenes::late_view);
}

#[test]
fn links_strangers_are_refused() {
    check(links::scenes::strangers_are_refused);
}

#[test]
fn links_one_accident() {
    check(links::scenes::one_accident);
}

#[test]
fn links_lost_tail() {
    check(links::timers::lost_tail);
}

#[test]
fn links_credit_is_per_task() {
    check(links::scenes::credit_is_per_task);
}

#[test]
fn links_lanes_and_their_order() {
    check(links::scenes::lanes_and_their_order);
}

#[test]
fn links_replacement() {
    check(links::scenes::replacement);
}

#[test]
fn links_idle_link() {
    check(links::timers::idle_link);
}

#[test]
fn links_patience() {
    check(links::timers::patience);
}

#[test]
fn links_large_values() {
    check(links::scenes::large_values);
}

#[test]
fn links_nothing_is_lost() {
    check(links::storms::nothing_is_lost);
}

#[test]
fn cluster_survives() {
    check(cluster::survives);
}

#[test]
fn cluster_is_repeatable() {
    check(cluster::is_repeatable);
}

#[test]
fn engine_every_topology_ends() {
    check(engine::every_topology_ends);
}
