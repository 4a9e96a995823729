//! From the hidden states of `<REF>` tokens to targets in pixels.
#![forbid(unsafe_code)]

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::array;

use super::encoded::EncodedImage;
use super::generate::Written;
use crate::arena::{Arena, Buffer};
use crate::backend::{Backend, Matrix, View};
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::heads::AdapterGroup;
use crate::image::Square;
use crate::model::{Found, Model, Pose};
use crate::reply::{Depth, DepthUnit, Finish, Keypoint, Keypoints, Mask, Target, Triplet};
use crate::sort::sorted_by;
use crate::trp::{Answer, Flags, Reference, Route, Routes, Slot, Unit, route, triplet_score};
use crate::vision::FeatureMap;

/// Where an answer was written.
pub(super) struct Place<'a, B: Backend> {
    /// What decodes it.
    pub(super) backend: &'a B,
    pub(super) image: &'a EncodedImage<B>,
    /// Hidden states of all positions, `[positions, hidden_size]`.
    pub(super) hidden: View<'a, B>,
    /// Position of the answer's first token.
    pub(super) first: usize,
    /// Position of the picture's first row, where the prompt has one.
    pub(super) image_first: Option<usize>,
    /// Where masks and depth maps are put.
    pub(super) maps: &'a Arena,
}

/// How masks are given.
#[derive(Clone, Copy)]
pub(super) struct Masks {
    /// A pixel belongs to a mask where its probability is above this.
    pub(super) threshold: f32,
    /// Whether 1 or 0 is given instead of the probability.
    pub(super) binary: bool,
}

/// One entry for every `<REF>` of the answer. Runs each head once, and only the heads that are needed; none where the
/// answer was cancelled.
///
/// # Errors
/// Those of the heads.
pub(super) fn triplets<B: Backend>(
    model: &Model<B>,
    place: &Place<B>,
    answer: &mut Answer,
    written: &Written,
    masks: Masks,
) -> Result<Vec<Triplet>> {
    let routes = route(answer, model.heads());
    let mut targets: Vec<(Slot, Target)> = Vec::new();
    if written.finish != Finish::Cancelled && !routes.heads.is_empty() {
        let mut features = place.image.features()?;
        let adapted = Adapted::new(model, place, answer)?;
        if let (Some(adapted), Some(last)) = (&adapted, features.last_mut()) {
            last.view = adapted.image.view();
        }
        for route in &routes.heads {
            let latents = latents(place, adapted.as_ref(), route)?;
            let decided = masks.binary.then_some((&place.image.square, masks.threshold));
            let found = find(model, place.backend, &features, route, latents.view(), decided)?;
            place_targets(route, answer, found, place, masks, &mut targets)?;
        }
    }
    Ok(list(answer, &written.log_probs, &routes, targets))
}

/// What the adapter makes of all groups of an answer.
struct Adapted<B: Backend> {
    /// One row per `<REF>` of the answer, in order of appearance.
    latents: Matrix<B>,
    /// The `<REF>` positions of those rows.
    positions: Vec<usize>,
    image: Matrix<B>,
}

impl<B: Backend> Adapted<B> {
    /// Runs the adapter, where the model has one, over every group: the hidden states one position before each token of
    /// the phrase, delimiters included, and before each `<REF>`.
    fn new(model: &Model<B>, place: &Place<B>, answer: &Answer) -> Result<Option<Adapted<B>>> {
        let Some(adapter) = &model.modules().vd_adapter else { return Ok(None) };
        let backend = place.backend;
        let Some(image_first) = place.image_first else {
            return Err(Error::Input { field: "prompt", reason: "has no place for the picture".into() });
        };
        let grid = place.image.selected()?.grid;
        let image = place.hidden.row_range(image_first..image_first + grid.cells())?;
        let mut states = Vec::new();
        let mut positions = Vec::new();
        for triplet in answer.triplets.iter().filter(|triplet| !triplet.references.is_empty()) {
            let before = |position: usize| (place.first + position).saturating_sub(1);
            let refs: Vec<usize> = triplet.references.iter().map(|one| before(one.position)).collect();
            let phrase = match triplet.phrase_tokens.is_empty() {
                true => Vec::new(),
                false => {
                    let open = triplet.phrase_tokens.start.saturating_sub(1);
                    (open..=triplet.phrase_tokens.end).map(before).collect()
                }
            };
            positions.extend(triplet.references.iter().map(|one| one.position));
            states.push((backend.gather(place.hidden, &refs)?, backend.gather(place.hidden, &phrase)?));
        }
        let groups: Vec<AdapterGroup<B>> = states
            .iter()
            .map(|(refs, phrase)| AdapterGroup { refs: refs.view(), phrase: phrase.view() })
            .collect();
        let out = adapter.forward(backend, image, grid, &groups)?;
        Ok(Some(Adapted { latents: out.latents, positions, image: out.image }))
    }
}

/// The latents of a head's slots: the hidden state at each `<REF>`, or what the adapter made of it.
fn latents<B: Backend>(place: &Place<B>, adapted: Option<&Adapted<B>>, route: &Route) -> Result<Matrix<B>> {
    let backend = place.backend;
    let positions = route.slots.iter().map(|slot| slot.position);
    match adapted {
        None => {
            let rows: Vec<usize> = positions.map(|position| place.first + position).collect();
            backend.gather(place.hidden, &rows)
        }
        Some(adapted) => {
            let row = |position| adapted.positions.iter().position(|&other| other == position);
            let rows: Vec<usize> = positions.filter_map(row).collect();
            backend.gather(adapted.latents.view(), &rows)
        }
    }
}

fn find<B: Backend>(
    model: &Model<B>,
    backend: &B,
    features: &[FeatureMap<B>],
    route: &Route,
    latents: View<B>,
    decided: Option<(&Square, f32)>,
) -> Result<Found> {
    match model.modules().head(&route.head) {
        Some(head) => head.decode(backend, features, latents, decided),
        None => Err(Error::Missing { module: alloc::format!("visual_decoder.{}", route.head) }),
    }
}

/// Takes the memory of decoding the longest answer with the most targets.
///
/// # Errors
/// As [`triplets`].
pub(super) fn measure<B: Backend>(model: &Model<B>, place: &Place<B>) -> Result<()> {
    let positions = place.hidden.rows();
    let mut answer = Answer::default();
    // Every position a `<REF>` with a group of its own: no answer has more rows to adapt.
    let cells = place.image.selected()?.grid.cells();
    if model.modules().vd_adapter.is_some() && positions >= cells {
        for position in 0..positions {
            answer.triplets.push(crate::trp::Triplet {
                phrase: 0..0,
                unit: None,
                references: alloc::vec![Reference { index: None, position }],
                phrase_tokens: 0..0,
                unit_tokens: 0..0,
                flags: Flags::default(),
            });
        }
    }
    let mut features = place.image.features()?;
    let adapted = match answer.triplets.is_empty() {
        true => None,
        false => Adapted::new(model, place, &answer)?,
    };
    if let (Some(adapted), Some(last)) = (&adapted, features.last_mut()) {
        last.view = adapted.image.view();
    }
    let mut kept = Vec::new();
    for head in model.heads() {
        let slot = |position| Slot { triplet: 0, reference: 0, position };
        let slots: Vec<Slot> = (0..head.num_queries.min(positions)).map(slot).collect();
        let most = slots.len().min(positions.saturating_sub(kept.len()));
        let route = Route { head: head.head.clone(), slots };
        let latents = latents(place, adapted.as_ref(), &route)?;
        if let Found::Maps { .. } = find(model, place.backend, &features, &route, latents.view(), None)? {
            for _ in 0..most {
                kept.push(map(place)?);
            }
        }
    }
    Ok(())
}

/// Room for one map in pixels of the picture.
fn map<B: Backend>(place: &Place<B>) -> Result<Buffer> {
    let square = &place.image.square;
    place.maps.take("map", Size::new(square.width()).times(square.height())?.get())
}

/// Maps what a head found to pixels; entry `i` belongs to slot `i`.
fn place_targets<B: Backend>(
    route: &Route,
    answer: &Answer,
    found: Found,
    place: &Place<B>,
    masks: Masks,
    targets: &mut Vec<(Slot, Target)>,
) -> Result<()> {
    let square = &place.image.square;
    let (width, height) = (square.width(), square.height());
    let slots = route.slots.iter().copied();
    let unit = |slot: Slot| answer.triplets.get(slot.triplet).and_then(|triplet| triplet.unit);
    match found {
        Found::Boxes(boxes) => {
            let boxes = boxes.into_iter().map(|area| Target::Box(corners(square, area)));
            targets.extend(slots.zip(boxes));
        }
        Found::Poses(poses) => targets.extend(slots.zip(poses).map(|(slot, pose)| match unit(slot) {
            Some(Unit::Box) => (slot, Target::Box(corners(square, pose.area))),
            _ => (slot, Target::Keypoints(Box::new(keypoints(square, &pose)))),
        })),
        Found::Masks(bits) => {
            let pixels = Size::new(width).times(height)?.get();
            let words = pixels.div_ceil(u32::BITS as usize).max(1);
            for (slot, words) in slots.zip(bits.chunks_exact(words)) {
                let mut values = map(place)?;
                for (values, word) in values.chunks_mut(u32::BITS as usize).zip(words) {
                    values
                        .iter_mut()
                        .enumerate()
                        .for_each(|(bit, value)| *value = decided(word >> bit & 1 == 1));
                }
                targets.push((slot, Target::Mask(mask(square, values, masks))));
            }
        }
        Found::Maps { maps, grid, range } => {
            for (slot, cells) in slots.zip(maps.chunks_exact(grid.cells().max(1))) {
                let mut values = map(place)?;
                square.unpad_map_to(cells, grid, &mut values)?;
                let target = if unit(slot) == Some(Unit::Depth) {
                    let mut unit = DepthUnit::Relative;
                    if let Some(range) = range {
                        unit = DepthUnit::Metres;
                        values.iter_mut().for_each(|value| *value = range.depth(*value));
                    }
                    Target::Depth(Depth { width, height, values, unit })
                } else {
                    if masks.binary {
                        values.iter_mut().for_each(|value| *value = decided(*value > masks.threshold));
                    }
                    Target::Mask(mask(square, values, masks))
                };
                targets.push((slot, target));
            }
        }
    }
    Ok(())
}

/// What stands for a pixel that belongs to a mask or not.
fn decided(inside: bool) -> f32 {
    if inside { 1.0 } else { 0.0 }
}

fn mask(square: &Square, probabilities: Buffer, masks: Masks) -> Mask {
    let threshold = if masks.binary { 0.5 } else { masks.threshold };
    Mask { width: square.width(), height: square.height(), probabilities, threshold }
}

/// Corners in pixels, cut to the picture.
fn corners(square: &Square, area: [f32; 4]) -> [f32; 4] {
    square.clamp_box(square.unpad_box(area))
}

fn keypoints(square: &Square, pose: &Pose) -> Keypoints {
    let points = array::from_fn(|joint| {
        let [x, y] = square.unpad_point(pose.joints[joint]);
        let [hidden, visible] = pose.visibility[joint];
        Keypoint { x, y, visible: visible > hidden, score: visible }
    });
    Keypoints { area: corners(square, pose.area), points }
}

/// All targets of the answer in order of appearance.
fn list(answer: &Answer, log_probs: &[f32], routes: &Routes, targets: Vec<(Slot, Target)>) -> Vec<Triplet> {
    let mut slots: Vec<Slot> = routes.heads.iter().flat_map(|route| route.slots.iter().copied()).collect();
    slots.extend(routes.unrouted.iter().copied());
    let slots = sorted_by(slots, |a, b| a.position.cmp(&b.position));
    let mut targets: Vec<_> = targets.into_iter().map(Some).collect();
    let mut triplets = Vec::with_capacity(slots.len());
    for slot in slots {
        let Some(group) = answer.triplets.get(slot.triplet) else { continue };
        let found =
            targets.iter_mut().find(|target| target.as_ref().is_some_and(|(other, _)| *other == slot));
        triplets.push(Triplet {
            phrase: answer.phrase(group).to_owned(),
            unit: group.unit,
            group: slot.triplet,
            index: slot.reference,
            score: triplet_score(group, log_probs),
            flags: group.flags,
            target: found.and_then(Option::take).map(|(_, target)| target),
        });
    }
    triplets
}
