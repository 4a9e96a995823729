//! The GPU backend without a GPU: over a stand-in for the driver, whose kernels an interpreter executes.

mod decoding;
mod driver;
mod faults;
mod gpu;
mod model;
mod operations;
mod ptx;
mod runs;
mod signatures;
mod stand_in;
mod variants;

use stand_in::{Settings, StandIn, interpreter};

/// A backend over this thread's stand-in, which executes kernels; of a device without products of warp groups, which are slow to
/// interpret.
fn device() -> triplet::Cuda {
    device_with(Settings { compute: (8, 9), ..Settings::default() }).unwrap()
}

/// As [`device`] with other settings.
fn device_with(settings: Settings) -> triplet::Result<triplet::Cuda> {
    StandIn::start(Settings { execute: Some(interpreter()), ..settings });
    triplet::Cuda::with_driver(&stand_in::reopen()?, 0)
}
