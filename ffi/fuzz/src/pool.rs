//! Handles of one kind: those that live, each with the model that it belongs to, and some that were destroyed.

use core::ptr;

use triplet_c::status::{TRIPLET_OK, triplet_status};

use crate::random::Random;

/// Destroyed handles that are remembered.
const REMEMBERED: usize = 64;

/// A handle that lives.
pub struct Live<T> {
    pub handle: *mut T,
    /// Number of the model that it belongs to, from 1.
    pub model: u64,
}

/// Handles of one kind.
pub struct Pool<T> {
    pub live: Vec<Live<T>>,
    destroyed: Vec<*mut T>,
    /// Most that live at once.
    limit: usize,
}

impl<T> Pool<T> {
    pub fn new(limit: usize) -> Pool<T> {
        Pool { live: Vec::new(), destroyed: Vec::new(), limit }
    }

    pub fn is_full(&self) -> bool {
        self.live.len() >= self.limit
    }

    /// A handle: most often one that lives, else NULL, a made-up or a destroyed one.
    pub fn any(&self, random: &mut Random) -> *mut T {
        match random.below(100) {
            0 => ptr::null_mut(),
            1 => ptr::without_provenance_mut(random.pick(&[1, 8, 0x1000, usize::MAX, usize::MAX / 2])),
            2..4 if !self.destroyed.is_empty() => random.pick(&self.destroyed),
            _ if !self.live.is_empty() => self.live[random.below(self.live.len())].handle,
            _ => ptr::null_mut(),
        }
    }

    /// A handle of the model of that number, where one lives.
    pub fn of_model(&self, model: u64, random: &mut Random) -> Option<*mut T> {
        let count = self.live.iter().filter(|live| live.model == model).count();
        let which = random.below(count.max(1));
        self.live.iter().filter(|live| live.model == model).nth(which).map(|live| live.handle)
    }

    /// Number of the model that a handle belongs to; 0 where it does not live.
    pub fn model_of(&self, handle: *mut T) -> u64 {
        self.live.iter().find(|live| live.handle == handle).map_or(0, |live| live.model)
    }

    /// Calls `create` with a place for a handle, and keeps what it makes as one of `model`'s.
    pub fn create(
        &mut self,
        model: u64,
        create: impl FnOnce(*mut *mut T) -> triplet_status,
    ) -> triplet_status {
        let mut handle = ptr::without_provenance_mut(7);
        let status = create(&raw mut handle);
        assert_eq!(status == TRIPLET_OK, !handle.is_null(), "status {status}, handle {handle:?}");
        if !handle.is_null() {
            self.live.push(Live { handle, model });
        }
        status
    }

    /// Destroys a handle, one that lives only where the pool is more than half full.
    pub fn destroy(
        &mut self,
        random: &mut Random,
        destroy: unsafe extern "C" fn(*mut *mut T) -> triplet_status,
    ) -> triplet_status {
        let mut handle = self.any(random);
        if self.live.len() * 2 <= self.limit && self.model_of(handle) != 0 {
            handle = ptr::null_mut();
        }
        let before = handle;
        // SAFETY: a place of a handle, or no place.
        let status = unsafe {
            match random.below(50) {
                0 => destroy(ptr::null_mut()),
                1 => destroy((&raw mut handle).cast::<u8>().wrapping_add(1).cast()),
                _ => destroy(&raw mut handle),
            }
        };
        if status == TRIPLET_OK && !before.is_null() {
            assert!(handle.is_null());
            self.live.retain(|live| live.handle != before);
            if self.destroyed.len() == REMEMBERED {
                self.destroyed.remove(0);
            }
            self.destroyed.push(before);
        }
        status
    }

    /// Destroys all that live.
    pub fn clear(&mut self, destroy: unsafe extern "C" fn(*mut *mut T) -> triplet_status) {
        for Live { mut handle, .. } in self.live.drain(..) {
            // SAFETY: a place of a handle.
            assert_eq!(unsafe { destroy(&raw mut handle) }, TRIPLET_OK);
        }
    }
}
