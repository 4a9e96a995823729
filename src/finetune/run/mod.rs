//! A run of locality alignment over files (feature `finetune-files`): a model directory and pictures in, a checkpoint now and
//! then, an encoder that plugs back in at the end.
//!
//! A run lives in a folder. It can be killed at any instant: the next [`Run::open`] on the folder goes on from the last
//! [`Run::save`], and what follows has the bits that it would have had.
#![forbid(unsafe_code)]

mod checkpoint;
mod config;
mod encoder_dir;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use checkpoint::{Checkpoint, Notes};
pub use config::RunConfig;
pub use encoder_dir::{EncoderDir, plug_in};

use super::export::Named;
use super::files::atomic::io;
use super::files::split::hash;
use super::files::{Pictures, Stream, StreamConfig, split, whole_pictures};
use super::{Images, Trainer};
use crate::backend::Train;
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::image::Preprocessor;
use crate::weights::Loader;

/// File of the checkpoint in a run's folder.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// Folder of the trained encoder in a run's folder.
pub const ALIGNED: &str = "aligned";

/// Where a run reads and writes, and what changes none of its bits.
#[derive(Clone, Debug)]
pub struct RunFiles {
    /// Model directory whose `visual_encoder` is trained.
    pub model: PathBuf,
    /// Folder or pack of pictures.
    pub images: PathBuf,
    /// Folder or pack of pictures to validate on; without it the last 2 % of `images` by the hash of their names.
    pub validation: Option<PathBuf>,
    /// Folder of the run.
    pub out: PathBuf,
    /// Threads that decode pictures.
    pub workers: usize,
    /// Whether the trainer saves memory and computes more instead.
    pub checkpointing: bool,
}

/// A run between two updates.
pub struct Run<B: Train> {
    backend: B,
    config: RunConfig,
    options: BTreeMap<String, String>,
    encoder: EncoderDir,
    trainer: Trainer<B>,
    stream: Stream,
    /// Normalised pictures to validate on.
    validation: Vec<f32>,
    losses: Vec<f32>,
    validations: Vec<(u64, f32)>,
    skipped: BTreeMap<String, String>,
    saved: u64,
    resumed: bool,
    out: PathBuf,
    /// Held as long as the run is.
    _lock: File,
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Updates so far, this one included.
    pub updates: u64,
    /// Mean loss of its pictures, before it.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub norm: f64,
    /// Learning rate.
    pub rate: f64,
    /// The loss on the pictures held back, where it was time for it.
    pub validation: Option<f64>,
}

impl<B: Train> Run<B> {
    /// Begins the run of a folder, or goes on with it where it has a checkpoint. A new run measures its targets, validates,
    /// and saves, so that there is a checkpoint from the first moment on.
    ///
    /// # Errors
    /// [`Error::Input`] naming the field: pictures that are missing or cannot be read, an option that does not fit, or one
    /// that is not what the checkpoint was made with; [`Error::Io`] naming the path, also where another process has the
    /// folder; the errors of model and weights.
    pub fn open(backend: B, files: &RunFiles, config: RunConfig) -> Result<Run<B>> {
        fs::create_dir_all(&files.out).map_err(|error| io(&files.out, error))?;
        let lock = lock(&files.out)?;
        let encoder = EncoderDir::open(&files.model)?;
        let align = config.align(&encoder.vit, files.checkpointing)?;
        let pictures = Arc::new(Pictures::open(&files.images)?);
        let (train, held, source): (Vec<usize>, Vec<usize>, Arc<Pictures>) = match &files.validation {
            Some(path) => {
                let held = Arc::new(Pictures::open(path)?);
                ((0..pictures.len()).collect(), (0..held.len()).collect(), held)
            }
            None => {
                let (train, held) = split(&pictures);
                (train, held, pictures.clone())
            }
        };
        let mut options = config.options();
        options.insert("model".to_string(), format!("{:016x}", encoder.fingerprint()?));
        options.insert("images".to_string(), listed(&pictures, &train));
        options.insert("val".to_string(), listed(&source, &held));
        let path = files.out.join(CHECKPOINT);
        let checkpoint = Checkpoint::open(&path)?;
        if let Some(checkpoint) = &checkpoint {
            checkpoint.check(&options)?;
        }

        let side = encoder.vit.image_size;
        let (mut skipped, mut validation) = (BTreeMap::new(), Vec::new());
        let held: Vec<usize> = held.into_iter().take(config.validation).collect();
        for picture in whole_pictures(&source, &held, side, files.workers, &mut skipped)? {
            add_normalised(&encoder.preprocessor, &picture, &mut validation);
        }
        if validation.is_empty() {
            let reason = format!("none of the {} pictures held back can be read", held.len());
            return Err(Error::Input { field: "validation", reason });
        }

        let loader = encoder.loader(&backend);
        let (mut losses, mut validations, mut position) = (Vec::new(), Vec::new(), 0);
        let trainer = match &checkpoint {
            None => Trainer::new(&backend, align, &loader, &loader, config.seed)?,
            Some(checkpoint) => {
                let state = Loader::new(&checkpoint.weights, &backend, "");
                losses = checkpoint.numbers("run.losses")?;
                let pairs = checkpoint.numbers("run.validations")?;
                validations = pairs.as_chunks::<2>().0.iter().map(|&[at, loss]| (at as u64, loss)).collect();
                position = checkpoint.notes.position;
                skipped.extend(checkpoint.notes.skipped.clone());
                Trainer::resume(&backend, align, &loader, &loader, &state)?
            }
        };
        if trainer.updates() != losses.len() as u64 {
            let reason = format!("holds {} losses of {} updates", losses.len(), trainer.updates());
            return Err(Error::Tensor { name: "run.losses".to_string(), reason });
        }
        let stream =
            StreamConfig { side, seed: config.seed, augment: config.augment, workers: files.workers };
        let stream = Stream::new(&pictures, train, stream, position)?;
        let (saved, resumed, out) = (trainer.updates(), checkpoint.is_some(), files.out.clone());
        let mut run = Run {
            backend,
            config,
            options,
            encoder,
            trainer,
            stream,
            validation,
            losses,
            validations,
            skipped,
            saved,
            resumed,
            out,
            _lock: lock,
        };
        if !resumed {
            run.calibrate()?;
            run.validate()?;
            run.save()?;
        }
        Ok(run)
    }

    /// The hyperparameters.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// Whether the folder had a checkpoint.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.trainer.updates()
    }

    /// Whether all updates are done.
    pub fn done(&self) -> bool {
        self.updates() >= self.config.updates
    }

    /// Updates that the checkpoint on disk has.
    pub fn saved(&self) -> u64 {
        self.saved
    }

    /// The loss of every update so far.
    pub fn losses(&self) -> &[f32] {
        &self.losses
    }

    /// The losses on the pictures held back, each with the number of updates before it.
    pub fn validations(&self) -> &[(u64, f32)] {
        &self.validations
    }

    /// Pictures that could not be read and were passed over, by name, with the reasons.
    pub fn skipped(&self) -> BTreeMap<String, String> {
        let mut all = self.skipped.clone();
        all.extend(self.stream.skipped().iter().map(|(name, reason)| (name.clone(), reason.clone())));
        all
    }

    /// Takes one update, and validates where it is time.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where a loss or a gradient is not finite: the checkpoint on disk is then the last good state, and
    /// this run is at its end; [`Error::Input`] where no picture can be read.
    pub fn step(&mut self) -> Result<Step> {
        let count = self.config.batch / self.config.parts;
        let side = self.encoder.vit.image_size;
        let (mut loss, mut numbers) = (0.0, Vec::new());
        for _ in 0..self.config.parts {
            numbers.clear();
            for _ in 0..count {
                let picture = self.stream.next_picture()?;
                add_normalised(&self.encoder.preprocessor, &picture, &mut numbers);
            }
            let images = Images::new(&numbers, side)?;
            let masks = self.trainer.sample(count);
            loss += self.trainer.accumulate(&self.backend, images, &masks, self.config.parts)?;
        }
        let loss = loss / self.config.parts as f64;
        let update = self.trainer.update(&self.backend)?;
        self.losses.push(loss as f32);
        let due = update.updates.is_multiple_of(self.config.validate_every) || self.done();
        let validation = if due { Some(self.validate()?) } else { None };
        Ok(Step { updates: update.updates, loss, norm: update.norm, rate: update.rate, validation })
    }

    /// Replaces the checkpoint.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file (a full disk), [`Error::NonFinite`] naming a tensor; the checkpoint is the old one then.
    pub fn save(&mut self) -> Result<()> {
        let mut tensors = self.trainer.state_tensors(&self.backend)?;
        let mut push = |name: &str, shape, data| tensors.push(Named { name: name.to_string(), shape, data });
        push("run.losses", vec![self.losses.len()], self.losses.clone());
        let pairs: Vec<f32> = self.validations.iter().flat_map(|&(at, loss)| [at as f32, loss]).collect();
        push("run.validations", vec![self.validations.len(), 2], pairs);
        let (options, skipped) = (self.options.clone(), self.skipped());
        let notes = Notes { options, position: self.stream.position(), skipped };
        checkpoint::write(&self.out.join(CHECKPOINT), &tensors, &notes)?;
        self.saved = self.updates();
        Ok(())
    }

    /// Writes the encoder as it is now to the folder [`ALIGNED`] of the run, in the layout of a model directory
    /// ([`EncoderDir`]); its moving average where the run has one. Returns the folder.
    ///
    /// # Errors
    /// [`Error::Io`] naming what could not be written.
    pub fn export(&self) -> Result<PathBuf> {
        let (bytes, vit) = self.trainer.export(&self.backend, self.config.ema.is_some(), false)?;
        let dir = self.out.join(ALIGNED);
        self.encoder.write(&dir, bytes, &vit)?;
        Ok(dir)
    }

    /// Measures the targets.
    fn calibrate(&mut self) -> Result<()> {
        let mut batches = Vec::new();
        for (index, images) in
            batches_of(&self.validation, &self.config, self.encoder.vit.image_size)?.enumerate()
        {
            batches.push((images, self.trainer.validation_masks(images.count(), index as u64)));
        }
        self.trainer.calibrate(&self.backend, batches).map(drop)
    }

    /// The loss on the pictures held back, noted.
    fn validate(&mut self) -> Result<f64> {
        let (mut sum, mut count) = (0.0, 0);
        for (index, images) in
            batches_of(&self.validation, &self.config, self.encoder.vit.image_size)?.enumerate()
        {
            let masks = self.trainer.validation_masks(images.count(), index as u64);
            let loss = self.trainer.validate(&self.backend, images, &masks)?;
            sum += loss * images.count() as f64;
            count += images.count();
        }
        let loss = sum / count as f64;
        if !loss.is_finite() {
            return Err(Error::NonFinite { module: "validation".to_string() });
        }
        self.validations.push((self.updates(), loss as f32));
        Ok(loss)
    }
}

/// Adds the normalised values of a picture's bytes.
fn add_normalised(preprocessor: &Preprocessor, picture: &[u8], numbers: &mut Vec<f32>) {
    let first = numbers.len();
    numbers.resize(first + picture.len(), 0.0);
    preprocessor.normalise(picture, &mut numbers[first..]);
}

/// The pictures of validation, as many at a time as a part of an update has.
fn batches_of<'a>(
    pictures: &'a [f32],
    config: &RunConfig,
    side: usize,
) -> Result<impl Iterator<Item = Images<'a>>> {
    let count = Size::product(&[config.batch / config.parts, side, side, 3])?.get();
    let batches: Result<Vec<_>> = pictures.chunks(count.max(1)).map(|part| Images::new(part, side)).collect();
    Ok(batches?.into_iter())
}

/// Which pictures a run was begun with: their number and a hash of their names.
fn listed(pictures: &Pictures, of: &[usize]) -> String {
    let names = of.iter().fold(0, |sum, &index| hash(pictures.name(index).as_bytes(), sum));
    format!("{} pictures {names:016x}", of.len())
}

/// Takes a run's folder for this process; the system gives it back when the process ends, however it does.
fn lock(out: &Path) -> Result<File> {
    let path = out.join("lock");
    let file = File::create(&path).map_err(|error| io(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io(&path, "another process works in this folder")),
        Err(TryLockError::Error(error)) => Err(io(&path, error)),
    }
}
