//! Times what users time, on random input: minimum and median of several runs after two that do not count.
//!
//!     cargo run --release --example time -- vit --model l14_336 --threads 2 --runs 8
//!     cargo run --release --example time -- vit --weights vit.safetensors --config vit.json
//!     cargo run --release --example time -- linear --layer vit_l14_336
//!     cargo run --release --example time -- roof
//!
//! `--model` is a vision transformer by name, with random weights where no `--weights` are given; `--config` is a file, or
//! JSON itself, with the fields that `VitConfig::from_fields` reads. `--isa` asks for an instruction set. Weights are packed
//! while they are loaded (`Cpu::with_packed_weights`) unless `--unpacked` says otherwise. With `--step` a
//! run happens for every line of standard input, so that another program can interleave this one with its competitors
//! (`benches/peers/interleave.py` does); each run prints `ms`, and a line `roof`
//! measures the rate of multiply-adds instead. The last line is
//! `result name=... threads=... isa=... min_ms=... median_ms=... fraction_of_roof=...`: the fraction is that of the rate
//! of multiply-adds in registers that was measured in the same run, between the timed ones.

#[allow(dead_code)]
#[path = "../common/arguments.rs"]
mod arguments;
mod clock;
mod linear;
mod random;
mod roof;
#[allow(dead_code)]
#[path = "../../tests/common/shapes.rs"]
mod shapes;
mod vit;

use std::error::Error;
use std::process::ExitCode;

use arguments::{Arguments, exit_code};
use triplet::cpu::{Cpu, Isa};

const USAGE: &str = "\
time vit   [--model b16_224|l14_336] [--weights FILE] [--config FILE_OR_JSON]
time linear [--layer NAME]
time roof
each with  [--threads N] [--runs N] [--isa NAME] [--step] [--unpacked]";

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1).peekable();
    let work = words.next_if(|word| !word.starts_with('-'));
    let names = ["model", "layer", "weights", "config", "threads", "runs", "isa"];
    let arguments = Arguments::read_words(words, &names, &["step", "unpacked"], USAGE)?;
    let cpu = arguments.number("threads")?.map_or_else(Cpu::new, Cpu::with_threads);
    let mut cpu = cpu.with_packed_weights(!arguments.has("unpacked"));
    if let Some(name) = arguments.text("isa") {
        let isa = Isa::from_name(name).ok_or_else(|| format!("--isa {name} is no instruction set"))?;
        cpu = cpu.with_isa(isa)?;
    }
    match work.as_deref() {
        Some("vit") => vit::time(&cpu, &arguments),
        Some("linear") => linear::time(&cpu, &arguments),
        Some("roof") => roof::time(&cpu, &arguments),
        _ => Err(format!("what is to be timed?\n{USAGE}").into()),
    }
}
