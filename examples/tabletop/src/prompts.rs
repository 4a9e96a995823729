//! Visual prompts: the four ways to point at a region.

use serde::{Deserialize, Serialize};

use crate::labels::ObjectLabel;
use crate::render::Rendered;
use crate::rng::Rng;

/// The kinds of visual prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptKind {
    /// One point.
    Point,
    /// A box.
    Box,
    /// A polyline.
    Scribble,
    /// The instance's visible mask.
    Mask,
}

impl PromptKind {
    /// All kinds.
    pub const ALL: [PromptKind; 4] =
        [PromptKind::Point, PromptKind::Box, PromptKind::Scribble, PromptKind::Mask];
}

/// One visual prompt; only the field of its kind is present (a mask is given by the instance map).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// Its kind.
    pub kind: PromptKind,
    /// The id of the object it marks.
    pub instance: u8,
    /// `[x0, y0, x1, y1]` pixels: the visible box, each side off by at most 4 % of its length.
    #[serde(rename = "box", default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<[f32; 4]>,
    /// `[x, y]` pixels, a pixel centre inside the visible mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<[f32; 2]>,
    /// Corners of a polyline, pixel centres inside the visible mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scribble: Option<Vec<[f32; 2]>>,
}

/// A prompt of `kind` on the visible pixels of `object`.
pub fn prompt(r: &Rendered, object: &ObjectLabel, kind: PromptKind, rng: &mut Rng) -> Prompt {
    let mut out = Prompt { kind, instance: object.id, bounds: None, point: None, scribble: None };
    match kind {
        PromptKind::Mask => {}
        PromptKind::Box => {
            let [x0, y0, x1, y1] = object.bounds;
            let (dx, dy) = (0.04 * (x1 - x0), 0.04 * (y1 - y0));
            out.bounds = Some([
                (x0 + rng.range(-dx, dx)).max(0.0),
                (y0 + rng.range(-dy, dy)).max(0.0),
                (x1 + rng.range(-dx, dx)).min(r.width as f32),
                (y1 + rng.range(-dy, dy)).min(r.height as f32),
            ]);
        }
        PromptKind::Point => {
            let inner = inner_pixels(r, object);
            out.point = rng.pick(&inner).copied();
        }
        PromptKind::Scribble => {
            let inner = inner_pixels(r, object);
            let mut points: Vec<[f32; 2]> =
                (0..3 + rng.below(3)).filter_map(|_| rng.pick(&inner).copied()).collect();
            let [x0, y0, x1, y1] = object.bounds;
            let along = usize::from(y1 - y0 > x1 - x0);
            points.sort_by(|a, b| a[along].total_cmp(&b[along]));
            out.scribble = Some(points);
        }
    }
    out
}

/// Centres of the object's pixels that are not at its rim, or of all of them when it is too thin for that.
fn inner_pixels(r: &Rendered, object: &ObjectLabel) -> Vec<[f32; 2]> {
    let [x0, y0, x1, y1] = object.bounds.map(|v| v as usize);
    let margin = (object.long_side() * 0.04).ceil() as usize;
    let own = |x: usize, y: usize| {
        x < r.width && y < r.height && r.instance.get(y * r.width + x) == Some(&object.id)
    };
    let mut all = Vec::new();
    let mut inner = Vec::new();
    for y in y0..y1 {
        for x in x0..x1 {
            if !own(x, y) {
                continue;
            }
            let centre = [x as f32 + 0.5, y as f32 + 0.5];
            all.push(centre);
            if x >= margin
                && y >= margin
                && own(x - margin, y)
                && own(x + margin, y)
                && own(x, y - margin)
                && own(x, y + margin)
            {
                inner.push(centre);
            }
        }
    }
    if inner.is_empty() { all } else { inner }
}
