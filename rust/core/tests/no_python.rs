//! The core knows neither Python nor sockets nor a runtime: what it depends on is a short list, and complete.

use std::process::Command;

#[test]
fn depends_on_nothing_but_hashes_and_bytes() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--manifest-path",
            manifest,
        ])
        .output()
        .expect("cargo runs this test, so it is there");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree failed: {error}");
    let tree = String::from_utf8_lossy(&output.stdout);
    let mut names: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["bytes", "crc32c", "rainband-core", "rustc-hash", "rustc_version", "semver", "xxhash-rust"]);
}
