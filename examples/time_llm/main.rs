//! Times a language model of Llama's architecture with random weights: reading a prompt of 512 tokens, or writing 8 after 64.
//!
//!     cargo run --release --example time_llm -- --model llama_1b --dtype int8 --work decode --threads 2 --runs 8
//!
//! `--model` is `llama_1b` (the sizes of TinyLlama) or `llama_7b`; `--dtype` is `f32`, `f16`, `int8` or `int4`; `--work` is
//! `prefill` or `decode`; `--isa` asks for an instruction set. With `--step` a run happens for every line of standard input,
//! so that `benches/peers/llama.py` can interleave this program with llama.cpp. Decoding ends with the rate at which memory
//! could be read in the same process. The last line is
//! `result name=... threads=... isa=... min_ms=... median_ms=... tokens_per_second=...`, and for decoding
//! `read_gb_per_second=... fraction_of_bandwidth=...`: the bytes of the weights that a token needs over its least time, over
//! that rate.
#![forbid(unsafe_code)]

#[allow(dead_code)]
#[path = "../common/arguments.rs"]
mod arguments;
mod bandwidth;
mod random;

use std::error::Error;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, exit_code};
use random::Stored;
use triplet::backend::{Backend, Matrix};
use triplet::config::Fields;
use triplet::cpu::{Cpu, Isa};
use triplet::language::{KvCache, Llama, LlamaConfig};
use triplet::weights::Loader;

const USAGE: &str = "\
time_llm [--model llama_1b|llama_7b] [--dtype f32|f16|int8|int4] [--work prefill|decode]
         [--threads N] [--runs N] [--isa NAME] [--step]";

/// The sizes of TinyLlama-1.1B and of Llama-2-7B.
const MODELS: [(&str, &str); 2] = [
    (
        "llama_1b",
        r#"{"vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
            "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5}"#,
    ),
    (
        "llama_7b",
        r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5}"#,
    ),
];

/// Tokens of the prompt that is read.
const PROMPT: usize = 512;
/// Positions that are held when writing begins, and tokens that are written in one run.
const HELD: usize = 64;
const WRITTEN: usize = 8;

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let names = ["model", "dtype", "work", "threads", "runs", "isa"];
    let arguments = Arguments::read(&names, &["step"], USAGE)?;
    let mut cpu = arguments.number("threads")?.map_or_else(Cpu::new, Cpu::with_threads);
    if let Some(name) = arguments.text("isa") {
        let isa = Isa::from_name(name).ok_or_else(|| format!("--isa {name} is no instruction set"))?;
        cpu = cpu.with_isa(isa)?;
    }
    let model = arguments.text("model").unwrap_or(MODELS[0].0);
    let known = MODELS.iter().find(|(name, _)| *name == model);
    let text = known.ok_or_else(|| format!("--model {model} is not known"))?.1;
    let config = LlamaConfig::parse(&Fields::parse("llm", text.as_bytes())?)?;
    let dtype = arguments.text("dtype").unwrap_or("f16");
    let stored = match dtype {
        "f32" => Stored::F32,
        "f16" => Stored::F16,
        "int8" => Stored::Int8,
        "int4" => Stored::Int4,
        other => return Err(format!("--dtype {other} is not known").into()),
    };
    let weights = random::weights(&config, stored)?;
    let loader = Loader::new(&weights, &cpu, "");
    let llama = Llama::load(&loader, &config)?;
    let table = config.vocab_size * config.hidden_size * if stored == Stored::F32 { 4 } else { 2 };
    // Of the table of embeddings one row is read.
    let bytes = (loader.taken_bytes() - table) as f64;
    let mut cache = KvCache::new(&cpu, &config, PROMPT)?;
    let ids: Vec<u32> = (0..PROMPT as u32).map(|i| (i * 7919 + 13) % config.vocab_size as u32).collect();
    let embeddings = llama.embed(&cpu, &ids)?;
    let work = arguments.text("work").unwrap_or("decode");
    let name = format!("{model}_{dtype}_{work}");
    match work {
        "prefill" => {
            let least = time(&cpu, &arguments, &name, || {
                cache.truncate(0);
                let out = llama.forward(&cpu, embeddings.view(), &mut cache)?;
                llama.logits(&cpu, out.view().row_range(PROMPT - 1..PROMPT)?)?;
                Ok(())
            })?;
            println!(" tokens_per_second={:.2}", PROMPT as f64 / least);
        }
        "decode" => {
            llama.forward(&cpu, embeddings.view().row_range(0..HELD)?, &mut cache)?;
            let least = time(&cpu, &arguments, &name, || {
                cache.truncate(HELD);
                let mut id = 1;
                for _ in 0..WRITTEN {
                    let x = llama.embed(&cpu, &[id])?;
                    let out = llama.forward(&cpu, x.view(), &mut cache)?;
                    id = likeliest(&cpu, &llama.logits(&cpu, out.view())?)?;
                }
                Ok(())
            })?;
            let (roof, rate) = (bandwidth::rate(cpu.threads()), bytes * WRITTEN as f64 / least);
            println!(
                " tokens_per_second={:.2} read_gb_per_second={:.2} fraction_of_bandwidth={:.3}",
                WRITTEN as f64 / least,
                roof / 1e9,
                rate / roof
            );
        }
        other => return Err(format!("--work {other} is neither prefill nor decode").into()),
    }
    Ok(())
}

/// Runs `work` once, and then as often as asked for; prints the line `result` but for its end and returns the least seconds.
fn time(
    cpu: &Cpu,
    arguments: &Arguments,
    name: &str,
    mut work: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    work()?;
    let mut times = Vec::new();
    let mut once = || -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        work()?;
        let elapsed = start.elapsed().as_secs_f64();
        times.push(elapsed);
        Ok(elapsed)
    };
    if arguments.has("step") {
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            line?;
            println!("ms {:.3}", once()? * 1e3);
            std::io::stdout().flush()?;
        }
    } else {
        for _ in 0..arguments.number::<usize>("runs")?.unwrap_or(8).max(1) {
            once()?;
        }
    }
    times.sort_by(f64::total_cmp);
    let (Some(&least), Some(&median)) = (times.first(), times.get(times.len() / 2)) else {
        return Err("nothing was timed".into());
    };
    let (threads, isa, least_ms, median_ms) = (cpu.threads(), cpu.isa().name(), least * 1e3, median * 1e3);
    print!("result name={name} threads={threads} isa={isa} min_ms={least_ms:.2} median_ms={median_ms:.2}");
    Ok(least)
}

/// The token of the largest score.
fn likeliest(cpu: &Cpu, logits: &Matrix<Cpu>) -> Result<u32, Box<dyn Error>> {
    let logits = cpu.download(logits.view())?;
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    Ok(best.map_or(0, |(id, _)| id as u32))
}
