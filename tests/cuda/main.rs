//! The GPU backend without a GPU: over a stand-in for the driver.

mod driver;
mod stand_in;
