//! Runs a property over generated values, always the same ones.

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// How hard to look.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Multiplies the number of cases that a property thinks right.
    pub factor: u32,
    /// Whether to look for a smaller failing case, which takes time and is only of use to a reader.
    pub shrink: bool,
}

impl Effort {
    /// What the environment asks for; 1 if nothing.
    pub fn from_env() -> Self {
        let factor = std::env::var("RAINBAND_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        Self { factor, shrink: true }
    }
}

/// Checks `test` over `cases` values of `strategy`, times the effort.
pub fn for_all<S: Strategy>(
    effort: Effort,
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), String>,
) -> Result<(), String>
where
    S::Value: Debug,
{
    let config = Config {
        cases: cases * effort.factor,
        failure_persistence: None,
        max_shrink_iters: if effort.shrink { 2000 } else { 0 },
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, rng)
        .run(strategy, |value| test(value).map_err(TestCaseError::fail))
        .map_err(|error| error.to_string())
}

/// `Err` with the text that `text` makes, unless `is_true`.
pub fn ensure(is_true: bool, text: impl FnOnce() -> String) -> Result<(), String> {
    if is_true { Ok(()) } else { Err(text()) }
}
