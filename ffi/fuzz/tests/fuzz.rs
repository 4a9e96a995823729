//! The fuzz target itself: it plays, says what it saw, and fails where that is too little.

use std::process::{Command, Output};

fn fuzz(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_triplet-fuzz")).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

/// The value of a key in the line of the result.
fn field<'t>(text: &'t str, key: &str) -> &'t str {
    let line = text.lines().last().filter(|line| line.starts_with("result ")).expect("a line of the result");
    let pair = line.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    pair.unwrap_or_else(|| panic!("{line} has no {key}"))
}

#[test]
fn random_sequences_of_calls_do_no_harm() {
    let (output, text) = fuzz(&["--calls", "40000", "--seed", "1"]);
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    let number = |key: &str| field(&text, key).parse::<u64>().unwrap();
    assert!(number("calls") >= 40_000 && number("asks") >= 400 && number("exports_min") >= 40, "{text}");
    assert!(number("statuses") >= 17, "{text}");
}

#[test]
fn a_seed_gives_the_same_calls() {
    let digest = |seed: &str| field(&fuzz(&["--calls", "2000", "--seed", seed]).1, "digest").to_owned();
    assert_eq!(digest("7"), digest("7"));
    assert_ne!(digest("7"), digest("8"));
}

#[test]
fn too_little_is_a_failure() {
    let (output, text) = fuzz(&["--calls", "100"]);
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && words.contains("status 7 was not seen"), "{words}\n{text}");
    assert!(words.contains("was called 0 times"), "{words}");
    let (output, _) = fuzz(&["--cals", "100"]);
    assert!(!output.status.success());
}

#[test]
fn a_crowd_of_threads_has_the_bits_of_one() {
    let (output, text) = fuzz(&["--crowd", "8"]);
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().filter(|line| line.starts_with("crowd ")).count(), 3, "{text}");
}
