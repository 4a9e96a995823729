//! Checks and times what a device is there for, beside the rates that it reaches on the simplest work, and prints a table:
//!
//!     cargo run --release --features cuda --example time_device -- --device cuda:0
//!     cargo run --release --example time_device -- --device cpu --only vit
//!
//! Every row is computed on the CPU as well, where that is a matter of seconds, and compared. `of copy` is the share of the rate at
//! which this library copies a large matrix, read and write counted; `of product` that of the rate of its largest product.
//! The weights of transformers and language models are random. `--small` shrinks everything to a few seconds on a CPU;
//! `--only WORD` picks rows by their names; on a CPU `llama_7b` is left out unless it is picked. `benches/peers/device.py` prints PyTorch's
//! rows under the same names.
#![forbid(unsafe_code)]

#[allow(dead_code)]
#[path = "../common/arguments.rs"]
mod arguments;
mod decode;
#[allow(dead_code)]
#[path = "../time/llm_random.rs"]
mod llm_random;
mod operations;
#[path = "../time/random.rs"]
mod random;
mod table;
mod transformer;
#[path = "../time/vit_shapes.rs"]
mod vit_shapes;
mod whole;
#[allow(dead_code)]
#[path = "../common/world.rs"]
mod world;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, exit_code};
use table::Table;
use triplet::backend::Backend;
use triplet::cpu::Cpu;
use triplet::device::{Device, OnBackend};

const USAGE: &str = "\
time_device [--device auto|cpu|cuda:N] [--runs N] [--only WORD] [--small] [--model DIR] [--questions N] [--threads N]
  --device NAME     where to compute; default: auto
  --runs N          timed runs of each row after three that do not count; default: 10
  --only WORD       only rows with WORD in their name
  --small           small sizes, to try the program out
  --model DIR       model whose answers are timed; default: the one that ships with the repository
  --questions N     questions that are asked and compared with the CPU's answers; default: 20
  --threads N       threads of the CPU; default: all cores";

fn main() -> ExitCode {
    exit_code(run(Instant::now()))
}

fn run(start: Instant) -> Result<(), Box<dyn Error>> {
    let names = ["device", "runs", "only", "model", "questions", "threads"];
    let arguments = Arguments::read(&names, &["small"], USAGE)?;
    let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/tabletop/model");
    let mut plan = Plan {
        start,
        runs: arguments.number("runs")?.unwrap_or(10).max(1),
        only: arguments.text("only").unwrap_or("").to_owned(),
        small: arguments.has("small"),
        model: arguments.text("model").map_or(shipped, PathBuf::from),
        questions: arguments.number("questions")?.unwrap_or(20),
        cpu: arguments.number("threads")?.map_or_else(Cpu::new, Cpu::with_threads),
        exact: false,
    };
    let device: Device = arguments.text("device").unwrap_or("auto").parse()?;
    let opened = device.open(plan.cpu.clone())?;
    println!("device: {opened}");
    plan.exact = opened.device() != Device::Cpu;
    let table = opened.run(plan)?;
    println!("{table}");
    match table.wrong() {
        0 => Ok(()),
        wrong => Err(format!("{wrong} rows are wrong").into()),
    }
}

/// What is timed.
struct Plan {
    /// When the program began.
    start: Instant,
    runs: usize,
    only: String,
    small: bool,
    model: PathBuf,
    questions: usize,
    /// What results are compared with.
    cpu: Cpu,
    /// Whether the device keeps activations in `f32` where weights are in integers, as GPUs do.
    exact: bool,
}

impl OnBackend for Plan {
    type Out = Result<Table, Box<dyn Error>>;

    fn run<B: Backend>(self, backend: B) -> Self::Out {
        let mut table = Table::new(self.runs, &self.only);
        // First, so that it says how long a program takes that does nothing else.
        whole::time(&backend, &self, &mut table)?;
        operations::time(&backend, &self, &mut table)?;
        transformer::time(&backend, &self, &mut table)?;
        decode::time(&backend, &self, &mut table)?;
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_there_and_right() {
        let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/tabletop/model");
        let cpu = Cpu::with_threads(2);
        let (start, only) = (Instant::now(), String::new());
        let plan =
            Plan { start, runs: 1, only, small: true, model, questions: 1, cpu: cpu.clone(), exact: false };
        // Other kernels than those that results are compared with.
        let table = plan.run(cpu.with_isa(triplet::cpu::Isa::Portable).unwrap()).unwrap();
        assert_eq!(table.wrong(), 0, "{table}");
        let text = table.to_string();
        for row in ["first answer", "answer", "copy", "product", "attention 17", "vit", "decode small int4"] {
            assert!(text.contains(row), "{row}: {text}");
        }
    }
}
