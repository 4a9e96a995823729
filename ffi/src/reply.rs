//! Replies: text, plan, triplets and their targets. Everything handed out is borrowed from the reply.

use core::ffi::c_char;
use core::{mem, ptr};
use std::sync::{Arc, OnceLock};

use triplet::reply::{DepthUnit, Finish, Reply, Target, Triplet};

use crate::answered::{Answered, Spare};
use crate::arena::Lease;
use crate::guard::guard;
use crate::memory::{self, Versioned};
use crate::model::{beyond, destroy};
use crate::registry::{self, Kind, Object};
use crate::status::{Failure, Result, TRIPLET_INTERNAL, TRIPLET_NO_TARGET, triplet_status};
use crate::target::{
    TRIPLET_JOINTS, TRIPLET_TARGET_NONE, TRIPLET_UNIT_NONE, target_kind, triplet_box, triplet_keypoint,
    triplet_plan_item, triplet_target, triplet_unit, unit_bit,
};
use crate::text::Text;

/// An answer. Immutable; any thread. What its functions lend is valid until it is destroyed.
pub struct triplet_reply {
    _private: (),
}

/// Why an answer ended.
pub type triplet_finish = i32;
/// The model wrote the end-of-text token.
pub const TRIPLET_FINISH_END_OF_TEXT: triplet_finish = 0;
/// The budget of new tokens or the context is used up.
pub const TRIPLET_FINISH_LENGTH: triplet_finish = 1;
/// It was cancelled; no triplet has a target.
pub const TRIPLET_FINISH_CANCELLED: triplet_finish = 2;
/// The time limit passed; what was complete by then is decoded.
pub const TRIPLET_FINISH_TIME_LIMIT: triplet_finish = 3;
/// It was given by the caller.
pub const TRIPLET_FINISH_GIVEN: triplet_finish = 4;

/// What a depth map's values are in.
pub type triplet_depth_unit = i32;
/// No unit, 0 to 1; larger is farther.
pub const TRIPLET_DEPTH_RELATIVE: triplet_depth_unit = 0;
/// Metres along the optical axis (REP-118).
pub const TRIPLET_DEPTH_METRE: triplet_depth_unit = 1;

/// An answer as a whole.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_reply_info {
    /// sizeof(triplet_reply_info), set by the caller.
    pub struct_size: u32,
    /// Why the answer ended.
    pub finish: triplet_finish,
    /// What is wrong with the answer, as bits; 0 for a well-formed one.
    pub flags: u32,
    /// Not 0: the answer has a plan.
    pub has_plan: i32,
    /// The answer as the model wrote it, plan and special tokens included: UTF-8, a NUL behind it.
    pub text: *const c_char,
    /// Bytes of `text`.
    pub text_len: usize,
    /// The answer in plain words: phrases in place, plan, units and targets taken out.
    pub sentence: *const c_char,
    /// Bytes of `sentence`.
    pub sentence_len: usize,
    /// The tokens of the answer, the end-of-text token included where it was written.
    pub ids: *const u32,
    /// Their number.
    pub id_count: usize,
    /// Triplets, for `triplet_reply_get_entry`. "Nothing found" is an answer with none.
    pub triplet_count: usize,
    /// Lines of the plan, for `triplet_reply_get_plan_item`.
    pub plan_count: usize,
    /// Width of the picture in pixels.
    pub width: usize,
    /// Height of the picture in pixels.
    pub height: usize,
}

impl Default for triplet_reply_info {
    fn default() -> triplet_reply_info {
        triplet_reply_info {
            struct_size: size_of::<triplet_reply_info>() as u32,
            finish: TRIPLET_FINISH_END_OF_TEXT,
            flags: 0,
            has_plan: 0,
            text: ptr::null(),
            text_len: 0,
            sentence: ptr::null(),
            sentence_len: 0,
            ids: ptr::null(),
            id_count: 0,
            triplet_count: 0,
            plan_count: 0,
            width: 0,
            height: 0,
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, numbers and pointers.
unsafe impl Versioned for triplet_reply_info {}

/// One triplet: concept, decoding type, and what its target is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_entry {
    /// sizeof(triplet_entry), set by the caller.
    pub struct_size: u32,
    /// The decoding type; none where the model wrote none or an unknown one.
    pub unit: triplet_unit,
    /// The concept, for example "red mug": UTF-8, a NUL behind it.
    pub phrase: *const c_char,
    /// Bytes of `phrase`.
    pub phrase_len: usize,
    /// Targets of one phrase share this number.
    pub group: usize,
    /// Place of the target within its group, from 0.
    pub index: usize,
    /// Geometric mean of the probabilities of the triplet's tokens, 0 to 1; NaN for an answer that was given.
    pub score: f32,
    /// What is wrong with the group, as bits.
    pub flags: u32,
    /// What the target is, and with it which function lends it.
    pub target: triplet_target,
    /// 0.
    pub reserved: u32,
}

impl Default for triplet_entry {
    fn default() -> triplet_entry {
        triplet_entry {
            struct_size: size_of::<triplet_entry>() as u32,
            unit: TRIPLET_UNIT_NONE,
            phrase: ptr::null(),
            phrase_len: 0,
            group: 0,
            index: 0,
            score: 0.0,
            flags: 0,
            target: TRIPLET_TARGET_NONE,
            reserved: 0,
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, numbers and pointers.
unsafe impl Versioned for triplet_entry {}

/// A mask of the picture's size.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_mask {
    /// sizeof(triplet_mask), set by the caller.
    pub struct_size: u32,
    /// A pixel belongs to the mask where its probability is above this.
    pub threshold: f32,
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Probability of every pixel, row-major, rows without gaps.
    pub probabilities: *const f32,
}

impl Default for triplet_mask {
    fn default() -> triplet_mask {
        triplet_mask {
            struct_size: size_of::<triplet_mask>() as u32,
            threshold: 0.0,
            width: 0,
            height: 0,
            probabilities: ptr::null(),
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, numbers and pointers.
unsafe impl Versioned for triplet_mask {}

/// A person's joints.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_keypoints {
    /// sizeof(triplet_keypoints), set by the caller.
    pub struct_size: u32,
    /// The person's box.
    pub area: triplet_box,
    /// The joints in COCO-17 order.
    pub points: [triplet_keypoint; TRIPLET_JOINTS],
}

impl Default for triplet_keypoints {
    fn default() -> triplet_keypoints {
        triplet_keypoints {
            struct_size: size_of::<triplet_keypoints>() as u32,
            area: triplet_box::default(),
            points: [triplet_keypoint::default(); TRIPLET_JOINTS],
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, numbers.
unsafe impl Versioned for triplet_keypoints {}

/// A depth map of the picture's size.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_depth {
    /// sizeof(triplet_depth), set by the caller.
    pub struct_size: u32,
    /// What the values are in.
    pub unit: triplet_depth_unit,
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Depth of every pixel, row-major, rows without gaps; NaN where undefined.
    pub values: *const f32,
}

impl Default for triplet_depth {
    fn default() -> triplet_depth {
        triplet_depth {
            struct_size: size_of::<triplet_depth>() as u32,
            unit: TRIPLET_DEPTH_RELATIVE,
            width: 0,
            height: 0,
            values: ptr::null(),
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, numbers and pointers.
unsafe impl Versioned for triplet_depth {}

/// What a reply handle stands for.
pub(crate) struct ReplyObject {
    answered: Answered,
    width: usize,
    height: usize,
    /// Made when it is first asked for.
    json: OnceLock<Text>,
    /// Where the answer goes when the reply is destroyed.
    spare: Arc<Spare>,
    /// The memory that the maps lie in; dropped after them.
    _lease: Lease,
}

impl Object for ReplyObject {
    type Handle = triplet_reply;
    const KIND: Kind = Kind::Reply;
}

impl Drop for ReplyObject {
    fn drop(&mut self) {
        self.spare.keep(mem::take(&mut self.answered));
    }
}

impl ReplyObject {
    pub(crate) fn new(
        answered: Answered,
        width: usize,
        height: usize,
        spare: Arc<Spare>,
        lease: Lease,
    ) -> ReplyObject {
        ReplyObject { answered, json: OnceLock::new(), width, height, spare, _lease: lease }
    }

    fn reply(&self) -> &Reply {
        self.answered.reply()
    }

    fn triplet(&self, index: usize) -> Result<&Triplet> {
        let triplets = &self.reply().triplets;
        triplets.get(index).ok_or_else(|| beyond("index", index, triplets.len()))
    }

    /// The target of a triplet, where `find` says that it is of the kind that `wanted` names.
    pub(crate) fn target<'r, T>(
        &'r self,
        index: usize,
        wanted: &str,
        find: impl FnOnce(&'r Target) -> Option<T>,
    ) -> Result<T> {
        let target = self.triplet(index)?.target.as_ref();
        target.and_then(find).ok_or_else(|| {
            Failure::new(TRIPLET_NO_TARGET, format!("triplet {index} has no {wanted} as its target"))
        })
    }
}

/// Says what the answer is as a whole. The caller sets `info->struct_size`. The texts and ids are borrowed from the reply.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `info` can be read and written as far as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_reply_get_info(
    reply: *const triplet_reply,
    info: *mut triplet_reply_info,
) -> triplet_status {
    guard(|| {
        let object = registry::get::<ReplyObject>(reply)?;
        let reply = object.reply();
        let (text, text_len) = object.answered.text();
        let (sentence, sentence_len) = object.answered.sentence();
        let value = triplet_reply_info {
            finish: finish(reply.finish)?,
            flags: reply.flags.bits(),
            has_plan: reply.answer.plan.is_some().into(),
            text,
            text_len,
            sentence,
            sentence_len,
            ids: reply.ids.as_ptr(),
            id_count: reply.ids.len(),
            triplet_count: reply.triplets.len(),
            plan_count: reply.answer.plan.as_ref().map_or(0, |plan| plan.items.len()),
            width: object.width,
            height: object.height,
            ..triplet_reply_info::default()
        };
        // SAFETY: the caller's promise.
        unsafe { memory::fill("info", info, &value) }
    })
}

/// Triplet number `index`, from 0. The caller sets `entry->struct_size`. The phrase is borrowed from the reply.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `entry` can be read and written as far as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_reply_get_entry(
    reply: *const triplet_reply,
    index: usize,
    entry: *mut triplet_entry,
) -> triplet_status {
    guard(|| {
        let object = registry::get::<ReplyObject>(reply)?;
        let triplet = object.triplet(index)?;
        let (phrase, phrase_len) = object.answered.phrase(index);
        let value = triplet_entry {
            unit: unit_bit(triplet.unit),
            phrase,
            phrase_len,
            group: triplet.group,
            index: triplet.index,
            score: triplet.score,
            flags: triplet.flags.bits(),
            target: target_kind(triplet.target.as_ref()),
            ..triplet_entry::default()
        };
        // SAFETY: the caller's promise.
        unsafe { memory::fill("entry", entry, &value) }
    })
}

/// Line number `index` of the plan, from 0. The texts are borrowed from the reply.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `item` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_reply_get_plan_item(
    reply: *const triplet_reply,
    index: usize,
    item: *mut triplet_plan_item,
) -> triplet_status {
    guard(|| {
        let object = registry::get::<ReplyObject>(reply)?;
        let lines = object.reply().answer.plan.as_ref().map_or(&[][..], |plan| &plan.items);
        let line = lines.get(index).ok_or_else(|| beyond("index", index, lines.len()))?;
        let [name, unit] = object.answered.plan_item(index);
        let value = triplet_plan_item { name, unit, count: line.count };
        // SAFETY: the caller's promise.
        unsafe { memory::write("item", item, value) }
    })
}

/// The box of triplet number `index`, in pixels of the picture.
///
/// Any thread. TRIPLET_NO_TARGET, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `area` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_reply_get_box(
    reply: *const triplet_reply,
    index: usize,
    area: *mut triplet_box,
) -> triplet_status {
    guard(|| {
        let object = registry::get::<ReplyObject>(reply)?;
        let corners = object.target(index, "box", |target| match target {
            Target::Box(corners) => Some(*corners),
            _ => None,
        })?;
        // SAFETY: the caller's promise.
        unsafe { memory::write("area", area, corners.into()) }
    })
}

/// The mask of triplet number `index`. The caller sets `mask->struct_size`. The probabilities are borrowed from the reply.
///
/// Any thread. TRIPLET_NO_TARGET, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `mask` can be read and written as far as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_reply_get_mask(
    reply: *const triplet_reply,
    index: usize,
    mask: *mut triplet_mask,
) -> triplet_status {
    guard(|| {
        let object = registry::get::<ReplyObject>(reply)?;
        let found = crate::mask::find(&object, index)?;
        let value = triplet_mask {
            threshold: found.threshold,
            width: found.width,
            height: found.height,
            probabilities: found.probabilities.as_ptr(),
            ..triplet_mask::default()
        };
        // SAFETY: the caller's promise.
        unsafe { memory::fill("mask", mask, &value) }
    })
}

/// The joints of triplet number `index`, in pixels of the picture. The caller sets `keypoints->struct_size`.
///
/// Any thread. TRIPLET_NO_TARGET, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `keypoints` can be read and written as far as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_reply_get_keypoints(
    reply: *const triplet_reply,
    index: usize,
    keypoints: *mut triplet_keypoints,
) -> triplet_status {
    guard(|| {
        let object = registry::get::<ReplyObject>(reply)?;
        let found = object.target(index, "keypoints", |target| match target {
            Target::Keypoints(found) => Some(found),
            _ => None,
        })?;
        let point = |point: triplet::reply::Keypoint| triplet_keypoint {
            x: point.x,
            y: point.y,
            score: point.score,
            visible: point.visible.into(),
        };
        let points = found.points.map(point);
        let value = triplet_keypoints { area: found.area.into(), points, ..triplet_keypoints::default() };
        // SAFETY: the caller's promise.
        unsafe { memory::fill("keypoints", keypoints, &value) }
    })
}

/// The depth map of triplet number `index`. The caller sets `depth->struct_size`. The values are borrowed from the reply.
///
/// Any thread. TRIPLET_NO_TARGET, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `depth` can be read and written as far as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_reply_get_depth(
    reply: *const triplet_reply,
    index: usize,
    depth: *mut triplet_depth,
) -> triplet_status {
    guard(|| {
        let object = registry::get::<ReplyObject>(reply)?;
        let found = object.target(index, "depth map", |target| match target {
            Target::Depth(found) => Some(found),
            _ => None,
        })?;
        let unit = match found.unit {
            DepthUnit::Metres => TRIPLET_DEPTH_METRE,
            DepthUnit::Relative => TRIPLET_DEPTH_RELATIVE,
        };
        let value = triplet_depth {
            unit,
            width: found.width,
            height: found.height,
            values: found.values.as_ptr(),
            ..triplet_depth::default()
        };
        // SAFETY: the caller's promise.
        unsafe { memory::fill("depth", depth, &value) }
    })
}

/// The whole reply as JSON, UTF-8 with a NUL behind it; its keys are described in docs/c-api.md. `*json` is borrowed from
/// the reply. `length` may be NULL.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// A pointer can be written to `json` and, unless it is NULL, a size to `length`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_reply_get_json(
    reply: *const triplet_reply,
    json: *mut *const c_char,
    length: *mut usize,
) -> triplet_status {
    guard(|| {
        let object = registry::get::<ReplyObject>(reply)?;
        memory::check_pointer("json", json)?;
        let text = object.json.get_or_init(|| Text::new(&object.reply().to_json()));
        // SAFETY: the caller's promise.
        unsafe {
            if !length.is_null() {
                memory::write("length", length, text.len())?;
            }
            memory::write("json", json, text.as_ptr())
        }
    })
}

/// Destroys the handle and sets it to NULL; NULL is left alone. What was borrowed from the reply is gone with it.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// A handle can be read from and written to `reply`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_reply_destroy(reply: *mut *mut triplet_reply) -> triplet_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { destroy::<ReplyObject>("reply", reply, |_| Ok(())) })
}

fn finish(finish: Finish) -> Result<triplet_finish> {
    Ok(match finish {
        Finish::EndOfText => TRIPLET_FINISH_END_OF_TEXT,
        Finish::Length => TRIPLET_FINISH_LENGTH,
        Finish::Cancelled => TRIPLET_FINISH_CANCELLED,
        Finish::TimeLimit => TRIPLET_FINISH_TIME_LIMIT,
        Finish::Given => TRIPLET_FINISH_GIVEN,
        _ => return Err(Failure::new(TRIPLET_INTERNAL, "an end that the header has no name for")),
    })
}
