//! Runs any one module of a model alone, on given tensors, and writes its outputs and intermediates: the tool to compare a
//! converted checkpoint with PyTorch stage by stage.
//!
//! ```text
//! cargo run --release --example module -- --model DIR --list
//! cargo run --release --example module -- --model DIR --module visual_decoder.box \
//!     --inputs in.safetensors --outputs out.safetensors --time 20 --threads 1
//! ```
//!
//! A feature map may come as `[channels, height, width]` (with or without a leading 1) or as `[cells, channels]` of a
//! square; it is written as `[cells, channels]`, cells row-major: PyTorch's `map.flatten(2).transpose(1, 2)[0]`.

#[path = "../common/arguments.rs"]
mod arguments;
mod heads;
mod modules;
mod tensors;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, exit_code};
use modules::{MODULES, Setting};
use tensors::Inputs;
use triplet::Cpu;
use triplet::config::ModelDir;

const USAGE: &str = "module --model DIR --list
module --model DIR --module NAME --inputs FILE --outputs FILE [--time N] [--threads N]
  --list       print the modules of the model with their inputs and outputs
  --inputs     safetensors file with the module's inputs by name
  --outputs    safetensors file to write, all tensors f32
  --time N     run N times more and print the minimum and the median in milliseconds
  --threads N  threads to compute on; default: all cores";

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let names = ["model", "module", "inputs", "outputs", "time", "threads"];
    let arguments = Arguments::read(&names, &["list"], USAGE)?;
    let dir = ModelDir::open(arguments.required("model")?)?;
    if arguments.has("list") {
        for module in MODULES {
            if dir.config.optional_module(module.name)?.is_some() {
                println!("{}\n  inputs:  {}\n  outputs: {}", module.name, module.inputs, module.outputs);
            }
        }
        return Ok(());
    }
    let name = arguments.required("module")?;
    let known = MODULES.iter().find(|module| module.name == name);
    let module = known.ok_or_else(|| format!("{name} is no module; --list prints them"))?;
    let cpu = match arguments.number("threads")? {
        Some(threads) => Cpu::with_threads(threads),
        None => Cpu::new(),
    };
    let inputs = Inputs::read(Path::new(arguments.required("inputs")?))?;
    let fields = dir.config.module(name)?;
    let setting = Setting { fields: &fields, weights: &dir.weights, cpu: &cpu, name };

    let forward = (module.load)(&setting, &inputs)?;
    let outputs = forward()?.collect(&cpu)?;
    tensors::write(Path::new(arguments.required("outputs")?), &outputs)?;
    for output in &outputs {
        println!("{} {:?}", output.name, output.shape);
    }
    if let Some(runs) = arguments.number::<usize>("time")? {
        let mut times = Vec::with_capacity(runs);
        for _ in 0..runs {
            let start = Instant::now();
            forward()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        if let (Some(least), Some(median)) = (times.first(), times.get(times.len() / 2)) {
            let threads = cpu.threads();
            println!("{name}: minimum {least:.3} ms, median {median:.3} ms, {runs} runs, {threads} threads");
        }
    }
    Ok(())
}
