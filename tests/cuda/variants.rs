//! Kernels at load: what is refused, what gives wrong results.

use triplet::Error;
use triplet::cuda::Cuda;

use crate::stand_in::{self, Settings, StandIn};

#[test]
fn a_kernel_that_is_refused_is_named_with_the_compilers_words() {
    let refused = vec![".entry triplet_rope("];
    let error = stand_in::open(Settings { refused, ..Settings::default() })
        .and_then(|driver| Cuda::with_driver(&driver, 0));
    let error = error.err().unwrap().to_string();
    assert!(error.contains("rope.ptx: ptxas fatal: refused"), "{error}");
    assert!(StandIn::with(|all| all.leaks()).is_empty());
}

#[test]
fn a_device_that_computes_wrong_results_is_refused() {
    // Nothing is executed, so that outputs keep what was in memory.
    StandIn::start(Settings::default());
    let error = Cuda::with_driver(&stand_in::reopen().unwrap(), 0).err().unwrap();
    let Error::Device { call: "self-test", reason, lost: false } = error else { panic!("{error}") };
    assert!(reason.starts_with("copy gives wrong results on Stand-in"), "{reason}");
    assert!(StandIn::with(|all| all.leaks()).is_empty());
}
