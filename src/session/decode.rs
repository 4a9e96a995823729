//! From the hidden states of `<REF>` tokens to targets in pixels.
#![forbid(unsafe_code)]

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::array;

use super::context::Context;
use super::encoded::EncodedImage;
use super::question::Question;
use crate::arena::{Arena, Buffer};
use crate::backend::{Backend, Matrix, View};
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::heads::AdapterGroup;
use crate::image::Square;
use crate::model::{Found, Model, Pose};
use crate::reply::{Depth, DepthUnit, Finish, Keypoint, Keypoints, Mask, Reply, Target, Triplet};
use crate::trp::answer::{Spare, keep};
use crate::trp::router::Router;
use crate::trp::{Answer, Flags, Reference, Route, Slot, Unit, triplet_score};
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

impl<'a, B: Backend> Place<'a, B> {
    /// An answer to `question` that `context` holds after `prompt` positions.
    ///
    /// # Errors
    /// [`Error::Shape`] never in practice.
    pub(super) fn new(
        backend: &'a B,
        image: &'a EncodedImage<B>,
        context: &'a Context<B>,
        prompt: usize,
        question: &'a Question,
    ) -> Result<Place<'a, B>> {
        let (hidden, image_first) = (context.hidden()?, context.image_first());
        Ok(Place { backend, image, hidden, first: prompt, image_first, maps: &question.maps })
    }
}

/// How masks are given.
#[derive(Clone, Copy)]
pub(super) struct Masks {
    /// A pixel belongs to a mask where its probability is above this.
    pub(super) threshold: f32,
    /// Whether 1 or 0 is given instead of the probability.
    pub(super) binary: bool,
}

/// What decoding keeps for the next answer.
#[derive(Default)]
pub(super) struct Scratch {
    router: Router,
    /// Rows that a head's latents lie in.
    rows: Vec<usize>,
    /// Keypoints of replies that are gone.
    keypoints: Vec<Target>,
}

impl Scratch {
    /// Keeps what can be used again of a reply's triplets, which are no longer there then.
    pub(super) fn clear(&mut self, triplets: &mut Vec<Triplet>, spare: &mut Spare) {
        for triplet in triplets.drain(..).rev() {
            spare.keep_string(triplet.phrase);
            if let Some(target @ Target::Keypoints(_)) = triplet.target {
                keep(&mut self.keypoints, target);
            }
        }
    }
}

/// Fills in the triplets of a reply that has its answer: one for every `<REF>`. Runs each head once, and only the heads that
/// are needed; none where the answer was cancelled.
///
/// # Errors
/// Those of the heads.
pub(super) fn triplets<B: Backend>(
    model: &Model<B>,
    place: &Place<B>,
    reply: &mut Reply,
    log_probs: &[f32],
    masks: Masks,
    scratch: &mut Scratch,
    spare: &mut Spare,
) -> Result<()> {
    let Reply { answer, triplets, finish, .. } = reply;
    let Scratch { router, rows, keypoints } = scratch;
    router.route(answer, model.heads());
    list(answer, log_probs, triplets, spare);
    let routes = &router.routes;
    if *finish == Finish::Cancelled || routes.heads.is_empty() {
        return Ok(());
    }
    let mut features = place.image.maps()?;
    let adapted = Adapted::new(model, place, answer)?;
    if let (Some(adapted), Some(last)) = (&adapted, features.items_mut().last_mut()) {
        last.view = adapted.image.view();
    }
    for route in &routes.heads {
        let latents = latents(place, adapted.as_ref(), route, rows)?;
        let decided = masks.binary.then_some((&place.image.square, masks.threshold));
        let found = find(model, place.backend, &features, route, latents.view(), decided)?;
        place_targets(route, found, place, masks, triplets, keypoints)?;
    }
    Ok(())
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
fn latents<B: Backend>(
    place: &Place<B>,
    adapted: Option<&Adapted<B>>,
    route: &Route,
    rows: &mut Vec<usize>,
) -> Result<Matrix<B>> {
    let backend = place.backend;
    let positions = route.slots.iter().map(|slot| slot.position);
    rows.clear();
    match adapted {
        None => {
            rows.extend(positions.map(|position| place.first + position));
            backend.gather(place.hidden, rows)
        }
        Some(adapted) => {
            let row = |position| adapted.positions.iter().position(|&other| other == position);
            rows.extend(positions.filter_map(row));
            backend.gather(adapted.latents.view(), rows)
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
    let mut features = place.image.maps()?;
    let adapted = match answer.triplets.is_empty() {
        true => None,
        false => Adapted::new(model, place, &answer)?,
    };
    if let (Some(adapted), Some(last)) = (&adapted, features.items_mut().last_mut()) {
        last.view = adapted.image.view();
    }
    let mut kept = Vec::new();
    for head in model.heads() {
        let slot = |position| Slot { triplet: 0, reference: 0, position };
        let slots: Vec<Slot> = (0..head.num_queries.min(positions)).map(slot).collect();
        let most = slots.len().min(positions.saturating_sub(kept.len()));
        let route = Route { head: head.head.clone(), slots };
        let latents = latents(place, adapted.as_ref(), &route, &mut Vec::new())?;
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
    found: Found,
    place: &Place<B>,
    masks: Masks,
    triplets: &mut [Triplet],
    spare: &mut Vec<Target>,
) -> Result<()> {
    let square = &place.image.square;
    let (width, height) = (square.width(), square.height());
    let slots = route.slots.iter();
    match found {
        Found::Boxes(boxes) => {
            for (slot, &area) in slots.zip(boxes.as_chunks::<4>().0) {
                set(triplets, slot, |_| Ok(Target::Box(corners(square, area))))?;
            }
        }
        Found::Poses(poses) => {
            for (slot, pose) in slots.zip(poses.iter()) {
                set(triplets, slot, |unit| {
                    Ok(match unit {
                        Some(Unit::Box) => Target::Box(corners(square, pose.area)),
                        _ => people(keypoints(square, &pose), spare),
                    })
                })?;
            }
        }
        Found::Masks(bits) => {
            let pixels = Size::new(width).times(height)?.get();
            let words = pixels.div_ceil(u32::BITS as usize).max(1);
            for (slot, words) in slots.zip(bits.chunks_exact(words)) {
                set(triplets, slot, |_| {
                    let mut values = map(place)?;
                    for (values, word) in values.chunks_mut(u32::BITS as usize).zip(words) {
                        values
                            .iter_mut()
                            .enumerate()
                            .for_each(|(bit, value)| *value = decided(word >> bit & 1 == 1));
                    }
                    Ok(Target::Mask(mask(square, values, masks)))
                })?;
            }
        }
        Found::Maps { maps, grid, range } => {
            for (slot, cells) in slots.zip(maps.chunks_exact(grid.cells().max(1))) {
                set(triplets, slot, |unit| {
                    let mut values = map(place)?;
                    square.unpad_map_to(cells, grid, &mut values)?;
                    if unit == Some(Unit::Depth) {
                        let mut unit = DepthUnit::Relative;
                        if let Some(range) = range {
                            unit = DepthUnit::Metres;
                            values.iter_mut().for_each(|value| *value = range.depth(*value));
                        }
                        return Ok(Target::Depth(Depth { width, height, values, unit }));
                    }
                    if masks.binary {
                        values.iter_mut().for_each(|value| *value = decided(*value > masks.threshold));
                    }
                    Ok(Target::Mask(mask(square, values, masks)))
                })?;
            }
        }
    }
    Ok(())
}

/// Gives the triplet of a slot the target that `make` makes of its unit.
fn set(
    triplets: &mut [Triplet],
    slot: &Slot,
    make: impl FnOnce(Option<Unit>) -> Result<Target>,
) -> Result<()> {
    let is_it = |triplet: &&mut Triplet| [triplet.group, triplet.index] == [slot.triplet, slot.reference];
    if let Some(triplet) = triplets.iter_mut().find(is_it) {
        triplet.target = Some(make(triplet.unit)?);
    }
    Ok(())
}

/// In memory of a reply that is gone, where there is one.
fn people(keypoints: Keypoints, spare: &mut Vec<Target>) -> Target {
    match spare.pop() {
        Some(Target::Keypoints(mut boxed)) => {
            *boxed = keypoints;
            Target::Keypoints(boxed)
        }
        _ => Target::Keypoints(Box::new(keypoints)),
    }
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

/// A triplet for every `<REF>` of the answer, in order of appearance, without its target.
fn list(answer: &Answer, log_probs: &[f32], triplets: &mut Vec<Triplet>, spare: &mut Spare) {
    for (group, triplet) in answer.triplets.iter().enumerate() {
        for index in 0..triplet.references.len() {
            triplets.push(Triplet {
                phrase: spare.string(answer.phrase(triplet)),
                unit: triplet.unit,
                group,
                index,
                score: triplet_score(triplet, log_probs),
                flags: triplet.flags,
                target: None,
            });
        }
    }
}
