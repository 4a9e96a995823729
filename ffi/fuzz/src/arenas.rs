//! Questions how much memory is needed, and sessions, images and replies in memory that the host lends, or pretends to.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;

use triplet_c::arena::*;
use triplet_c::session::*;
use triplet_c::status::*;

use crate::padded::Padded;
use crate::random::Random;
use crate::world::{HEIGHT, WIDTH, World};

/// Enough for a session of the tiny model with one thread.
const SIZE: usize = 1 << 20;

/// Memory that a host lends, to one object at a time.
#[repr(align(64))]
struct Lent(UnsafeCell<[u8; SIZE]>);

// SAFETY: the host itself never touches it.
unsafe impl Sync for Lent {}

static LENT: Lent = Lent(UnsafeCell::new([0; SIZE]));
static LENT_TO_IMAGES: Lent = Lent(UnsafeCell::new([0; SIZE]));

/// Memory for an image, most often enough of it, and at a right address.
pub fn lent_to_images(random: &mut Random) -> (*mut c_void, usize) {
    let lent = LENT_TO_IMAGES.0.get().cast::<c_void>();
    let memory = random.pick(&[ptr::null_mut(), lent, lent, lent, lent.wrapping_byte_add(1)]);
    (memory, random.pick(&[0, 500, SIZE, SIZE, SIZE]))
}

static LENT_TO_REPLIES: Lent = Lent(UnsafeCell::new([0; SIZE]));

/// Memory for the maps of a reply: most often none; else one of eight places, which may be lent already, or too small.
pub fn lent_to_replies(random: &mut Random) -> (*mut c_void, usize) {
    if random.chance(70) {
        return (ptr::null_mut(), 0);
    }
    let place = LENT_TO_REPLIES.0.get().cast::<c_void>().wrapping_byte_add(random.below(8) * (SIZE / 8));
    let memory = random.pick(&[place, place, place, place, place.wrapping_byte_add(1), ptr::null_mut()]);
    (memory, random.pick(&[SIZE / 8, SIZE / 8, SIZE / 8, 9_000, 64, 0]))
}

impl World {
    fn bounds(&mut self) -> Padded<triplet_memory_bounds> {
        let random = &mut self.random;
        let bounds = triplet_memory_bounds {
            struct_size: Padded::<triplet_memory_bounds>::size(random),
            positions: random.pick(&[0, 1, 200, u32::MAX]),
            width: random.pick(&[WIDTH, WIDTH, 1, 0, usize::MAX]),
            height: random.pick(&[HEIGHT, HEIGHT, 1, 40_000]),
            visual_prompts: random.pick(&[0, 1, 2, 65]),
            cache: random.pick(&[TRIPLET_CACHE_F32, TRIPLET_CACHE_F16, TRIPLET_CACHE_INT8, 3]),
            reserved: 0,
        };
        Padded::options(bounds, random)
    }

    pub fn model_memory(&mut self) -> Option<triplet_status> {
        let ((model, _), mut bounds) = (self.model(), self.bounds());
        let size = Padded::<triplet_memory>::size(&mut self.random);
        let mut out = Padded::out(triplet_memory { struct_size: size, ..Default::default() });
        let (from, to) = (self.place(&raw mut bounds).cast(), self.place(&raw mut out).cast());
        // SAFETY: bounds that are there or refused; a struct with room for what its `struct_size` says, or no place.
        let status = unsafe { triplet_model_get_memory(model, from, to) };
        out.check(size);
        Some(status)
    }

    pub fn memory_query(&mut self) -> Option<triplet_status> {
        let mut bounds = self.bounds();
        let path = self.files.directory(&mut self.random).path.clone();
        let size = Padded::<triplet_memory>::size(&mut self.random);
        let mut out = Padded::out(triplet_memory { struct_size: size, ..Default::default() });
        let (from, to) = (self.place(&raw mut bounds).cast(), self.place(&raw mut out).cast());
        // SAFETY: a C string; bounds that are there or refused; a struct with room for what its `struct_size` says, or no
        // place.
        let status = unsafe { triplet_memory_query(path.as_ptr(), ptr::null(), from, to) };
        out.check(size);
        Some(status)
    }

    pub fn session_with(&mut self) -> Option<triplet_status> {
        if self.sessions.is_full() {
            return None;
        }
        let (model, number) = self.model();
        let random = &mut self.random;
        let lent = LENT.0.get().cast::<c_void>();
        let memory = random.pick(&[ptr::null_mut(), lent, lent, lent.wrapping_byte_add(1)]);
        let options = triplet_session_options {
            struct_size: Padded::<triplet_session_options>::size(random),
            positions: random.pick(&[0, 0, 1, 300]),
            memory,
            memory_size: random.pick(&[0, 500, SIZE - 64, SIZE - 64]),
            cache: random.pick(&[0, 0, 0, TRIPLET_CACHE_F16, TRIPLET_CACHE_INT8, 3]),
            reserved: 0,
        };
        let mut options = Padded::options(options, random);
        let place = self.place(&raw mut options).cast();
        // SAFETY: options that are there or refused, memory that the host leaves alone, and a place for the handle.
        let create = |session| unsafe { triplet_session_create_with(model, place, session) };
        Some(self.sessions.create(number, create))
    }
}
