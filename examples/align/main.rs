//! Aligns the vision transformer of a model directory on a folder of pictures; `docs/locality-alignment.md` tells how.
//!
//!     cargo run --release --features finetune-files --example align -- --model VIT --images DIR --out DIR
//!
//! It can be stopped at any moment, by kill -9 too: the same command goes on where the last checkpoint was taken. The last
//! line is `result key=value ...`.
#![forbid(unsafe_code)]

#[allow(dead_code)]
#[path = "../common/mod.rs"]
mod common;
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    common::arguments::exit_code(run::run(std::env::args().skip(1)))
}
