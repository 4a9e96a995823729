//! The GPU backend without a GPU: over a stand-in for the driver.

mod driver;
mod faults;
mod signatures;
mod stand_in;
mod variants;
