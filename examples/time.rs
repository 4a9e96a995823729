//! Times one module on random input: minimum and median of several runs after two that do not count.
//!
//!     cargo run --release --example time -- vit --weights vit.safetensors --config vit.json --threads 2 --runs 8
//!
//! `--config` is a file, or JSON itself, with the fields that `VitConfig::from_fields` reads; `--isa` asks for an
//! instruction set. The last line is `result name=... threads=... isa=... min_ms=... median_ms=...`.

use std::process::ExitCode;
use std::time::Instant;

use triplet::backend::Backend;
use triplet::config::Fields;
use triplet::cpu::{Cpu, Isa};
use triplet::reference::uniform;
use triplet::vision::{Vit, VitConfig};
use triplet::weights::{Access, Loader, Weights};

const USAGE: &str =
    "usage: time vit --weights FILE --config FILE_OR_JSON [--threads N] [--runs N] [--isa NAME]";

struct Arguments {
    weights: String,
    config: String,
    threads: Option<usize>,
    runs: usize,
    isa: Option<Isa>,
}

fn arguments() -> Result<Arguments, String> {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() != Some("vit") {
        return Err(USAGE.into());
    }
    let (mut weights, mut config, mut threads, mut runs, mut isa) = (None, None, None, 8, None);
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("{name} needs a value; {USAGE}"))?;
        let number = || value.parse::<usize>().map_err(|_| format!("{name}: {value:?} is no number"));
        match name.as_str() {
            "--weights" => weights = Some(value),
            "--config" => config = Some(value),
            "--threads" => threads = Some(number()?),
            "--runs" => runs = number()?.max(1),
            "--isa" => isa = Some(Isa::from_name(&value).ok_or_else(|| format!("unknown isa {value:?}"))?),
            _ => return Err(format!("unknown option {name}; {USAGE}")),
        }
    }
    let missing = |name: &str| format!("{name} is missing; {USAGE}");
    Ok(Arguments {
        weights: weights.ok_or_else(|| missing("--weights"))?,
        config: config.ok_or_else(|| missing("--config"))?,
        threads,
        runs,
        isa,
    })
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = arguments()?;
    let text = match arguments.config.trim_start().starts_with('{') {
        true => arguments.config.clone().into_bytes(),
        false => {
            std::fs::read(&arguments.config).map_err(|error| format!("{}: {error}", arguments.config))?
        }
    };
    let config = VitConfig::from_fields(&Fields::parse(&arguments.config, &text)?)?;
    let mut cpu = arguments.threads.map_or_else(Cpu::new, Cpu::with_threads);
    if let Some(isa) = arguments.isa {
        cpu = cpu.with_isa(isa)?;
    }
    let weights = Weights::open_file(&arguments.weights, Access::Map)?;
    let vit = Vit::load(&Loader::new(&weights, &cpu, ""), &config)?;
    let pixels = config.image_size * config.image_size;
    let pixels = cpu.upload(pixels, 3, &uniform(pixels * 3, 1))?;

    let mut milliseconds = Vec::with_capacity(arguments.runs);
    for index in 0..arguments.runs + 2 {
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

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
