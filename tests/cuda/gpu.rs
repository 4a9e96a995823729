//! The same cases on a real device. `TRIPLET_REQUIRE=cuda` makes a machine without one a failure; elsewhere that is said and the
//! tests pass.

use triplet::{Cpu, Cuda, Error, Model};

use crate::{model, operations, runs};

/// The first device of this machine.
fn first() -> Option<Cuda> {
    let required = std::env::var("TRIPLET_REQUIRE").unwrap_or_default();
    match Cuda::open(0) {
        Ok(cuda) => {
            println!("{}", cuda.info().name);
            Some(cuda)
        }
        Err(error) => {
            println!("no GPU: {error}");
            assert!(matches!(error, Error::Device { .. } | Error::Input { .. }), "{error}");
            assert!(
                !required.split(',').any(|name| name == "cuda"),
                "TRIPLET_REQUIRE names what this machine lacks: {error}"
            );
            None
        }
    }
}

#[test]
fn every_operation_agrees_on_the_device() {
    if let Some(cuda) = first() {
        operations::all(&cuda.poisoned());
        operations::all(&cuda.without_tensor_cores());
        runs::agree(&cuda.poisoned(), |_| ());
    }
}

#[test]
fn a_model_answers_on_the_device_as_on_the_cpu() {
    if let Some(cuda) = first() {
        let want = model::replies(&Model::open_on(Cpu::with_threads(1), model::dir()).unwrap()).unwrap();
        let on_device = Model::open_on(cuda, model::dir()).unwrap();
        // Twice: the second time from graphs.
        for _ in 0..2 {
            let got = model::replies(&on_device).unwrap();
            want.iter().zip(&got).for_each(|(want, got)| model::agrees(want, got));
        }
    }
}
