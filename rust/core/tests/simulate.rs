//! Many runs of the cluster (`support/cluster`). `make simulate SEEDS=1000000` prints how far it is, and of the first run that
//! goes wrong its seed; `RAINBAND_SEED=… make simulate` runs that one alone and prints all that happened. With the feature `fault`,
//! `RAINBAND_FAULT=…` plants one and shows how soon it is found.

mod support;

use std::time::Instant;

use support::cluster;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it tells a person how fast it is")]
fn seeds() {
    #[cfg(feature = "fault")]
    if let Ok(name) = std::env::var("RAINBAND_FAULT") {
        use rainband_core::fault::{Fault, plant};
        let fault = Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == name);
        plant(fault.expect("a fault of that name"));
    }
    if let Some(seed) = number("RAINBAND_SEED") {
        let result = cluster::run(seed, true);
        result.unwrap_or_else(|error| panic!("{error}"));
        return;
    }
    let seeds = number("RAINBAND_SEEDS").unwrap_or(100);
    let first = number("RAINBAND_FIRST_SEED").unwrap_or(1_000_000);
    let began = Instant::now();
    for done in 0..seeds {
        if cluster::run(first + done, false).is_err() {
            let again = cluster::run(first + done, true);
            panic!("{}", again.expect_err("a seed always gives the same run"));
        }
        if (done + 1) % 1000 == 0 {
            let rate = (done + 1) as f64 / began.elapsed().as_secs_f64();
            println!("{} of {seeds} seeds, {rate:.0} a second", done + 1);
        }
    }
}
