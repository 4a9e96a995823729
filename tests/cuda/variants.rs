//! Kernels at load: what is refused, what gives wrong results.

use std::rc::Rc;

use triplet::Error;
use triplet::cuda::{Cuda, Kernel};

use crate::device_with;
use crate::stand_in::{self, Execute, Launch, Memory, Settings, StandIn, interpreter};

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

#[test]
fn kernels_of_tensor_cores_give_way_where_they_are_refused_missing_or_wrong() {
    let tensor = [Kernel::LinearTensor, Kernel::AttentionTensor];
    // Volta has none that these kernels know, Turing takes f16 alone.
    for (compute, variants) in [((7, 2), ["", ""]), ((7, 5), ["linear_sm75", "attention_sm75"])] {
        let old = device_with(Settings { compute, ..Settings::default() }).unwrap();
        assert_eq!(tensor.map(|kernel| old.variant(kernel)), variants);
    }
    // Products of warp groups are for 9.0 alone, and agree with the reference in the self-test.
    let group = [Kernel::LinearGroup, Kernel::LinearPack];
    for (compute, variants) in [((9, 0), ["linear_sm90a", "linear_pack"]), ((10, 0), ["", "linear_pack"])] {
        let cuda = device_with(Settings { compute, ..Settings::default() }).unwrap();
        assert_eq!(group.map(|kernel| cuda.variant(kernel)), variants);
        assert_eq!(cuda.variant(Kernel::LinearTensor), "linear_sm80");
    }
    let refused = vec![".entry triplet_linear_sm80(", ".entry triplet_linear_sm75("];
    let cuda = device_with(Settings { refused, ..Settings::default() }).unwrap();
    assert_eq!(tensor.map(|kernel| cuda.variant(kernel)), ["", "attention_sm80"]);
    drop(cuda);
    let refused = vec![".entry triplet_linear_sm80("];
    let cuda = device_with(Settings { refused, ..Settings::default() }).unwrap();
    assert_eq!(tensor.map(|kernel| cuda.variant(kernel)), ["linear_sm75", "attention_sm80"]);
    drop(cuda);
    // A compiler that leaves the tensor cores' products out.
    let interpret = interpreter();
    let execute: Execute = Rc::new(move |launch: &Launch, memory: Memory| match launch.entry.as_str() {
        "triplet_attention_sm80" => 0,
        _ => interpret(launch, memory),
    });
    StandIn::start(Settings { execute: Some(execute), ..Settings::default() });
    let cuda = Cuda::with_driver(&stand_in::reopen().unwrap(), 0).unwrap();
    assert_eq!(tensor.map(|kernel| cuda.variant(kernel)), ["linear_sm80", "attention_sm75"]);
    drop(cuda);
    StandIn::with(|all| assert!(all.leaks().is_empty() && all.misuse.is_empty(), "{:?}", all.misuse));
}
