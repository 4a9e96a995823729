//! Times what users time, on random input: minimum and median of several runs after two that do not count.
//!
//!     cargo run --release --example time -- vit --model l14_336 --threads 2 --runs 8
//!     cargo run --release --example time -- vit --weights vit.safetensors --config vit.json
//!     cargo run --release --example time -- llm --model llama_1b --dtype int8 --work decode --threads 2
//!     cargo run --release --example time -- heads --model DIR/pose20_tower --threads 2
//!     cargo run --release --example time -- open --model DIR
//!     cargo run --release --example time -- linear --layer vit_l14_336
//!     cargo run --release --example time -- answer --threads 2 --runs 2000
//!     cargo run --release --example time -- roof
//!
//! `--model` is a vision transformer by name, with random weights where no `--weights` are given; `--config` is a file, or
//! JSON itself, with the fields that `VitConfig::from_fields` reads. `--isa` asks for an instruction set. Weights are packed
//! while they are loaded (`Cpu::with_packed_weights`) unless `--unpacked` says otherwise. With `--int8` weights and
//! activations of the blocks' linear layers are integers, and the cosine of the features with those of `f32` is printed;
//! `--outliers` makes one channel in a hundred 30 times as large first. `answer` asks the shipped model (or `--model`) the same
//! question about the same picture, and names the slowest answers with how often the system took a thread off its core.
//!
//! `heads` takes a directory with a decoder head, feature maps and latents that `benches/peers/heads.py export` has written.
//!
//! `llm` takes the sizes of TinyLlama (`llama_1b`) or of Llama-2-7B (`llama_7b`) with random weights in `f32`, `f16`, `int8` or
//! `int4`, reads a prompt of 512 tokens (`prefill`) or writes 8 tokens after 64 or `--held` (`decode`), with keys and values in
//! `--cache`; decoding is measured against the rate at which memory is read, here the bytes of the weights and of the cache that
//! a token needs. `open` opens a model directory and a session, and says what memory that takes; `--make` writes one of the size of
//! 7B in `f16` first, whose weights are holes.
//!
//! With `--step` a run happens for every line of standard input, so that another program can interleave this one with its
//! competitors (`benches/peers/interleave.py` does); each run prints `ms`, and a line `roof` measures the rate of
//! multiply-adds instead. The last line is
//! `result name=... threads=... isa=... min_ms=... median_ms=... fraction_of_roof=...`: the fraction is that of the rate
//! of multiply-adds in registers (in `f32`, whatever the weights are) or of reading memory that was measured in the same run,
//! between the timed ones, or after them where `--step` did not ask for it.

mod answer;
#[allow(dead_code)]
#[path = "../common/arguments.rs"]
mod arguments;
mod bandwidth;
mod clock;
mod heads;
mod integers;
mod linear;
mod llm;
mod llm_random;
mod open;
mod random;
mod roof;
#[allow(dead_code)]
#[path = "../../tests/common/shapes.rs"]
mod shapes;
#[allow(dead_code)]
#[path = "../module/tensors.rs"]
mod tensors;
mod vit;
mod vit_shapes;

use std::error::Error;
use std::process::ExitCode;

use arguments::{Arguments, exit_code};
use triplet::cpu::{Cpu, Isa};

const USAGE: &str = "\
time vit   [--model b16_224|l14_336] [--weights FILE] [--config FILE_OR_JSON] [--int8] [--outliers]
time llm   [--model llama_1b|llama_7b] [--dtype f32|f16|int8|int4] [--work prefill|decode] [--held N] [--cache f32|f16|int8]
time heads --model DIR
time answer [--model DIR]
time open  --model DIR [--make]
time linear [--layer NAME]
time roof
each with  [--threads N] [--runs N] [--isa NAME] [--step] [--unpacked]";

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1).peekable();
    let work = words.next_if(|word| !word.starts_with('-'));
    let names =
        ["model", "layer", "weights", "config", "threads", "runs", "isa", "dtype", "work", "held", "cache"];
    let flags = ["step", "unpacked", "int8", "outliers", "make"];
    let arguments = Arguments::read_words(words, &names, &flags, USAGE)?;
    let cpu = arguments.number("threads")?.map_or_else(Cpu::new, Cpu::with_threads);
    let mut cpu = cpu.with_packed_weights(!arguments.has("unpacked"));
    if let Some(name) = arguments.text("isa") {
        let isa = Isa::from_name(name).ok_or_else(|| format!("--isa {name} is no instruction set"))?;
        cpu = cpu.with_isa(isa)?;
    }
    match work.as_deref() {
        Some("vit") => vit::time(&cpu, &arguments),
        Some("llm") => llm::time(&cpu, &arguments),
        Some("heads") => heads::time(&cpu, &arguments),
        Some("open") => open::time(&cpu, &arguments),
        Some("answer") => answer::time(&cpu, &arguments),
        Some("linear") => linear::time(&cpu, &arguments),
        Some("roof") => roof::time(&cpu, &arguments),
        _ => Err(format!("what is to be timed?\n{USAGE}").into()),
    }
}
