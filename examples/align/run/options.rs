//! The command line.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use triplet::finetune::files::{Pictures, split};
use triplet::finetune::run::{RunConfig, RunFiles};
use triplet::finetune::{Decay, EmaConfig, HeadKind, Loss, MaskKind};

use crate::common::arguments::Arguments;

const USAGE: &str = "\
usage: cargo run --release --features finetune-files --example align -- --model DIR --images PATH --out DIR [options]

  --model DIR            model directory, or the part of one with `visual_encoder` and its preprocessor
  --images PATH          folder of PNG and JPEG files, or a pack (example `pack`)
  --out DIR              folder of the run; a run that is found there goes on
  --val PATH             pictures to validate on (the last 2 % of --images by the hash of their names)
  --checkpoint-minutes M minutes between checkpoints (10; 0: after every update)
  --threads N            threads that compute (all cores)
  --workers N            threads that decode pictures (2)
  --recompute            keep less of the forward pass in memory and compute it again

what changes the result; a run that goes on must be given the same:
  --updates N            updates in all; or --epochs N (5) over the pictures
  --batch N              pictures of an update (32), spread over --parts N (4) passes
  --rate R               largest learning rate (3e-4), --warmup N updates (0)
  --decay D              weight decay (0.01), with --decay-matrices not of biases and norms
  --ema D                export a moving average with this decay (none)
  --head linear|mlp      the student's new head (linear)
  --masks KIND           uniform, bernoulli:KEEP or blockwise:KEEP (uniform)
  --loss KIND            mse, cosine, l1, masked-mse or unmasked-mse (mse)
  --skip-blocks N        last blocks that the teacher lacks (1; 0 with --prefix-only)
  --prefix-only          the target is the teacher's pooled vector, predicted at the prefix token
  --freeze-encoder       the decoder learns alone; there is no encoder to export then
  --decoder-layers N     blocks of the decoder (2)
  --soft-cap C|none      soft cap of the student's attention (30; none with --freeze-encoder)
  --mim                  masked image modelling, the ablation
  --no-augment           whole pictures, no augmentation
  --val-limit N          most pictures to validate on (128), every --val-every N updates (a tenth of the run)
  --seed S               fixes everything that is random (1)";

const NAMES: [&str; 24] = [
    "model",
    "images",
    "out",
    "val",
    "checkpoint-minutes",
    "threads",
    "workers",
    "updates",
    "epochs",
    "batch",
    "parts",
    "rate",
    "warmup",
    "decay",
    "ema",
    "head",
    "masks",
    "loss",
    "skip-blocks",
    "decoder-layers",
    "soft-cap",
    "val-limit",
    "val-every",
    "seed",
];

/// What the command line asks for.
pub struct Options {
    pub files: RunFiles,
    pub config: RunConfig,
    pub threads: Option<usize>,
    pub between_checkpoints: Duration,
}

impl Options {
    /// Reads the words after the program's name.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
        let flags = ["recompute", "decay-matrices", "mim", "no-augment", "prefix-only", "freeze-encoder"];
        let given = Arguments::read_words(words, &NAMES, &flags, USAGE)?;
        let minutes = given.number::<f64>("checkpoint-minutes")?.unwrap_or(10.0);
        let between_checkpoints = Duration::try_from_secs_f64(60.0 * minutes)
            .map_err(|error| format!("--checkpoint-minutes {minutes}: {error}"))?;
        let files = RunFiles {
            model: PathBuf::from(given.required("model")?),
            images: PathBuf::from(given.required("images")?),
            validation: given.text("val").map(PathBuf::from),
            out: PathBuf::from(given.required("out")?),
            workers: given.number("workers")?.unwrap_or(2),
            checkpointing: given.has("recompute"),
        };
        let config = config(&given, &files)?;
        Ok(Options { files, config, threads: given.number("threads")?, between_checkpoints })
    }
}

fn config(given: &Arguments, files: &RunFiles) -> Result<RunConfig, Box<dyn Error>> {
    let batch = given.number::<usize>("batch")?.unwrap_or(32);
    let updates = match (given.number("updates")?, given.number::<f64>("epochs")?) {
        (Some(_), Some(_)) => return Err("--updates and --epochs say the same thing: give one".into()),
        (Some(updates), None) => updates,
        (None, epochs) => {
            let pictures = pictures(&files.images, files.validation.is_none())? as f64;
            (epochs.unwrap_or(5.0) * pictures / batch.max(1) as f64).round().max(1.0) as u64
        }
    };
    let recipe = RunConfig::recipe(updates);
    let (prefix_only, freeze_encoder) = (given.has("prefix-only"), given.has("freeze-encoder"));
    Ok(RunConfig {
        seed: given.number("seed")?.unwrap_or(recipe.seed),
        updates,
        batch,
        parts: given.number("parts")?.unwrap_or(recipe.parts),
        rate: given.number("rate")?.unwrap_or(recipe.rate),
        warmup: given.number("warmup")?.unwrap_or(recipe.warmup),
        augment: !given.has("no-augment"),
        soft_cap: match given.text("soft-cap") {
            Some("none") => None,
            _ => given.number("soft-cap")?.or(recipe.soft_cap.filter(|_| !freeze_encoder)),
        },
        mim: given.has("mim"),
        skip_blocks: given.number("skip-blocks")?.unwrap_or(if prefix_only { 0 } else { recipe.skip_blocks }),
        prefix_only,
        freeze_encoder,
        decoder_layers: given.number("decoder-layers")?.unwrap_or(recipe.decoder_layers),
        head: match given.text("head") {
            None | Some("linear") => HeadKind::Linear,
            Some("mlp") => HeadKind::Mlp,
            Some(other) => return Err(format!("--head {other}: linear and mlp are known").into()),
        },
        masks: given.text("masks").map_or(Ok(recipe.masks), masks)?,
        loss: given.text("loss").map_or(Ok(recipe.loss), loss)?,
        decay: given.number("decay")?.unwrap_or(recipe.decay),
        decays: if given.has("decay-matrices") { Decay::Matrices } else { recipe.decays },
        ema: given.number("ema")?.map(|decay| EmaConfig { decay, warmup: true }),
        validation: given.number("val-limit")?.unwrap_or(recipe.validation),
        validate_every: given.number("val-every")?.unwrap_or(recipe.validate_every),
    })
}

/// Pictures that are trained on.
fn pictures(images: &Path, held_back: bool) -> Result<usize, Box<dyn Error>> {
    let pictures = Pictures::open(images)?;
    Ok(if held_back { split(&pictures).0.len() } else { pictures.len() })
}

fn masks(text: &str) -> Result<MaskKind, Box<dyn Error>> {
    let error = || format!("--masks {text}: uniform, bernoulli:KEEP and blockwise:KEEP are known");
    let (kind, keep) = text.split_once(':').unwrap_or((text, ""));
    let keep = keep.parse::<f64>();
    match (kind, keep) {
        ("uniform", Err(_)) if text == "uniform" => Ok(MaskKind::Uniform),
        ("bernoulli", Ok(keep)) => Ok(MaskKind::Bernoulli { keep }),
        ("blockwise", Ok(keep)) => Ok(MaskKind::Blockwise { keep }),
        _ => Err(error().into()),
    }
}

fn loss(text: &str) -> Result<Loss, Box<dyn Error>> {
    Ok(match text {
        "mse" => Loss::Mse,
        "cosine" => Loss::Cosine,
        "l1" => Loss::L1,
        "masked-mse" => Loss::MaskedMse,
        "unmasked-mse" => Loss::UnmaskedMse,
        other => return Err(format!("--loss {other} is not known").into()),
    })
}
