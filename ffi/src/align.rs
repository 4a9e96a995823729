//! Locality alignment (feature `finetune`): a vision transformer learns where things are, from pictures without labels.

use core::ffi::{c_char, c_void};
use core::ptr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

use triplet::Cpu;
use triplet::arena::Arena;
use triplet::finetune::run::{Run, RunConfig, RunFiles, plug_in};
use triplet::finetune::{Decay, EmaConfig, HeadKind, Loss, MaskKind};

use crate::float_state::in_host;
use crate::guard::guard;
use crate::memory::{self, Versioned};
use crate::model::{check_threads, cpu, destroy, triplet_model_options};
use crate::registry::{self, Kind, Object};
use crate::status::{Failure, Result, TRIPLET_BUSY, TRIPLET_CANCELLED, TRIPLET_INTERNAL, triplet_status};

/// A run of locality alignment in a folder. It can be killed at any instant: `triplet_align_start` on the same folder with
/// the same options goes on from the last checkpoint, and ends with the same bits. One thread at a time, any thread.
pub struct triplet_align {
    _private: (),
}

/// How masks are drawn; every picture has a random mask, its complement and the mask that hides nothing.
pub type triplet_align_masks = i32;
/// Every patch is kept with one probability, itself uniform over (0, 1).
pub const TRIPLET_ALIGN_MASKS_UNIFORM: triplet_align_masks = 0;
/// Every patch is kept with the probability `masks_keep`.
pub const TRIPLET_ALIGN_MASKS_BERNOULLI: triplet_align_masks = 1;
/// Rectangles until at least the share `masks_keep` of the patches is kept.
pub const TRIPLET_ALIGN_MASKS_BLOCKWISE: triplet_align_masks = 2;

/// What is minimised.
pub type triplet_align_loss = i32;
/// Mean squared difference between prediction and target.
pub const TRIPLET_ALIGN_LOSS_MSE: triplet_align_loss = 0;
/// 1 less the mean cosine of the angle between them.
pub const TRIPLET_ALIGN_LOSS_COSINE: triplet_align_loss = 1;
/// Mean absolute difference.
pub const TRIPLET_ALIGN_LOSS_L1: triplet_align_loss = 2;
/// Squares at hidden patches alone.
pub const TRIPLET_ALIGN_LOSS_MASKED_MSE: triplet_align_loss = 3;
/// Squares at kept patches alone.
pub const TRIPLET_ALIGN_LOSS_UNMASKED_MSE: triplet_align_loss = 4;

/// Ways to train, as bits of `flags`.
pub type triplet_align_flags = u32;
/// Whole pictures, no augmentation.
pub const TRIPLET_ALIGN_NO_AUGMENT: triplet_align_flags = 1;
/// Masked image modelling in place of locality alignment.
pub const TRIPLET_ALIGN_MIM: triplet_align_flags = 2;
/// The target is the teacher's pooled vector; `skip_blocks` must be 0.
pub const TRIPLET_ALIGN_PREFIX_ONLY: triplet_align_flags = 4;
/// The encoder stays as it is and the decoder learns alone; there is no encoder to export then.
pub const TRIPLET_ALIGN_FREEZE_ENCODER: triplet_align_flags = 8;
/// The student's new head has a hidden layer.
pub const TRIPLET_ALIGN_MLP_HEAD: triplet_align_flags = 16;
/// Weight decay spares biases, norms and positions.
pub const TRIPLET_ALIGN_DECAY_MATRICES: triplet_align_flags = 32;
/// Keeps less of the forward pass in memory and computes it again. Changes no bit.
pub const TRIPLET_ALIGN_RECOMPUTE: triplet_align_flags = 64;

/// Where a run is. The caller sets `struct_size`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_align_info {
    /// sizeof(triplet_align_info), set by the caller.
    pub struct_size: u32,
    /// Not 0 where the folder had a checkpoint, and the run went on from it.
    pub resumed: i32,
    /// Updates so far, those before an interruption included.
    pub updates: u64,
    /// Updates in all.
    pub total: u64,
    /// Updates that the checkpoint on disk has.
    pub saved: u64,
    /// Pictures that could not be read and were passed over.
    pub skipped: u64,
    /// Mean loss of the last update's pictures, before it; NaN before the first update.
    pub loss: f64,
    /// The last loss on the pictures held back.
    pub validation: f64,
}

impl Default for triplet_align_info {
    fn default() -> triplet_align_info {
        triplet_align_info {
            struct_size: size_of::<triplet_align_info>() as u32,
            resumed: 0,
            updates: 0,
            total: 0,
            saved: 0,
            skipped: 0,
            loss: f64::NAN,
            validation: f64::NAN,
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, numbers.
unsafe impl Versioned for triplet_align_info {}

/// Told where the run is after every update, on the thread that steps, in the host's floating-point state. Any other value
/// than 0 ends the step, as `triplet_align_stop` does. It may stop the run, but make no other call with its handle, and must
/// not throw.
pub type triplet_align_progress_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, info: *const triplet_align_info) -> i32>;

/// A run. Fill it with `triplet_align_options_init`, which gives the published recipe at 32 pictures an update; the four
/// paths and `updates` are the caller's to set. What changes the result must be the same when a run goes on: everything but
/// `threads`, `workers`, TRIPLET_ALIGN_RECOMPUTE and the callback.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_align_options {
    /// sizeof(triplet_align_options).
    pub struct_size: u32,
    /// Threads that the run computes on, as of triplet_model_options.
    pub threads: u32,
    /// Model directory whose `visual_encoder` is trained, a path in UTF-8 like the others; all are read during the call only.
    pub model: *const c_char,
    /// Folder or pack of PNG and JPEG pictures.
    pub images: *const c_char,
    /// Folder or pack of pictures to validate on; NULL for the last 2 % of `images` by the hash of their names.
    pub validation: *const c_char,
    /// Folder of the run; made where it is missing.
    pub out: *const c_char,
    /// Updates in all; not 0.
    pub updates: u64,
    /// Fixes everything that is random.
    pub seed: u64,
    /// Updates over which the learning rate rises from a tenth.
    pub warmup: u64,
    /// Updates between two validations; 0 for a tenth of the run.
    pub validate_every: u64,
    /// Pictures of an update.
    pub batch: u32,
    /// Passes that they are spread over; divides `batch`.
    pub parts: u32,
    /// Threads that decode pictures.
    pub workers: u32,
    /// Most pictures to validate on.
    pub validation_count: u32,
    /// Last blocks that the teacher lacks.
    pub skip_blocks: u32,
    /// Blocks of the decoder.
    pub decoder_layers: u32,
    /// How masks are drawn.
    pub masks: triplet_align_masks,
    /// What is minimised.
    pub loss: triplet_align_loss,
    /// What TRIPLET_ALIGN_MASKS_BERNOULLI and TRIPLET_ALIGN_MASKS_BLOCKWISE keep.
    pub masks_keep: f64,
    /// Largest learning rate; it falls to a tenth along half a cosine.
    pub rate: f64,
    /// Weight decay.
    pub decay: f64,
    /// Soft cap of the student's attention logits; 0 leaves it as its model is.
    pub soft_cap: f64,
    /// Decay of a moving average of the weights, which is then exported; 0 for none.
    pub ema: f64,
    /// Ways to train.
    pub flags: triplet_align_flags,
    /// 0; keeps what follows in place.
    pub reserved: u32,
    /// Told of every update. May be NULL.
    pub progress: triplet_align_progress_fn,
    /// Passed to `progress`.
    pub user_data: *mut c_void,
}

impl Default for triplet_align_options {
    fn default() -> triplet_align_options {
        let recipe = RunConfig::recipe(0);
        triplet_align_options {
            struct_size: size_of::<triplet_align_options>() as u32,
            threads: 0,
            model: ptr::null(),
            images: ptr::null(),
            validation: ptr::null(),
            out: ptr::null(),
            updates: 0,
            seed: recipe.seed,
            warmup: recipe.warmup,
            validate_every: 0,
            batch: recipe.batch as u32,
            parts: recipe.parts as u32,
            workers: 2,
            validation_count: recipe.validation as u32,
            skip_blocks: recipe.skip_blocks as u32,
            decoder_layers: recipe.decoder_layers as u32,
            masks: TRIPLET_ALIGN_MASKS_UNIFORM,
            loss: TRIPLET_ALIGN_LOSS_MSE,
            masks_keep: 0.0,
            rate: recipe.rate,
            decay: recipe.decay,
            soft_cap: recipe.soft_cap.map_or(0.0, f64::from),
            ema: 0.0,
            flags: 0,
            reserved: 0,
            progress: None,
            user_data: ptr::null_mut(),
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, numbers and pointers.
unsafe impl Versioned for triplet_align_options {}

/// What a handle of a run stands for.
pub(crate) struct AlignObject {
    /// Held while the run is at work; never waited for. Poisoned by a panic, after which the run is of no use.
    run: Mutex<Run<Cpu>>,
    stopped: AtomicBool,
    told: Told,
}

impl Object for AlignObject {
    type Handle = triplet_align;
    const KIND: Kind = Kind::Align;
}

impl AlignObject {
    fn hold(&self) -> Result<MutexGuard<'_, Run<Cpu>>> {
        self.run.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Failure::new(TRIPLET_BUSY, "run is at work"),
            TryLockError::Poisoned(_) => {
                Failure::new(TRIPLET_INTERNAL, "run has met a defect of the library; destroy it")
            }
        })
    }
}

/// Who is told of updates.
struct Told {
    progress: triplet_align_progress_fn,
    user_data: *mut c_void,
}

// SAFETY: `user_data` is passed to `progress` and to nothing else, on the thread that steps, as its documentation says.
unsafe impl Send for Told {}
// SAFETY: as above; one thread steps at a time.
unsafe impl Sync for Told {}

/// Fills options with the published recipe. `struct_size` is sizeof(triplet_align_options).
///
/// Any thread. TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `struct_size` bytes can be written to `options`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_align_options_init(
    options: *mut triplet_align_options,
    struct_size: usize,
) -> triplet_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { memory::init("options", options, struct_size) })
}

/// Begins the run of a folder, or goes on with it where the folder has a checkpoint. A new run measures its targets,
/// validates and saves. `*run` becomes a handle to destroy, or NULL where the call fails.
///
/// Any thread. TRIPLET_INVALID_ARGUMENT naming the option, also one that is not what the checkpoint was made with,
/// TRIPLET_INVALID_UTF8, TRIPLET_IO, also where another process or handle has the folder, TRIPLET_FORMAT, TRIPLET_CONFIG,
/// TRIPLET_TENSOR, TRIPLET_LIMIT, TRIPLET_MISSING_MODULE, TRIPLET_NON_FINITE, TRIPLET_OUT_OF_MEMORY.
///
/// # Safety
/// `options` and what it points to are valid as it says; a handle can be written to `run`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_align_start(
    options: *const triplet_align_options,
    run: *mut *mut triplet_align,
) -> triplet_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let options = unsafe {
            memory::write("run", run, ptr::null_mut())?;
            memory::check_pointer("options", options)?;
            memory::read_options("options", options)?
        };
        // SAFETY: the caller's promise.
        let files = unsafe { files(&options) }?;
        let model = triplet_model_options {
            threads: options.threads,
            pool_size: Arena::POOLED_TO_TRAIN,
            ..Default::default()
        };
        check_threads(&model)?;
        let cpu = cpu(&model).with_packed_weights(true);
        let object = AlignObject {
            run: Mutex::new(Run::open(cpu, &files, config(&options)?)?),
            stopped: AtomicBool::new(false),
            told: Told { progress: options.progress, user_data: options.user_data },
        };
        let handle = registry::insert(object);
        // SAFETY: the caller's promise.
        unsafe { memory::write("run", run, handle) }
    })
}

/// Takes `updates` updates, or fewer where the run ends before. It saves nothing: `triplet_align_save` does. TRIPLET_OK
/// where they were taken or the run is at its end; TRIPLET_CANCELLED where it was stopped, after a whole update, and can go
/// on. After TRIPLET_NON_FINITE the checkpoint is the last good state, and the run is to be destroyed.
///
/// One thread at a time for each run. TRIPLET_BUSY, TRIPLET_CANCELLED, TRIPLET_NON_FINITE, TRIPLET_INVALID_HANDLE,
/// TRIPLET_INVALID_ARGUMENT where no picture can be read.
#[unsafe(no_mangle)]
pub extern "C" fn triplet_align_step(run: *mut triplet_align, updates: u64) -> triplet_status {
    guard(|| {
        let object = registry::get::<AlignObject>(run)?;
        let mut run = object.hold()?;
        for _ in 0..updates {
            if object.stopped.load(Ordering::Relaxed) {
                return Err(Failure::new(TRIPLET_CANCELLED, "the run was stopped"));
            }
            if run.done() {
                break;
            }
            run.step()?;
            let Some(progress) = object.told.progress else { continue };
            let info = info(&run);
            // SAFETY: a function of this type by the caller's promise.
            if in_host(|| unsafe { progress(object.told.user_data, &raw const info) }) != 0 {
                return Err(Failure::new(TRIPLET_CANCELLED, "the progress callback stopped the run"));
            }
        }
        Ok(())
    })
}

/// Makes the step that is running end after its update, and every later one at its start, until `triplet_align_resume` is
/// called.
///
/// Any thread, at any time. TRIPLET_INVALID_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn triplet_align_stop(run: *const triplet_align) -> triplet_status {
    guard(|| {
        registry::get::<AlignObject>(run)?.stopped.store(true, Ordering::Relaxed);
        Ok(())
    })
}

/// Takes `triplet_align_stop` back.
///
/// Any thread, at any time. TRIPLET_INVALID_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn triplet_align_resume(run: *const triplet_align) -> triplet_status {
    guard(|| {
        registry::get::<AlignObject>(run)?.stopped.store(false, Ordering::Relaxed);
        Ok(())
    })
}

/// Says where a run is. The caller sets `info->struct_size`.
///
/// One thread at a time for each run. TRIPLET_BUSY, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `info` can be read and written as far as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_align_get_info(
    run: *const triplet_align,
    info: *mut triplet_align_info,
) -> triplet_status {
    guard(|| {
        let value = self::info(&*registry::get::<AlignObject>(run)?.hold()?);
        // SAFETY: the caller's promise.
        unsafe { memory::fill("info", info, &value) }
    })
}

/// Replaces the checkpoint of the run's folder: there is a whole one at every instant.
///
/// One thread at a time for each run. TRIPLET_BUSY, TRIPLET_IO (a full disk; the checkpoint is the old one then),
/// TRIPLET_NON_FINITE, TRIPLET_INVALID_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn triplet_align_save(run: *mut triplet_align) -> triplet_status {
    guard(|| {
        registry::get::<AlignObject>(run)?.hold()?.save()?;
        Ok(())
    })
}

/// Writes the encoder as it is now to the folder `aligned` in the run's folder: config.json and model.safetensors with the
/// tensors under `visual_encoder.`, which `triplet_align_plug_in` takes.
///
/// One thread at a time for each run. TRIPLET_BUSY, TRIPLET_IO, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT where the
/// encoder is frozen.
#[unsafe(no_mangle)]
pub extern "C" fn triplet_align_export(run: *mut triplet_align) -> triplet_status {
    guard(|| {
        registry::get::<AlignObject>(run)?.hold()?.export()?;
        Ok(())
    })
}

/// Writes to the folder `out` the model directory `model` with its encoder replaced by that of the directory `encoder`; all
/// are paths in UTF-8. `triplet_model_open` takes the result.
///
/// Any thread. TRIPLET_INVALID_ARGUMENT where `out` is one of the two, TRIPLET_INVALID_UTF8, TRIPLET_IO, TRIPLET_FORMAT,
/// TRIPLET_TENSOR, TRIPLET_MISSING_MODULE.
///
/// # Safety
/// All three are C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_align_plug_in(
    encoder: *const c_char,
    model: *const c_char,
    out: *const c_char,
) -> triplet_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (encoder, model, out) = unsafe {
            (memory::text("encoder", encoder)?, memory::text("model", model)?, memory::text("out", out)?)
        };
        Ok(plug_in(Path::new(encoder), Path::new(model), Path::new(out))?)
    })
}

/// Destroys the handle and sets it to NULL; NULL is left alone. Nothing is saved.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT; TRIPLET_BUSY while the run is at work.
///
/// # Safety
/// A handle can be read from and written to `run`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_align_destroy(run: *mut *mut triplet_align) -> triplet_status {
    guard(|| {
        let idle = |object: &AlignObject| match object.run.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Failure::new(TRIPLET_BUSY, "run is at work")),
            _ => Ok(()),
        };
        // SAFETY: the caller's promise.
        unsafe { destroy("run", run, idle) }
    })
}

fn info(run: &Run<Cpu>) -> triplet_align_info {
    triplet_align_info {
        resumed: i32::from(run.resumed()),
        updates: run.updates(),
        total: run.config().updates,
        saved: run.saved(),
        skipped: run.skipped().len() as u64,
        loss: run.losses().last().map_or(f64::NAN, |&loss| f64::from(loss)),
        validation: run.validations().last().map_or(f64::NAN, |&(_, loss)| f64::from(loss)),
        ..triplet_align_info::default()
    }
}

/// # Safety
/// The paths are NULL or C strings.
unsafe fn files(options: &triplet_align_options) -> Result<RunFiles> {
    // SAFETY: the caller's promise.
    let path = |name, text| unsafe { memory::text(name, text) }.map(PathBuf::from);
    Ok(RunFiles {
        model: path("model", options.model)?,
        images: path("images", options.images)?,
        validation: (!options.validation.is_null())
            .then(|| path("validation", options.validation))
            .transpose()?,
        out: path("out", options.out)?,
        workers: options.workers as usize,
        checkpointing: options.flags & TRIPLET_ALIGN_RECOMPUTE != 0,
    })
}

fn config(options: &triplet_align_options) -> Result<RunConfig> {
    let flag = |bit| options.flags & bit != 0;
    if options.flags >= 2 * TRIPLET_ALIGN_RECOMPUTE || options.reserved != 0 {
        return Err(Failure::argument("flags", "or reserved has a bit that this library does not know"));
    }
    let recipe = RunConfig::recipe(options.updates);
    let keep = options.masks_keep;
    Ok(RunConfig {
        seed: options.seed,
        batch: options.batch as usize,
        parts: options.parts as usize,
        rate: options.rate,
        warmup: options.warmup,
        augment: !flag(TRIPLET_ALIGN_NO_AUGMENT),
        soft_cap: (options.soft_cap != 0.0).then_some(options.soft_cap as f32),
        mim: flag(TRIPLET_ALIGN_MIM),
        skip_blocks: options.skip_blocks as usize,
        prefix_only: flag(TRIPLET_ALIGN_PREFIX_ONLY),
        freeze_encoder: flag(TRIPLET_ALIGN_FREEZE_ENCODER),
        decoder_layers: options.decoder_layers as usize,
        head: if flag(TRIPLET_ALIGN_MLP_HEAD) { HeadKind::Mlp } else { HeadKind::Linear },
        masks: match options.masks {
            TRIPLET_ALIGN_MASKS_UNIFORM => MaskKind::Uniform,
            TRIPLET_ALIGN_MASKS_BERNOULLI => MaskKind::Bernoulli { keep },
            TRIPLET_ALIGN_MASKS_BLOCKWISE => MaskKind::Blockwise { keep },
            other => return Err(Failure::argument("masks", format!("{other} is none"))),
        },
        loss: match options.loss {
            TRIPLET_ALIGN_LOSS_MSE => Loss::Mse,
            TRIPLET_ALIGN_LOSS_COSINE => Loss::Cosine,
            TRIPLET_ALIGN_LOSS_L1 => Loss::L1,
            TRIPLET_ALIGN_LOSS_MASKED_MSE => Loss::MaskedMse,
            TRIPLET_ALIGN_LOSS_UNMASKED_MSE => Loss::UnmaskedMse,
            other => return Err(Failure::argument("loss", format!("{other} is none"))),
        },
        decay: options.decay,
        decays: if flag(TRIPLET_ALIGN_DECAY_MATRICES) { Decay::Matrices } else { Decay::All },
        ema: (options.ema != 0.0).then_some(EmaConfig { decay: options.ema, warmup: true }),
        validation: options.validation_count as usize,
        validate_every: if options.validate_every == 0 {
            recipe.validate_every
        } else {
            options.validate_every
        },
        ..recipe
    })
}
