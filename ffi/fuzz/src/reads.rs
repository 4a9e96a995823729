//! Replies, read to the end of what they lend.

use core::ptr;

use triplet_c::mask::*;
use triplet_c::reply::*;
use triplet_c::status::{TRIPLET_BUFFER_TOO_SMALL, TRIPLET_OK, triplet_status};
use triplet_c::target::*;

use crate::padded::Padded;
use crate::world::{HEIGHT, WIDTH, World};

/// A function that fills a struct about one triplet.
type Get<T> = unsafe extern "C" fn(*const triplet_reply, usize, *mut T) -> triplet_status;

impl World {
    fn index(&mut self) -> usize {
        self.random.pick(&[0, 0, 0, 0, 1, 2, usize::MAX])
    }

    /// Has `get` fill a struct whose `struct_size` is now and then another, and hands it to `check` where it did.
    fn fill<T>(
        &mut self,
        value: T,
        get: impl FnOnce(*const triplet_reply, usize, *mut T) -> triplet_status,
        check: impl FnOnce(&T),
    ) -> Option<triplet_status> {
        let (reply, index) = (self.replies.any(&mut self.random), self.index());
        let size = Padded::<T>::size(&mut self.random);
        let mut out = Padded::out(value);
        // SAFETY: all of these structs start with `struct_size`.
        unsafe { (&raw mut out).cast::<u32>().write(size) };
        let place = self.place(&raw mut out).cast::<T>();
        let status = get(reply, index, place);
        out.check(size);
        if status == TRIPLET_OK && size as usize >= size_of::<T>() {
            check(&out.value);
        }
        Some(status)
    }

    /// As [`World::fill`], with a function that is told the index.
    fn fill_at<T>(&mut self, value: T, get: Get<T>, check: impl FnOnce(&T)) -> Option<triplet_status> {
        // SAFETY: a struct with room for what its `struct_size` says, or no place.
        self.fill(value, |reply, index, out| unsafe { get(reply, index, out) }, check)
    }

    /// As [`World::fill_at`] for a value without `struct_size`.
    fn value_at<T>(&mut self, value: T, get: Get<T>) -> Option<triplet_status> {
        let (reply, index) = (self.replies.any(&mut self.random), self.index());
        let mut out = Padded::out(value);
        let place = self.place(&raw mut out).cast::<T>();
        // SAFETY: a place for the value, or none.
        let status = unsafe { get(reply, index, place) };
        out.check(size_of::<T>() as u32);
        Some(status)
    }

    pub fn reply_info(&mut self) -> Option<triplet_status> {
        let mut answer = Vec::new();
        // SAFETY: as `fill_at`.
        let get = |reply, _, out| unsafe { triplet_reply_get_info(reply, out) };
        let status = self.fill(triplet_reply_info::default(), get, |info| {
            // SAFETY: what the reply lends: texts with a NUL behind them, and ids.
            unsafe {
                assert_eq!((*info.text.add(info.text_len), *info.sentence.add(info.sentence_len)), (0, 0));
                answer = core::slice::from_raw_parts(info.ids, info.id_count).to_vec();
            }
        });
        if !answer.is_empty() {
            self.answer = answer;
        }
        status
    }

    pub fn reply_entry(&mut self) -> Option<triplet_status> {
        self.fill_at(triplet_entry::default(), triplet_reply_get_entry, |entry| {
            // SAFETY: a text with a NUL behind it.
            assert_eq!(unsafe { *entry.phrase.add(entry.phrase_len) }, 0);
        })
    }

    pub fn reply_plan_item(&mut self) -> Option<triplet_status> {
        let item = triplet_plan_item { name: ptr::null(), unit: ptr::null(), count: 0 };
        self.value_at(item, triplet_reply_get_plan_item)
    }

    pub fn reply_box(&mut self) -> Option<triplet_status> {
        self.value_at(triplet_box::default(), triplet_reply_get_box)
    }

    pub fn reply_mask(&mut self) -> Option<triplet_status> {
        self.fill_at(triplet_mask::default(), triplet_reply_get_mask, |mask| {
            // SAFETY: the reply lends as many probabilities.
            let all = unsafe { core::slice::from_raw_parts(mask.probabilities, mask.width * mask.height) };
            assert!(all.iter().all(|p| (0.0..=1.0).contains(p)));
        })
    }

    pub fn reply_keypoints(&mut self) -> Option<triplet_status> {
        self.fill_at(triplet_keypoints::default(), triplet_reply_get_keypoints, |person| {
            assert!(
                person.points.iter().all(|point| (0.0..=1.0).contains(&point.score) && point.visible < 2)
            );
        })
    }

    pub fn reply_depth(&mut self) -> Option<triplet_status> {
        self.fill_at(triplet_depth::default(), triplet_reply_get_depth, |depth| {
            // SAFETY: the reply lends as many values.
            let all = unsafe { core::slice::from_raw_parts(depth.values, depth.width * depth.height) };
            assert!(all.iter().all(|value| !value.is_infinite()));
        })
    }

    pub fn reply_json(&mut self) -> Option<triplet_status> {
        let reply = self.replies.any(&mut self.random);
        let (mut words, mut length) = (ptr::null(), 0usize);
        let (to, count) = (self.place(&raw mut words), self.place(&raw mut length));
        // SAFETY: places for a pointer and a size, or none.
        let status = unsafe { triplet_reply_get_json(reply, to, count) };
        if status == TRIPLET_OK && length > 0 {
            // SAFETY: a text of that length with a NUL behind it.
            assert_eq!(unsafe { (*words, *words.add(length)) }, (b'{' as core::ffi::c_char, 0));
        }
        Some(status)
    }

    /// Has `copy` fill a buffer that may be too small.
    fn copy<T: Copy + PartialEq>(
        &mut self,
        canary: T,
        copy: impl FnOnce(*const triplet_reply, usize, *mut T, usize, *mut usize) -> triplet_status,
    ) -> Option<triplet_status> {
        let (reply, index) = (self.replies.any(&mut self.random), self.index());
        let capacity = self.random.pick(&[0, 3, WIDTH * HEIGHT, 8 * WIDTH * HEIGHT]);
        let mut buffer = vec![canary; capacity + 1];
        let mut needed = usize::MAX;
        let (to, count) = (self.place(buffer.as_mut_ptr()), self.place(&raw mut needed));
        let status = copy(reply, index, to, capacity, count);
        assert!(buffer[capacity] == canary, "written beyond the buffer");
        if status == TRIPLET_BUFFER_TOO_SMALL {
            assert!(needed > capacity && buffer.iter().all(|&element| element == canary));
        }
        Some(status)
    }

    pub fn mask_bytes(&mut self) -> Option<triplet_status> {
        let inside = self.random.bits() as u8;
        // SAFETY: a buffer of the capacity and a place for a size, or none.
        self.copy(0x5a, |reply, index, to, capacity, needed| unsafe {
            triplet_mask_bytes(reply, index, inside, to, capacity, needed)
        })
    }

    pub fn mask_bits(&mut self) -> Option<triplet_status> {
        // SAFETY: as above.
        self.copy(0x5a, |reply, index, to, capacity, needed| unsafe {
            triplet_mask_bits(reply, index, to, capacity, needed)
        })
    }

    pub fn mask_runs(&mut self) -> Option<triplet_status> {
        // SAFETY: as above.
        self.copy(0x5a5a_5a5a, |reply, index, to, capacity, needed| unsafe {
            triplet_mask_runs(reply, index, to, capacity, needed)
        })
    }

    pub fn mask_coco_rle(&mut self) -> Option<triplet_status> {
        // SAFETY: as above.
        self.copy(0x5a, |reply, index, to, capacity, needed| unsafe {
            triplet_mask_coco_rle(reply, index, to, capacity, needed)
        })
    }
}
