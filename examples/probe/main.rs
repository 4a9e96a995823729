//! Probes the vision transformer of a model directory on tabletop scenes: what is where, read off its frozen patch tokens by a
//! small head; `docs/locality-alignment.md` tells how.
//!
//!     cargo run --release --features finetune --example probe -- --model examples/tabletop/model --head linear
//!
//! The last line is `result head=... labels=... recall=... miou=... ap=...`.
#![forbid(unsafe_code)]

#[allow(dead_code)]
#[path = "../common/arguments.rs"]
mod arguments;
#[path = "../evaluate/progress.rs"]
mod progress;
mod scenes;

use std::error::Error;
use std::process::ExitCode;

use arguments::{Arguments, exit_code};
use progress::Progress;
use scenes::{Classes, Encoder, Example};
use triplet::Cpu;
use triplet::backend::Backend;
use triplet::finetune::probe::{Probe, ProbeConfig, ProbeHead, ProbeLabels, Score};
use triplet::finetune::{AdamwConfig, Rng, Schedule};

const USAGE: &str = "\
usage: cargo run --release --features finetune --example probe -- --model DIR [options]

  --model DIR       model directory, or the part of one that `align` writes
  --head KIND       linear, mlp or transformer (linear)
  --labels KIND     union: classes of every patch; global-union: classes of every picture (union)
  --classes KIND    shape (6 classes) or class (colour and shape, 41 classes) (class)
  --scenes N        scenes to learn from (1000), from seed --first-seed S (500000)
  --test-scenes N   scenes to score on (300), from seed 1000000
  --epochs N        passes over the scenes (20), --batch N pictures at a time (16)
  --rate R          largest learning rate (1e-3)
  --layer N         hidden state that is probed, from the end (-1: the last, normed)
  --seed S          fixes the head's first weights and the order (1)
  --threads N       threads (all cores)";

/// Seeds from here on are kept for evaluation.
const TEST_SEED: u64 = 1_000_000;

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let names = [
        "model",
        "head",
        "labels",
        "classes",
        "scenes",
        "first-seed",
        "test-scenes",
        "epochs",
        "batch",
        "rate",
        "layer",
        "seed",
        "threads",
    ];
    let given = Arguments::read(&names, &[], USAGE)?;
    let (head, head_name) = choice(
        &given,
        "head",
        &[("linear", ProbeHead::Linear), ("mlp", ProbeHead::Mlp), ("transformer", ProbeHead::Transformer)],
    )?;
    let (labels, labels_name) = choice(
        &given,
        "labels",
        &[("union", ProbeLabels::Union), ("global-union", ProbeLabels::GlobalUnion)],
    )?;
    let (classes, _) = choice(&given, "classes", &[("class", Classes::Class), ("shape", Classes::Shape)])?;
    let scenes = given.number::<u64>("scenes")?.unwrap_or(1000);
    let first = given.number::<u64>("first-seed")?.unwrap_or(500_000);
    let test_scenes = given.number::<u64>("test-scenes")?.unwrap_or(300);
    if first.saturating_add(scenes) > TEST_SEED || scenes == 0 || test_scenes == 0 {
        return Err(format!("--scenes: seeds from {TEST_SEED} on are those that are scored").into());
    }
    let epochs = given.number::<usize>("epochs")?.unwrap_or(20);
    let batch = given.number::<usize>("batch")?.unwrap_or(16).max(1);
    let seed = given.number("seed")?.unwrap_or(1);

    let cpu = given.number("threads")?.map_or_else(Cpu::new, Cpu::with_threads);
    let layer = given.number("layer")?.unwrap_or(-1);
    let encoder = Encoder::open(&cpu, given.required("model")?, layer)?;
    let names = classes.names();
    let mut bar = Progress::new("scenes", scenes + test_scenes);
    let train = encoder.examples(first..first + scenes, classes, labels, &mut bar)?;
    let test = encoder.examples(TEST_SEED..TEST_SEED + test_scenes, classes, labels, &mut bar)?;

    let per_epoch = train.len().div_ceil(batch);
    let updates = (per_epoch * epochs).max(1) as u64;
    let rate = given.number("rate")?.unwrap_or(1e-3);
    let (width, patches, heads) = encoder.shape();
    let config = ProbeConfig {
        head,
        labels,
        classes: names.len(),
        width,
        patches,
        heads,
        schedule: Schedule { warmup: updates / 20, ..Schedule::cosine(rate, updates) },
        optimiser: AdamwConfig::RECIPE,
    };
    let mut probe = Probe::new(&cpu, config, seed)?;
    let mut rng = Rng::new(seed);
    let mut order: Vec<usize> = (0..train.len()).collect();
    let mut loss = f64::NAN;
    let mut bar = Progress::new("updates", (per_epoch * epochs) as u64);
    for _ in 0..epochs {
        for last in (1..order.len()).rev() {
            order.swap(last, rng.below(last + 1));
        }
        let mut sum = 0.0;
        for part in order.chunks(batch) {
            let (tokens, labels) = gathered(part.iter().map(|&index| &train[index]));
            let tokens = cpu.upload(part.len() * patches, width, &tokens)?;
            sum += probe.update(&cpu, tokens.view(), &labels)? * part.len() as f64;
            bar.step();
        }
        loss = sum / order.len() as f64;
    }
    let mut score = Score::new(names.len());
    for part in test.chunks(batch) {
        let (tokens, labels) = gathered(part.iter());
        let tokens = cpu.upload(part.len() * patches, width, &tokens)?;
        score.add(&probe.predict(&cpu, tokens.view())?, &labels)?;
    }
    println!(
        "result head={head_name} labels={labels_name} classes={} present={} scenes={scenes} test_scenes={test_scenes} loss={loss:.5} recall={:.4} miou={:.4} ap={:.4}",
        names.len(),
        score.present(),
        score.macro_recall(),
        score.miou(),
        score.average_precision(),
    );
    Ok(())
}

/// The value that an option names, the first one where it is not given; with its name.
fn choice<'n, T: Copy>(
    given: &Arguments,
    option: &str,
    known: &[(&'n str, T)],
) -> Result<(T, &'n str), Box<dyn Error>> {
    let wanted = given.text(option).unwrap_or(known[0].0);
    let found = known.iter().find(|(name, _)| *name == wanted);
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let found = found.ok_or_else(|| format!("--{option} {wanted}: {} are known", names.join(", ")))?;
    Ok((found.1, found.0))
}

/// Tokens and labels one after another.
fn gathered<'a>(examples: impl Iterator<Item = &'a Example>) -> (Vec<f32>, Vec<bool>) {
    let (mut tokens, mut labels) = (Vec::new(), Vec::new());
    for example in examples {
        tokens.extend_from_slice(&example.tokens);
        labels.extend_from_slice(&example.labels);
    }
    (tokens, labels)
}
