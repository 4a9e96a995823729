//! Puts the pictures of a folder into one file that `align` maps into memory.
//!
//!     cargo run --release --features finetune-files --example pack -- --images DIR --out FILE
//!
//! The files go in as they are; `triplet::finetune::files` says how a pack is laid out. The last line is
//! `result pictures=... skipped=... bytes=...`.
#![forbid(unsafe_code)]

#[allow(dead_code)]
#[path = "common/arguments.rs"]
mod arguments;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use arguments::{Arguments, exit_code};
use triplet::finetune::files::{Pictures, write_pack};

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let given = Arguments::read(&["images", "out"], &[], "pack --images DIR --out FILE")?;
    let out = Path::new(given.required("out")?);
    let pictures = Pictures::open(Path::new(given.required("images")?))?;
    let skipped = write_pack(&pictures, out, |done| {
        if done % 10_000 == 0 {
            eprintln!("{done} of {}", pictures.len());
        }
    })?;
    for (name, reason) in &skipped {
        eprintln!("skipped {name}: {reason}");
    }
    let bytes = std::fs::metadata(out)?.len();
    println!("result pictures={} skipped={} bytes={bytes}", pictures.len() - skipped.len(), skipped.len());
    Ok(())
}
