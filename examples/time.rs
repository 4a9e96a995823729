//! Times one module on random input: minimum and median of several runs after two that do not count.
//!
//!     cargo run --release --example time -- vit --weights vit.safetensors --config vit.json --threads 2 --runs 8
//!
//! `--config` is a file, or JSON itself, with the fields that `VitConfig::from_fields` reads; `--isa` asks for an
//! instruction set. The last line is `result name=... threads=... isa=... min_ms=... median_ms=...`.

#[allow(dead_code)]
#[path = "common/arguments.rs"]
mod arguments;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, exit_code};
use triplet::backend::Backend;
use triplet::config::Fields;
use triplet::cpu::{Cpu, Isa};
use triplet::reference::uniform;
use triplet::vision::{Vit, VitConfig};
use triplet::weights::{Access, Loader, Weights};

const USAGE: &str = "time vit --weights FILE --config FILE_OR_JSON [--threads N] [--runs N] [--isa NAME]";

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1).peekable();
    let work = words.next_if(|word| !word.starts_with('-'));
    let names = ["weights", "config", "threads", "runs", "isa"];
    let arguments = Arguments::read_words(words, &names, &[], USAGE)?;
    if work.as_deref() != Some("vit") {
        return Err(format!("what is to be timed?\n{USAGE}").into());
    }
    let given = arguments.required("config")?;
    let text = match given.trim_start().starts_with('{') {
        true => given.as_bytes().to_vec(),
        false => std::fs::read(given).map_err(|error| format!("{given}: {error}"))?,
    };
    let runs = arguments.number::<usize>("runs")?.unwrap_or(8).max(1);
    let config = VitConfig::from_fields(&Fields::parse(given, &text)?)?;
    let mut cpu = arguments.number("threads")?.map_or_else(Cpu::new, Cpu::with_threads);
    if let Some(name) = arguments.text("isa") {
        let isa = Isa::from_name(name).ok_or_else(|| format!("--isa {name} is no instruction set"))?;
        cpu = cpu.with_isa(isa)?;
    }
    let weights = Weights::open_file(arguments.required("weights")?, Access::Map)?;
    let vit = Vit::load(&Loader::new(&weights, &cpu, ""), &config)?;
    let pixels = config.image_size * config.image_size;
    let pixels = cpu.upload(pixels, 3, &uniform(pixels * 3, 1))?;

    let mut milliseconds = Vec::with_capacity(runs);
    for index in 0..runs + 2 {
        let start = Instant::now();
        let output = vit.forward(&cpu, pixels.view())?;
        let elapsed = start.elapsed().as_secs_f64() * 1e3;
        if index == 0 {
            let last = output.normed;
            println!("{} tokens of {} channels", last.rows(), last.cols());
        } else if index > 1 {
            milliseconds.push(elapsed);
        }
    }
    milliseconds.sort_by(f64::total_cmp);
    let name = format!("vit_{}x{}_{}", config.hidden_size, config.layers, config.image_size);
    let (threads, isa) = (cpu.threads(), cpu.isa().name());
    let (least, median) = (milliseconds[0], milliseconds[milliseconds.len() / 2]);
    println!("result name={name} threads={threads} isa={isa} min_ms={least:.1} median_ms={median:.1}");
    Ok(())
}
