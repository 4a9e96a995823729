//! A stand-in for the CUDA driver: the functions that `triplet::cuda::driver` looks up, over memory of this process. It
//! keeps account of everything that is handed out, refuses what a driver refuses (no context, unknown handles, addresses
//! outside an allocation), and fails any one call with any code on demand.
//!
//! One stand-in a thread, so that tests run side by side.

mod execute;
mod functions;
mod state;

pub use execute::interpreter;
pub use functions::function;
pub use state::{Execute, Launch, Memory, Settings, StandIn};

use triplet::Result;
use triplet::cuda::driver::Driver;

/// A driver over this thread's stand-in, which starts anew with `settings`.
pub fn open(settings: Settings) -> Result<Driver> {
    StandIn::start(settings);
    reopen()
}

/// A driver over this thread's stand-in as it is.
pub fn reopen() -> Result<Driver> {
    // SAFETY: the functions behave as the driver's of these names, and are there as long as the program.
    unsafe { Driver::with_functions(&function) }
}

/// Every error code that a driver of CUDA 13 is known to give, and one that none gives.
pub const CODES: [i32; 104] = [
    1, 2, 3, 4, 5, 6, 7, 8, 34, 36, 46, 47, 100, 101, 102, 200, 201, 202, 205, 206, 207, 208, 209, 210, 211,
    212, 213, 214, 215, 216, 217, 218, 219, 220, 221, 222, 223, 224, 225, 226, 227, 300, 301, 302, 303, 304,
    400, 401, 402, 500, 600, 700, 701, 702, 703, 704, 705, 708, 709, 710, 711, 712, 713, 714, 715, 716, 717,
    718, 719, 720, 721, 800, 801, 802, 803, 804, 805, 806, 807, 808, 809, 810, 811, 812, 900, 901, 902, 903,
    904, 905, 906, 907, 908, 909, 910, 911, 912, 913, 914, 915, 916, 918, 999, 31337,
];
