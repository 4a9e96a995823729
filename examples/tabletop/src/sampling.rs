//! From a seed to a scene. Choices that questions depend on (how many objects, which classes, whether there is a
//! mannequin) are drawn once; where things stand and where the camera is are drawn again until the scene is sound.

use crate::camera::Camera;
use crate::labels::labels;
use crate::mannequin::Mannequin;
use crate::maths::{radians, sin_cos, v3};
use crate::raster::{parts, raster};
use crate::rng::Rng;
use crate::scene::{Colour, Light, Object, Scene, Shape, Size};
use crate::texture::{TABLE_HALF, Table};

/// Distance of the camera from what it looks at, metres, before the factor of 0.7 to 1.4.
const BASE_DISTANCE: f32 = 0.92;
/// Long side of the small picture that a candidate scene is judged by.
const JUDGE: usize = 160;

/// Knobs of the world, for a curriculum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most objects of a scene besides the mannequin, 1 to 5.
    pub max_objects: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { max_objects: 5 }
    }
}

impl Scene {
    /// The scene of a seed.
    pub fn from_seed(seed: u64) -> Scene {
        Scene::with_options(seed, &Options::default())
    }

    /// The scene of a seed under a curriculum.
    pub fn with_options(seed: u64, options: &Options) -> Scene {
        let mut rng = Rng::new(seed, 1);
        let (width, height) = [(640, 480), (480, 640), (512, 512)][rng.below(3)];
        let weights = [0.14, 0.2, 0.24, 0.22, 0.2];
        let count = 1 + rng.weighted(&weights[..options.max_objects.clamp(1, 5)]);
        let with_mannequin = rng.chance(0.4);
        let kinds = kinds(&mut rng, count);
        let table = Table::random(&mut rng);
        let light = light(&mut rng);
        let mut attempt = 0u64;
        loop {
            let mut rng = Rng::new(seed, 1000 + attempt);
            // A crowd that never fits loses a member every 60 attempts.
            let keep = count.saturating_sub((attempt / 60) as usize).max(1);
            attempt += 1;
            let Some(scene) =
                placed(&mut rng, seed, width, height, &kinds[..keep], with_mannequin, table, light)
            else {
                continue;
            };
            if sound(&scene) {
                return scene;
            }
        }
    }
}

/// Shape, colour and size of each object: repeated classes are common, and so are near misses (same colour or shape).
fn kinds(rng: &mut Rng, count: usize) -> Vec<(Shape, Colour, Size)> {
    let mut out: Vec<(Shape, Colour, Size)> = Vec::new();
    let size = |rng: &mut Rng| if rng.chance(0.5) { Size::Small } else { Size::Large };
    while out.len() < count {
        let room = count - out.len();
        let mut class = (Shape::ALL[rng.below(5)], Colour::ALL[rng.below(8)]);
        if let Some(other) = rng.pick(&out).copied()
            && rng.chance(0.45)
        {
            if rng.chance(0.5) { class.0 = other.0 } else { class.1 = other.1 }
        }
        if out.iter().any(|k| (k.0, k.1) == class) {
            continue;
        }
        let chance = if out.is_empty() { 0.6 } else { 0.25 };
        let copies = match room {
            1 => 1,
            _ if !rng.chance(chance) => 1,
            2 => 2,
            _ => 2 + usize::from(rng.chance(0.55)),
        };
        let first = size(rng);
        for i in 0..copies {
            let same = i == 0 || rng.chance(0.5);
            let other = size(rng);
            out.push((class.0, class.1, if same { first } else { other }));
        }
    }
    rng.shuffle(&mut out);
    out
}

fn light(rng: &mut Rng) -> Light {
    let (sa, ca) = sin_cos(rng.range(0.0, std::f32::consts::TAU));
    let (se, ce) = sin_cos(radians(rng.range(38.0, 74.0)));
    let warm = rng.range(-0.05, 0.05);
    let tint = v3(1.0 + warm, 1.0, 1.0 - warm);
    let sun = tint * rng.range(0.62, 0.9);
    let sky = v3(1.0 - 0.4 * warm, 1.0, 1.0 + 0.4 * warm) * rng.range(0.34, 0.48);
    let tone = v3(rng.range(0.2, 0.5), rng.range(0.2, 0.5), rng.range(0.2, 0.5));
    let grey = (tone.x + tone.y + tone.z) / 3.0;
    let low = tone.mix(v3(grey, grey, grey), 0.6);
    Light { towards: v3(ca * ce, sa * ce, se), sun, sky, low: low * 0.7, high: low * 1.3 }
}

#[expect(clippy::too_many_arguments, reason = "the fixed part of a scene, passed once")]
fn placed(
    rng: &mut Rng,
    seed: u64,
    width: usize,
    height: usize,
    kinds: &[(Shape, Colour, Size)],
    with_mannequin: bool,
    table: Table,
    light: Light,
) -> Option<Scene> {
    // The mean of two uniform numbers: mostly near the base distance.
    let factor = 0.7 + 0.7 * 0.5 * (rng.unit() + rng.unit());
    let elevation = radians(rng.range(20.0, 70.0));
    let azimuth = rng.range(0.0, std::f32::consts::TAU);
    let lift = if with_mannequin { 0.16 } else { 0.05 };
    let target = v3(rng.range(-0.08, 0.08), rng.range(-0.08, 0.08), lift);
    let camera = Camera::around(target, azimuth, elevation, BASE_DISTANCE * factor);
    let view = camera.view(width, height);

    let mut taken: Vec<(f32, f32, f32)> = Vec::new();
    let spot = |rng: &mut Rng| {
        let x = rng.range(0.06, 0.94) * width as f32;
        let y = rng.range(0.12, 0.94) * height as f32;
        let (d, _) = view.ray(x, y);
        let t = (0.03 - camera.eye.z) / d.z;
        let p = camera.eye + d * t;
        let inside = p.x.abs() < TABLE_HALF - 0.07 && p.y.abs() < TABLE_HALF - 0.07;
        (d.z < -0.02 && t < 1.6 && inside).then_some((p.x, p.y))
    };
    let mut mannequin = None;
    if with_mannequin {
        for _ in 0..12 {
            let Some((x, y)) = spot(rng) else { continue };
            let candidate = Mannequin::random(rng, x, y);
            let hull: Vec<_> = candidate.parts.iter().flat_map(|(p, _)| p.hull()).collect();
            if inside_share(view.bounds(&hull)?, width, height) > 0.96 {
                taken.push((x, y, candidate.footprint(0.21)));
                mannequin = Some(candidate);
                break;
            }
        }
        mannequin.as_ref()?;
    }
    let mut objects: Vec<Object> = Vec::new();
    for (shape, colour, size) in kinds {
        let mut done = false;
        for _ in 0..24 {
            let Some((x, y)) = spot(rng) else { continue };
            let yaw = rng.range(0.0, std::f32::consts::TAU);
            let standing = rng.chance(0.5);
            let object = Object { shape: *shape, colour: *colour, size: *size, x, y, yaw, standing };
            let radius = object.footprint();
            let free = taken.iter().all(|(tx, ty, tr)| {
                let (dx, dy) = (x - tx, y - ty);
                dx * dx + dy * dy > (radius + tr + 0.012) * (radius + tr + 0.012)
            });
            let Some(bounds) = view.bounds(&object.primitive().hull()) else { continue };
            if free && inside_share(bounds, width, height) > 0.85 {
                taken.push((x, y, radius));
                objects.push(object);
                done = true;
                break;
            }
        }
        if !done {
            return None;
        }
    }
    Some(Scene { seed, width, height, camera, light, table, objects, mannequin })
}

/// Share of a rectangle's area that lies in the picture.
fn inside_share(b: [f32; 4], width: usize, height: usize) -> f32 {
    let w = (b[2].min(width as f32) - b[0].max(0.0)).max(0.0);
    let h = (b[3].min(height as f32) - b[1].max(0.0)).max(0.0);
    w * h / ((b[2] - b[0]) * (b[3] - b[1])).max(1e-6)
}

/// Judges a candidate by a small picture: targets are clearly targets and large enough, at most one object is hidden.
fn sound(scene: &Scene) -> bool {
    let view = scene.view(JUDGE);
    let long = view.width.max(view.height) as f32;
    let parts = parts(scene);
    let raster = raster(&parts, &view);
    let mut hidden = 0;
    let mut targets = 0;
    for label in labels(scene, &view, &parts, &raster) {
        let mannequin = label.keypoints.is_some();
        if mannequin && (label.visibility < 0.5 || label.long_side() < 0.27 * long) {
            return false;
        }
        // Nothing near the limit of 25 %, so that the labels do not hang on a pixel.
        if label.visibility < 0.15 {
            hidden += 1;
        } else if label.visibility < 0.38 || label.long_side() < 0.07 * long {
            return false;
        } else {
            targets += usize::from(!mannequin);
        }
    }
    hidden <= 1 && targets >= 1
}
