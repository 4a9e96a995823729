//! Memory of fixed size: what is needed, and memory that the caller lends for it.

use core::ffi::{c_char, c_void};
use core::mem::MaybeUninit;
use core::ops::Range;
use core::slice;
use std::sync::{Mutex, PoisonError};

use triplet::arena::{ALIGNMENT, Arena};
use triplet::backend::CacheType;
use triplet::config::ModelDir;
use triplet::session::{Bounds, Memory};
use triplet::weights::Access;
use triplet::{Cpu, Model};

use crate::guard::guard;
use crate::memory::{self, Versioned};
use crate::model::{ModelObject, check_threads, cpu, triplet_model, triplet_model_options};
use crate::registry;
use crate::status::{Failure, Result, triplet_status};

/// Memory that is lent begins at a multiple of as many bytes; what is more than a multiple of it at the end is not used.
pub const TRIPLET_MEMORY_ALIGNMENT: usize = 64;

const _: () = assert!(TRIPLET_MEMORY_ALIGNMENT == ALIGNMENT);

/// How a session keeps keys and values.
pub type triplet_cache = i32;
/// As they were computed.
pub const TRIPLET_CACHE_F32: triplet_cache = 0;
/// The nearest halves: half the memory.
pub const TRIPLET_CACHE_F16: triplet_cache = 1;
/// Integers of eight bits with a scale for every position and head: about a quarter of the memory.
pub const TRIPLET_CACHE_INT8: triplet_cache = 2;

/// The type of a cache.
pub(crate) fn cache_type(cache: triplet_cache) -> Result<CacheType> {
    match cache {
        TRIPLET_CACHE_F32 => Ok(CacheType::F32),
        TRIPLET_CACHE_F16 => Ok(CacheType::F16),
        TRIPLET_CACHE_INT8 => Ok(CacheType::Int8),
        other => Err(Failure::argument("cache", format!("{other} is none"))),
    }
}

/// What is asked for. Fill it with `triplet_memory_bounds_init`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_memory_bounds {
    /// sizeof(triplet_memory_bounds).
    pub struct_size: u32,
    /// Tokens of prompt and answer together, the rows of the picture and of visual prompts included; 0 for as many as the
    /// model takes.
    pub positions: u32,
    /// Width of the pictures in pixels.
    pub width: usize,
    /// Height of the pictures in pixels.
    pub height: usize,
    /// Most visual prompts of a question, at most 64.
    pub visual_prompts: usize,
    /// How the session keeps keys and values.
    pub cache: triplet_cache,
    /// 0.
    pub reserved: u32,
}

impl Default for triplet_memory_bounds {
    fn default() -> triplet_memory_bounds {
        triplet_memory_bounds {
            struct_size: size_of::<triplet_memory_bounds>() as u32,
            positions: 0,
            width: 640,
            height: 480,
            visual_prompts: 0,
            cache: TRIPLET_CACHE_F32,
            reserved: 0,
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, integers.
unsafe impl Versioned for triplet_memory_bounds {}

/// Bytes. `image` and `session` are exact: that much memory is enough for every picture and question within the bounds,
/// with the threads of the model, on this machine; 64 bytes less are not.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_memory {
    /// sizeof(triplet_memory), set by the caller.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Weights that the model uses. They are used where they lie: in the memory map, whose pages the system reads and drops
    /// as it likes, or in the caller's bytes; with TRIPLET_ACCESS_READ the whole file is in memory.
    pub weights: usize,
    /// For `memory` of triplet_image_view: the image with the scratch of looking at it.
    pub image: usize,
    /// What of `image` holds the image afterwards.
    pub image_kept: usize,
    /// For `memory` of triplet_session_options: key-value cache, hidden states, and the scratch of every question.
    pub session: usize,
    /// What of `session` is the key-value cache.
    pub kv_cache: usize,
    /// Every mask and every depth map of a reply.
    pub map: usize,
    /// For `memory` of triplet_ask_options: the masks and depth maps of the reply with the most targets. Enough for every
    /// answer; who expects fewer maps can lend less, a multiple of TRIPLET_MEMORY_ALIGNMENT for each.
    pub reply: usize,
    /// Copies of weights that are made when the model is loaded and stay, where `packed_weights` of triplet_model_options asks for
    /// them.
    pub packed: usize,
}

impl Default for triplet_memory {
    fn default() -> triplet_memory {
        triplet_memory {
            struct_size: size_of::<triplet_memory>() as u32,
            reserved: 0,
            weights: 0,
            image: 0,
            image_kept: 0,
            session: 0,
            kv_cache: 0,
            map: 0,
            reply: 0,
            packed: 0,
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, integers.
unsafe impl Versioned for triplet_memory {}

/// Fills bounds with the defaults: as many positions as the model takes, a picture of 640x480, no visual prompts.
/// `struct_size` is sizeof(triplet_memory_bounds).
///
/// Any thread. TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `struct_size` bytes can be written to `bounds`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_memory_bounds_init(
    bounds: *mut triplet_memory_bounds,
    struct_size: usize,
) -> triplet_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { memory::init("bounds", bounds, struct_size) })
}

/// Says how much memory the model of the directory `dir` would take on the CPU with these options, without reading its weights. The
/// caller sets `memory->struct_size`; `options` and `bounds` may be NULL.
///
/// Any thread. As `triplet_model_open`.
///
/// # Safety
/// `dir` is a C string; `options` and `bounds` are NULL or valid; `memory` can be read and written as far as its
/// `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_memory_query(
    dir: *const c_char,
    options: *const triplet_model_options,
    bounds: *const triplet_memory_bounds,
    memory: *mut triplet_memory,
) -> triplet_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (dir, options, bounds) = unsafe {
            (
                memory::text("dir", dir)?,
                memory::read_options("options", options)?,
                memory::read_options("bounds", bounds)?,
            )
        };
        check_threads(&options)?;
        // Weights that would be packed are measured then, not copied.
        let cpu = cpu(&options).in_arena(Arena::measuring());
        let model = Model::from_dir(cpu, ModelDir::open_with(dir, Access::Map)?)?;
        // SAFETY: the caller's promise.
        unsafe { memory::fill("memory", memory, &measured(&model, &bounds)?) }
    })
}

/// Says how much memory a model takes, which must be one that computes on the CPU. The caller sets `memory->struct_size`;
/// `bounds` may be NULL.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT, TRIPLET_LIMIT.
///
/// # Safety
/// `bounds` is NULL or valid; `memory` can be read and written as far as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_model_get_memory(
    model: *const triplet_model,
    bounds: *const triplet_memory_bounds,
    memory: *mut triplet_memory,
) -> triplet_status {
    guard(|| {
        let object = registry::get::<ModelObject>(model)?;
        // SAFETY: the caller's promise.
        unsafe {
            let bounds = memory::read_options("bounds", bounds)?;
            memory::fill("memory", memory, &measured(object.model.on_cpu()?, &bounds)?)
        }
    })
}

fn measured(model: &Model, bounds: &triplet_memory_bounds) -> Result<triplet_memory> {
    let Memory { weights, packed, image, image_kept, session, kv_cache, map, reply } =
        model.memory(&Bounds {
            width: bounds.width,
            height: bounds.height,
            positions: positions(bounds.positions),
            visual_prompts: bounds.visual_prompts,
            cache: cache_type(bounds.cache)?,
        })?;
    Ok(triplet_memory {
        weights,
        image,
        image_kept,
        session,
        kv_cache,
        map,
        reply,
        packed,
        ..Default::default()
    })
}

/// Positions of a session; 0 stands for as many as the model takes.
pub(crate) fn positions(positions: u32) -> usize {
    if positions == 0 { usize::MAX } else { positions as usize }
}

/// Runs of addresses that are lent now.
static LENT: Mutex<Vec<Range<usize>>> = Mutex::new(Vec::new());

/// Arenas whose leases have ended, for their bookkeeping; their memory is no longer theirs.
static IDLE: Mutex<Vec<Arena>> = Mutex::new(Vec::new());

/// Arenas that are kept so.
const KEPT: usize = 32;

/// Memory of a caller's in the hands of one object; dropped after everything that lies in it.
pub(crate) struct Lease(Option<(Range<usize>, Arena)>);

impl Lease {
    /// The model's backend on memory that the caller lends, or on its own where `memory` is NULL.
    ///
    /// # Safety
    /// Where `memory` is not NULL, `size` bytes can be read and written there until the lease is dropped, and nobody else
    /// touches them.
    pub(crate) unsafe fn take(model: &Model, memory: *mut c_void, size: usize) -> Result<(Cpu, Lease)> {
        // SAFETY: the caller's promise.
        Ok(match unsafe { Lease::arena(memory, size) }? {
            None => (model.backend().clone(), Lease::none()),
            Some((arena, lease)) => (model.backend().in_arena(arena), lease),
        })
    }

    /// No memory.
    pub(crate) fn none() -> Lease {
        Lease(None)
    }

    /// Memory that the caller lends; `None` where `memory` is NULL.
    ///
    /// # Safety
    /// As [`Lease::take`].
    pub(crate) unsafe fn arena(memory: *mut c_void, size: usize) -> Result<Option<(Arena, Lease)>> {
        if memory.is_null() && size == 0 {
            return Ok(None);
        }
        memory::check_pointer("memory", memory.cast::<u8>())?;
        let start = memory.addr();
        if !start.is_multiple_of(ALIGNMENT) {
            let reason = format!("does not begin at a multiple of {ALIGNMENT} bytes");
            return Err(Failure::argument("memory", reason));
        }
        let end = start.checked_add(size).filter(|_| size <= isize::MAX as usize);
        let end = end.ok_or_else(|| Failure::argument("memory_size", format!("cannot be {size}")))?;
        let mut lent = LENT.lock().unwrap_or_else(PoisonError::into_inner);
        if lent.iter().any(|other| other.start < end && start < other.end) {
            return Err(Failure::argument("memory", "is lent to another session, image or reply"));
        }
        lent.push(start..end);
        drop(lent);
        // SAFETY: the caller's promise; of any bytes `MaybeUninit` can be made.
        let memory = unsafe { slice::from_raw_parts_mut(memory.cast::<MaybeUninit<u8>>(), size) };
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let arena = idle.unwrap_or(Arena::HEAP).with_memory(memory)?;
        let lease = Lease(Some((start..end, arena.clone())));
        Ok(Some((arena, lease)))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some((range, arena)) = self.0.take() else { return };
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(arena);
        }
        drop(idle);
        LENT.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != range);
    }
}
