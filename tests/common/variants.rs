//! Which variants of the kernels can run here. What cannot is printed; `TRIPLET_REQUIRE=avx2,avx512` makes it a failure.

use std::io::Write;
use std::sync::Once;

use triplet::cpu::{Cpu, Isa};

/// A backend under test.
pub struct Variant {
    /// Instruction set and threads.
    pub name: String,
    /// The backend, poisoned.
    pub cpu: Cpu,
}

/// The instruction sets that must be tested and cannot.
pub fn missing(required: &str, available: &[&str]) -> Vec<String> {
    let wanted = required.split(',').map(str::trim).filter(|name| !name.is_empty());
    wanted.filter(|name| !available.contains(name)).map(str::to_owned).collect()
}

/// Every instruction set of this machine.
pub fn isas() -> Vec<Isa> {
    static REPORT: Once = Once::new();
    let available: Vec<Isa> = Isa::available().collect();
    let mut names: Vec<&str> = available.iter().map(|isa| isa.name()).collect();
    let skipped: Vec<&str> =
        Isa::ALL.into_iter().filter(|isa| !isa.is_available()).map(|isa| isa.name()).collect();
    REPORT.call_once(|| {
        // Not by `eprintln`, which the test harness hides for tests that pass.
        let line = format!("variants: {}; skipped: {}\n", names.join(" "), skipped.join(" "));
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    });
    let required = std::env::var("TRIPLET_REQUIRE").unwrap_or_default();
    // A GPU is required of the tests that use one (`tests/cuda/gpu.rs`).
    names.push("cuda");
    let missing = missing(&required, &names);
    assert!(missing.is_empty(), "TRIPLET_REQUIRE names what this machine lacks: {}", missing.join(" "));
    available
}

/// Every instruction set with 1, 2 and 3 threads.
pub fn variants() -> Vec<Variant> {
    let mut variants = Vec::new();
    for threads in [1, 2, 3] {
        let base = Cpu::with_threads(threads).poisoned();
        assert_eq!(base.threads(), threads);
        for isa in isas() {
            let cpu = base.clone().with_isa(isa).unwrap();
            variants.push(Variant { name: format!("{} x{threads}", isa.name()), cpu });
        }
    }
    variants
}

#[test]
fn a_required_variant_that_is_missing_fails() {
    assert_eq!(missing("avx2, avx512", &["portable", "avx2"]), ["avx512"]);
    assert!(missing("", &["portable"]).is_empty());
    assert!(missing("avx2", &["portable", "avx2"]).is_empty());
}
