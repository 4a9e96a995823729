//! Times updates of locality alignment on random pictures in memory; `benches/peers/align.py` compares them with PyTorch's.
//!
//!     cargo run --release --features finetune-files --example time_align -- --model DIR --batch 8 --updates 3
//!
//! The first update is not timed. The last line is `result images_per_s=... processor_s=... peak_mib=... loss=...`: the
//! fastest update; the least processor time of all threads that one took, by picture; and the process's peak resident memory.
//! The system tells the latter two (Linux).
#![forbid(unsafe_code)]

#[allow(dead_code)]
#[path = "common/arguments.rs"]
mod arguments;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, exit_code};
use triplet::Cpu;
use triplet::arena::Arena;
use triplet::finetune::run::EncoderDir;
use triplet::finetune::{AlignConfig, Images, Rng, Schedule, Trainer};

const USAGE: &str = "\
usage: time_align --model DIR [options]

  --model DIR    model directory, or the part of one with `visual_encoder` and its preprocessor
  --batch N      pictures of an update (8)
  --updates N    updates that are timed (3), after one that is not
  --threads N    threads (all cores)
  --recompute    keep less of the forward pass in memory and compute it again";

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let given = Arguments::read(&["model", "batch", "updates", "threads"], &["recompute"], USAGE)?;
    let cpu = given.number("threads")?.map_or_else(Cpu::new, Cpu::with_threads);
    // The teacher's weights never change.
    let cpu = cpu.in_arena(Arena::pooled(Arena::POOLED_TO_TRAIN)).with_packed_weights(true);
    let batch = given.number::<usize>("batch")?.unwrap_or(8);
    let updates = given.number::<u64>("updates")?.unwrap_or(3).max(1);
    let encoder = EncoderDir::open(Path::new(given.required("model")?))?;
    let recipe = AlignConfig::recipe(&encoder.vit, Schedule::cosine(3e-4, updates + 1));
    let config = AlignConfig { checkpointing: given.has("recompute"), ..recipe };
    let loader = encoder.loader(&cpu);
    let mut trainer = Trainer::new(&cpu, config, &loader, &loader, 1)?;
    let side = encoder.vit.image_size;
    let mut rng = Rng::new(1);
    let pixels: Vec<f32> = (0..batch * side * side * 3).map(|_| rng.between(-2.0, 2.0) as f32).collect();
    let images = Images::new(&pixels, side)?;
    let (mut fastest, mut least, mut loss) = (f64::INFINITY, f64::INFINITY, f64::NAN);
    for update in 0..=updates {
        let (start, spent) = (Instant::now(), processor_s());
        let masks = trainer.sample(batch);
        loss = trainer.accumulate(&cpu, images, &masks, 1)?;
        trainer.update(&cpu)?;
        let took = start.elapsed().as_secs_f64();
        if update > 0 {
            fastest = fastest.min(took);
            least = least.min(processor_s() - spent);
        }
    }
    let (rate, least) = (batch as f64 / fastest, least / batch as f64);
    println!(
        "result images_per_s={rate:.3} processor_s={least:.3} peak_mib={:.0} loss={loss:.5}",
        peak_mib()
    );
    Ok(())
}

/// Processor time of all threads of this process so far, in seconds; NaN where the system does not tell.
fn processor_s() -> f64 {
    /// Linux reports it in hundredths of a second on every architecture.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may hold spaces. After it, user and system time are the 12th and 13th field.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let mut times = fields.split_whitespace().skip(11).map(|field| field.parse().unwrap_or(f64::NAN));
    let (user, system): (f64, f64) = (times.next().unwrap_or(f64::NAN), times.next().unwrap_or(f64::NAN));
    (user + system) / TICKS
}

/// Peak resident memory of this process; NaN where the system does not tell.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}
