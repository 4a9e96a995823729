//! Models: load, describe, destroy.

use core::ffi::{c_char, c_void};
use core::ops::ControlFlow;
use core::ptr;
use std::sync::Arc;

use triplet::Cpu;
use triplet::arena::Arena;
use triplet::config::{Config, ModelDir};
use triplet::weights::{Access, Storage, Verified, Weights};

use crate::device::{self, AnyModel};
use crate::float_state::in_host;
use crate::guard::{guard, guard_value};
use crate::memory::{self, Versioned};
use crate::registry::{self, Kind, Object};
use crate::status::{Failure, Result, TRIPLET_CANCELLED, TRIPLET_LIMIT, triplet_status};
use crate::target::{triplet_unit, unit_bit};
use crate::text::Text;
use crate::threads::{CallersThreads, triplet_parallel_for_fn};

/// A model: configuration, weights and vocabulary. Immutable; any number of threads may use it at once. Sessions and
/// images hold on to what they need of it, so that it may be destroyed before them.
pub struct triplet_model {
    _private: (),
}

/// How the bytes of a weights file come to memory.
pub type triplet_access = i32;
/// Memory-mapped: read when they are used, and shared between processes. The file must not be changed or cut short while
/// anything loaded from it is alive; replace it by renaming another file over it.
pub const TRIPLET_ACCESS_MAP: triplet_access = 0;
/// Read whole.
pub const TRIPLET_ACCESS_READ: triplet_access = 1;

/// Told how many of the `total` bytes of weights have been read. Any other value than 0 stops the loading. It runs on the
/// thread that loads and must not throw.
pub type triplet_progress_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, done: u64, total: u64) -> i32>;

/// How a model is loaded. Fill it with `triplet_model_options_init`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_model_options {
    /// sizeof(triplet_model_options).
    pub struct_size: u32,
    /// Threads that the model computes on, the asking thread not counted; 0 for as many as the machine has cores, 1 for the
    /// asking thread alone, at most 1024. Results do not depend on it, bit for bit.
    pub threads: u32,
    /// How weights come to memory; of files only.
    pub access: triplet_access,
    /// Not 0: reads all weights before anything else and refuses those that are not finite.
    pub verify: i32,
    /// Where `verify` is not 0, called at least every 16 MiB of weights; always called at the start and at the end. May be
    /// NULL.
    pub progress: triplet_progress_fn,
    /// Passed to `progress`.
    pub user_data: *mut c_void,
    /// Threads of the caller's, which then take the place of the model's own; `threads` is their number, and 0 counts as 1.
    /// May be NULL. They must be there until the model and all of its sessions and images are destroyed.
    pub parallel_for: triplet_parallel_for_fn,
    /// Passed to `parallel_for`.
    pub parallel_context: *mut c_void,
    /// Most bytes of freed buffers that the model, its sessions, images and replies together keep to use them again, beside
    /// memory that was lent to them. 0 has them given back to the allocator at once, which costs time.
    pub pool_size: usize,
    /// Where the model computes: "cpu"; "cuda:N" for NVIDIA GPU number N of a library that is built with the feature `cuda`; "auto"
    /// for the first GPU that works, or the CPU where none does, `triplet_model_device` says which. NULL is "cpu". Read during the
    /// call only.
    pub device: *const c_char,
    /// Not 0: on the CPU, weights of linear layers in `f32` and in eight bits are copied when the model is loaded, in the order in
    /// which products read them, which are then faster: in `f32` about 0.8 times as long, 0.6 times with a matrix unit (AMX), whose
    /// sums have another order and are as exact. Takes `packed` bytes of triplet_memory more, and loading reads all of the file.
    pub packed_weights: i32,
    /// 0.
    pub reserved: u32,
}

impl Default for triplet_model_options {
    fn default() -> triplet_model_options {
        triplet_model_options {
            struct_size: size_of::<triplet_model_options>() as u32,
            threads: 0,
            access: TRIPLET_ACCESS_MAP,
            verify: 0,
            progress: None,
            user_data: ptr::null_mut(),
            parallel_for: None,
            parallel_context: ptr::null_mut(),
            pool_size: Arena::POOLED,
            device: ptr::null(),
            packed_weights: 0,
            reserved: 0,
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, integers and pointers.
unsafe impl Versioned for triplet_model_options {}

/// A model in the caller's memory. Fill it with `triplet_model_bytes_init`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_model_bytes {
    /// sizeof(triplet_model_bytes).
    pub struct_size: u32,
    /// 0; keeps what follows in place.
    pub reserved: u32,
    /// The bytes of config.json; read during the call only.
    pub config: *const u8,
    /// Their number.
    pub config_len: usize,
    /// The bytes of tokenizer.json; read during the call only.
    pub tokenizer: *const u8,
    /// Their number.
    pub tokenizer_len: usize,
    /// The bytes of model.safetensors, of any alignment; borrowed until `release` is called, and never changed until then.
    pub weights: *const u8,
    /// Their number.
    pub weights_len: usize,
    /// Called once, when nothing uses `weights` any more: on the thread that destroys the last of the model, its sessions
    /// and its images, or before `triplet_model_from_bytes` returns where that fails after it has looked at its arguments.
    /// NULL where the bytes live as long as the program. It must not throw.
    pub release: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
    /// Passed to `release`.
    pub user_data: *mut c_void,
}

impl Default for triplet_model_bytes {
    fn default() -> triplet_model_bytes {
        triplet_model_bytes {
            struct_size: size_of::<triplet_model_bytes>() as u32,
            reserved: 0,
            config: ptr::null(),
            config_len: 0,
            tokenizer: ptr::null(),
            tokenizer_len: 0,
            weights: ptr::null(),
            weights_len: 0,
            release: None,
            user_data: ptr::null_mut(),
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, integers and pointers.
unsafe impl Versioned for triplet_model_bytes {}

/// What a model is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_model_info {
    /// sizeof(triplet_model_info), set by the caller.
    pub struct_size: u32,
    /// The units that answers may decode to, as bits.
    pub units: triplet_unit,
    /// Threads that the model computes on; 1 of a GPU's.
    pub threads: u32,
    /// Tokens of the vocabulary.
    pub vocab_size: u32,
    /// What a reader should know but what keeps nothing from working, for `triplet_model_warning`.
    pub warning_count: usize,
}

impl Default for triplet_model_info {
    fn default() -> triplet_model_info {
        triplet_model_info {
            struct_size: size_of::<triplet_model_info>() as u32,
            units: 0,
            threads: 0,
            vocab_size: 0,
            warning_count: 0,
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, integers.
unsafe impl Versioned for triplet_model_info {}

/// What a model handle stands for.
pub(crate) struct ModelObject {
    pub(crate) model: AnyModel,
    device: Text,
    warnings: Vec<Text>,
}

impl Object for ModelObject {
    type Handle = triplet_model;
    const KIND: Kind = Kind::Model;
}

/// Fills options with the defaults. `struct_size` is sizeof(triplet_model_options).
///
/// Any thread. TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `struct_size` bytes can be written to `options`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_model_options_init(
    options: *mut triplet_model_options,
    struct_size: usize,
) -> triplet_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { memory::init("options", options, struct_size) })
}

/// Fills a description of bytes with the defaults. `struct_size` is sizeof(triplet_model_bytes).
///
/// Any thread. TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `struct_size` bytes can be written to `bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_model_bytes_init(
    bytes: *mut triplet_model_bytes,
    struct_size: usize,
) -> triplet_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { memory::init("bytes", bytes, struct_size) })
}

/// Opens the model directory `dir` (a path in UTF-8): config.json, tokenizer.json and model.safetensors or its shards.
/// `options` may be NULL. `*model` becomes a handle to destroy, or NULL where the call fails.
///
/// Any thread. TRIPLET_IO, TRIPLET_FORMAT, TRIPLET_CONFIG, TRIPLET_TENSOR, TRIPLET_LIMIT, TRIPLET_CANCELLED,
/// TRIPLET_OUT_OF_MEMORY, TRIPLET_INVALID_ARGUMENT, TRIPLET_INVALID_UTF8, TRIPLET_DEVICE.
///
/// # Safety
/// `dir` is a C string; `options` is NULL or valid; a handle can be written to `model`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_model_open(
    dir: *const c_char,
    options: *const triplet_model_options,
    model: *mut *mut triplet_model,
) -> triplet_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (dir, options) = unsafe {
            memory::write("model", model, ptr::null_mut())?;
            (memory::text("dir", dir)?, memory::read_options("options", options)?)
        };
        let access = match options.access {
            TRIPLET_ACCESS_MAP => Access::Map,
            TRIPLET_ACCESS_READ => Access::Read,
            other => return Err(Failure::argument("access", format!("{other} is none"))),
        };
        check_threads(&options)?;
        let handle = load(ModelDir::open_with(dir, access)?, &options)?;
        // SAFETY: the caller's promise.
        unsafe { memory::write("model", model, handle) }
    })
}

/// Loads a model from the caller's memory; the weights are used where they lie. `options` may be NULL. `*model` becomes a
/// handle to destroy, or NULL where the call fails.
///
/// Any thread. As `triplet_model_open`, but for TRIPLET_IO.
///
/// # Safety
/// `bytes` and what it points to are valid as it says; `options` is NULL or valid; a handle can be written to `model`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_model_from_bytes(
    bytes: *const triplet_model_bytes,
    options: *const triplet_model_options,
    model: *mut *mut triplet_model,
) -> triplet_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (bytes, options) = unsafe {
            memory::write("model", model, ptr::null_mut())?;
            memory::check_pointer("bytes", bytes)?;
            (memory::read_options("bytes", bytes)?, memory::read_options("options", options)?)
        };
        check_threads(&options)?;
        // SAFETY: the caller's promise; the weights stay until `release` is called.
        let (config, tokenizer, weights) = unsafe {
            (
                memory::slice("config", bytes.config, bytes.config_len)?,
                memory::slice("tokenizer", bytes.tokenizer, bytes.tokenizer_len)?,
                memory::slice("weights", bytes.weights, bytes.weights_len)?,
            )
        };
        let (release, user_data) = (bytes.release, bytes.user_data);
        let storage: Storage = Arc::new(Borrowed { weights, release, user_data });
        let dir = ModelDir {
            config: Config::parse(config)?,
            weights: Weights::from_storage("weights", storage)?,
            tokenizer: tokenizer.to_vec(),
        };
        let handle = load(dir, &options)?;
        // SAFETY: the caller's promise.
        unsafe { memory::write("model", model, handle) }
    })
}

/// Destroys the handle and sets it to NULL; NULL is left alone. Sessions and images of the model work on.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// A handle can be read from and written to `model`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_model_destroy(model: *mut *mut triplet_model) -> triplet_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { destroy::<ModelObject>("model", model, |_| Ok(())) })
}

/// Says what a model is. The caller sets `info->struct_size`.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `info` can be read and written as far as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_model_get_info(
    model: *const triplet_model,
    info: *mut triplet_model_info,
) -> triplet_status {
    guard(|| {
        let object = registry::get::<ModelObject>(model)?;
        let heads = object.model.heads();
        let value = triplet_model_info {
            units: heads.iter().fold(0, |units, head| units | unit_bit(Some(head.unit))),
            threads: count(object.model.threads()),
            vocab_size: count(object.model.vocabulary().len()),
            warning_count: object.warnings.len(),
            ..triplet_model_info::default()
        };
        // SAFETY: the caller's promise.
        unsafe { memory::fill("info", info, &value) }
    })
}

/// Warning number `index`, from 0: an unknown key of config.json, a tensor that is not used. `*warning` is borrowed from
/// the model and valid until its handle is destroyed.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// A pointer can be written to `warning`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_model_warning(
    model: *const triplet_model,
    index: usize,
    warning: *mut *const c_char,
) -> triplet_status {
    guard(|| {
        let object = registry::get::<ModelObject>(model)?;
        let text = object.warnings.get(index).ok_or_else(|| beyond("index", index, object.warnings.len()))?;
        // SAFETY: the caller's promise.
        unsafe { memory::write("warning", warning, text.as_ptr()) }
    })
}

/// Where a model computes, in words: "cuda:0 (" and the GPU's name, "cpu", or, where "auto" found no GPU, "cpu (no GPU: " and the
/// reason. `*device` is borrowed from the model and valid until its handle is destroyed.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// A pointer can be written to `device`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_model_device(
    model: *const triplet_model,
    device: *mut *const c_char,
) -> triplet_status {
    guard(|| {
        let object = registry::get::<ModelObject>(model)?;
        // SAFETY: the caller's promise.
        unsafe { memory::write("device", device, object.device.as_ptr()) }
    })
}

/// Handles of any kind that were given out and not destroyed, to find leaks.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn triplet_live_handles() -> usize {
    guard_value(0, registry::live)
}

/// Takes the handle away and sets the caller's to NULL, unless `check` refuses.
///
/// # Safety
/// Where `handle` is not NULL, a handle can be read and written there.
pub(crate) unsafe fn destroy<T: Object>(
    name: &str,
    handle: *mut *mut T::Handle,
    check: impl FnOnce(&T) -> Result<()>,
) -> Result<()> {
    // SAFETY: the caller's promise.
    let value = unsafe { memory::read(name, handle) }?;
    if value.is_null() {
        return Ok(());
    }
    check(&*registry::get::<T>(value)?)?;
    registry::remove::<T>(value)?;
    // SAFETY: the caller's promise.
    unsafe { memory::write(name, handle, ptr::null_mut()) }
}

/// `TRIPLET_INVALID_ARGUMENT` for an index beyond the end of a list.
pub(crate) fn beyond(name: &str, index: usize, len: usize) -> Failure {
    Failure::argument(name, format!("is {index}, but there are {len}"))
}

/// Most threads of a model.
const MAX_THREADS: u32 = 1024;

pub(crate) fn check_threads(options: &triplet_model_options) -> Result<()> {
    match options.threads {
        0..=MAX_THREADS => Ok(()),
        threads => {
            Err(Failure::new(TRIPLET_LIMIT, format!("threads is {threads}, but at most {MAX_THREADS} work")))
        }
    }
}

/// Where a model with these options computes.
pub(crate) fn cpu(options: &triplet_model_options) -> Cpu {
    let cpu = match (options.parallel_for, options.threads) {
        (Some(parallel_for), threads) => Cpu::with_parallel_for(Arc::new(CallersThreads {
            parallel_for,
            context: options.parallel_context,
            threads: threads.max(1) as usize,
        })),
        (None, 0) => Cpu::new(),
        (None, threads) => Cpu::with_threads(threads as usize),
    };
    let cpu = cpu.with_packed_weights(options.packed_weights != 0);
    match options.pool_size {
        Arena::POOLED => cpu,
        size => cpu.in_arena(Arena::pooled(size)),
    }
}

fn load(dir: ModelDir, options: &triplet_model_options) -> Result<*mut triplet_model> {
    let name = match options.device.is_null() {
        true => None,
        // SAFETY: a C string by the promise of the caller, whose options these are.
        false => Some(unsafe { memory::text("device", options.device) }?),
    };
    let (opened, said) = device::open(name, cpu(options))?;
    let tensors = dir.weights.names().filter_map(|name| dir.weights.get(name));
    let total = tensors.map(|tensor| tensor.bytes().len() as u64).sum();
    let tell = |done: u64| match options.progress {
        None => ControlFlow::Continue(()),
        Some(progress) => {
            // SAFETY: a function of this type by the caller's promise.
            match in_host(|| unsafe { progress(options.user_data, done, total) }) {
                0 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        }
    };
    let stopped = || Failure::new(TRIPLET_CANCELLED, "the progress callback stopped the loading");
    if tell(0).is_break() {
        return Err(stopped());
    }
    if options.verify != 0 && dir.weights.verify(|progress| tell(progress.done))? == Verified::Stopped {
        return Err(stopped());
    }
    let model = AnyModel::load(opened, dir)?;
    if tell(total).is_break() {
        return Err(stopped());
    }
    let warnings = model.warnings().iter().map(|warning| Text::new(warning)).collect();
    Ok(registry::insert(ModelObject { model, device: Text::new(&said), warnings }))
}

fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// The caller's bytes and what is called when nothing uses them any more.
struct Borrowed {
    weights: &'static [u8],
    release: Option<unsafe extern "C" fn(*mut c_void)>,
    user_data: *mut c_void,
}

// SAFETY: the bytes are only read; `release` may be called on any thread, as its documentation says, and `user_data` is
// passed to it and to nothing else.
unsafe impl Send for Borrowed {}
// SAFETY: as above.
unsafe impl Sync for Borrowed {}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        self.weights
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: a function of this type by the caller's promise, called once.
            in_host(|| unsafe { release(self.user_data) });
        }
    }
}
