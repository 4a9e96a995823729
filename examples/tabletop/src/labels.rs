//! Exact labels of a view: visible boxes, visibility, depth of the centre and keypoints.

use serde::{Deserialize, Serialize};

use crate::camera::View;
use crate::maths::v3;
use crate::raster::{Part, Raster, first_hit};
use crate::scene::Scene;

/// Objects with less than this share of their pixels visible are no targets and are never mentioned.
pub const TARGET_VISIBILITY: f32 = 0.25;

/// What is known of one object in a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectLabel {
    /// Its id in the instance map, from 1.
    pub id: u8,
    /// Colour and shape, `red ball`; `mannequin` for the mannequin.
    pub class: String,
    /// `ball`, `cube`, `can`, `cone`, `ring` or `mannequin`.
    pub shape: String,
    /// Colour word, empty for the mannequin.
    pub colour: String,
    /// `small` or `large`, empty for the mannequin.
    pub size: String,
    /// Tight box `[x0, y0, x1, y1]` of the visible pixels, pixels, x1 and y1 exclusive; zeros when nothing is visible.
    #[serde(rename = "box")]
    pub bounds: [f32; 4],
    /// Visible pixels over the pixels it would have inside the picture were it alone.
    pub visibility: f32,
    /// At least 25 % visible.
    pub target: bool,
    /// Depth in metres of the middle of the solid.
    pub depth: f32,
    /// Only the mannequin: 17 joints `[x, y, v]`, v 0 outside the picture, 1 hidden, 2 visible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keypoints: Option<Vec<[f32; 3]>>,
}

impl ObjectLabel {
    /// Size, colour and shape: `small red ball`; `mannequin`.
    pub fn full_name(&self) -> String {
        if self.size.is_empty() { self.class.clone() } else { format!("{} {}", self.size, self.class) }
    }

    /// Middle of the box, x.
    pub fn centre_x(&self) -> f32 {
        0.5 * (self.bounds[0] + self.bounds[2])
    }

    /// The box's longer side.
    pub fn long_side(&self) -> f32 {
        (self.bounds[2] - self.bounds[0]).max(self.bounds[3] - self.bounds[1])
    }
}

/// Labels of every object of the scene, in id order.
pub fn labels(scene: &Scene, view: &View, parts: &[Part], raster: &Raster) -> Vec<ObjectLabel> {
    let ids = scene.objects.len() + usize::from(scene.mannequin.is_some());
    let mut count = vec![0u32; ids + 1];
    let mut boxes = vec![[usize::MAX, usize::MAX, 0, 0]; ids + 1];
    for (i, id) in raster.instance.iter().enumerate().filter(|(_, id)| **id != 0) {
        let (x, y) = (i % view.width, i / view.width);
        let b = &mut boxes[*id as usize];
        *b = [b[0].min(x), b[1].min(y), b[2].max(x + 1), b[3].max(y + 1)];
        count[*id as usize] += 1;
    }
    (1..=ids)
        .map(|id| {
            let alone = raster.alone.get(id).copied().unwrap_or(0);
            let visibility = if alone == 0 { 0.0 } else { count[id] as f32 / alone as f32 };
            let bounds = if count[id] == 0 { [0.0; 4] } else { boxes[id].map(|v| v as f32) };
            let (shape, colour, size, middle) = match scene.objects.get(id - 1) {
                Some(o) => {
                    (o.shape.word(), o.colour.word(), o.size.word(), o.primitive().bounding_sphere().0)
                }
                None => {
                    let (x, y) = scene.mannequin.as_ref().map_or((0.0, 0.0), |m| (m.x, m.y));
                    ("mannequin", "", "", v3(x, y, 0.5 * crate::mannequin::HEIGHT))
                }
            };
            let class = if colour.is_empty() { shape.to_string() } else { format!("{colour} {shape}") };
            ObjectLabel {
                id: id as u8,
                class,
                shape: shape.into(),
                colour: colour.into(),
                size: size.into(),
                bounds,
                visibility,
                target: visibility >= TARGET_VISIBILITY,
                depth: view.local(middle).z,
                keypoints: (id > scene.objects.len()).then(|| keypoints(scene, view, parts)),
            }
        })
        .collect()
}

/// The joints on the picture. A joint is visible when nothing lies in front of it but the skin around it.
fn keypoints(scene: &Scene, view: &View, parts: &[Part]) -> Vec<[f32; 3]> {
    let Some(mannequin) = &scene.mannequin else { return Vec::new() };
    let joint = |i: usize| {
        let p = mannequin.joints[i];
        let Some((x, y, _)) = view.project(p) else { return [0.0, 0.0, 0.0] };
        if x < 0.0 || y < 0.0 || x >= view.width as f32 || y >= view.height as f32 {
            return [x, y, 0.0];
        }
        let away = p - view.camera.eye;
        let distance = away.length();
        let hit = first_hit(parts, view.camera.eye, away * (1.0 / distance), |_| true);
        let visible = hit.is_none_or(|(t, _)| t >= distance - mannequin.skin[i]);
        [x, y, if visible { 2.0 } else { 1.0 }]
    };
    (0..17).map(joint).collect()
}
