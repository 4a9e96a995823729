//! The picture: one ray per pixel, four where the part changes, Lambert and a small highlight, shadows, soft sky.

use crate::camera::View;
use crate::labels::{ObjectLabel, labels};
use crate::mannequin::Finish;
use crate::maths::{V3, v3};
use crate::raster::{NOTHING, Paint, Part, first_hit, parts, raster};
use crate::rng::hash;
use crate::scene::{FULL, Scene};

/// A rendered scene with its exact labels.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The scene's seed.
    pub seed: u64,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `height * width * 3` bytes, row-major.
    pub rgb: Vec<u8>,
    /// `height * width` ids: 0 table or nothing, else the object's id.
    pub instance: Vec<u8>,
    /// `height * width` metres along the optical axis, NaN where nothing is.
    pub depth: Vec<f32>,
    /// Labels in id order.
    pub objects: Vec<ObjectLabel>,
}

/// Renders `scene` at `long_side` / 640 of its full size (640 x 480, 480 x 640 or 512 x 512).
pub fn render(scene: &Scene, long_side: usize) -> Rendered {
    let view = scene.view(long_side);
    let parts = parts(scene);
    let raster = raster(&parts, &view);
    let objects = labels(scene, &view, &parts, &raster);
    let (w, h) = (view.width, view.height);
    let shader = Shader::new(scene, &parts);
    let mut rgb = Vec::with_capacity(w * h * 3);
    let mut depth = Vec::with_capacity(w * h);
    // Pixel noise falls with the square root of the area that a pixel averages.
    let grain = 0.016 * (long_side as f32 / FULL as f32).min(1.0);
    for y in 0..h {
        for x in 0..w {
            let i = y * w + x;
            let part = raster.part[i];
            let d = raster.rays[i];
            depth.push(if part == NOTHING {
                f32::NAN
            } else {
                raster.distance[i] * d.dot(view.camera.forward)
            });
            let differs = |j: usize| raster.part[j] != part;
            let edge = (x + 1 < w && differs(i + 1))
                || (x > 0 && differs(i - 1))
                || (y + 1 < h && differs(i + w))
                || (y > 0 && differs(i - w));
            let colour = if edge {
                let near = |k: usize| {
                    let r = raster.rects[k];
                    x + 1 >= r[0] && x <= r[2] && y + 1 >= r[1] && y <= r[3]
                };
                let mut sum = V3::default();
                for (dx, dy) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)] {
                    let (d, _) = view.ray(x as f32 + dx, y as f32 + dy);
                    sum =
                        sum + shader.colour(view.camera.eye, d, first_hit(&parts, view.camera.eye, d, near));
                }
                sum * 0.25
            } else {
                let hit = (part != NOTHING).then_some((raster.distance[i], part as usize));
                shader.colour(view.camera.eye, d, hit)
            };
            finish_pixel(&view, scene.seed, x, y, colour, grain, &mut rgb);
        }
    }
    Rendered { seed: scene.seed, width: w, height: h, rgb, instance: raster.instance, depth, objects }
}

/// Vignette, tone (square root), grain, 8 bits.
fn finish_pixel(view: &View, seed: u64, x: usize, y: usize, colour: V3, grain: f32, rgb: &mut Vec<u8>) {
    let long = view.width.max(view.height) as f32;
    let (u, v) = ((x as f32 + 0.5 - view.cx) / long, (y as f32 + 0.5 - view.cy) / long);
    let shade = 1.0 - 0.35 * (u * u + v * v);
    let noise = hash(seed ^ ((y * view.width + x) as u64).wrapping_mul(0x2545_f491_4f6c_dd1d));
    for (k, c) in [colour.x, colour.y, colour.z].into_iter().enumerate() {
        let bits = (noise >> (k * 20)) & 0xf_ffff;
        // Two uniform numbers make a triangular distribution.
        let tri = ((bits & 0x3ff) as f32 + (bits >> 10) as f32) / 1023.0 - 1.0;
        let value = (c * shade).max(0.0).sqrt().min(1.0) + tri * grain;
        rgb.push((value * 255.0 + 0.5).clamp(0.0, 255.0) as u8);
    }
}

/// Light falling on the parts; the bounding spheres seen from the sun make shadow tests cheap.
struct Shader<'a> {
    scene: &'a Scene,
    parts: &'a [Part],
    across: V3,
    along: V3,
    /// Per part: centre in the plane across the sun's rays, squared radius.
    discs: Vec<(f32, f32, f32)>,
    /// The same for the whole mannequin (radius 0 without one), and the index of its first part.
    crowd: (f32, f32, f32),
    crowd_from: usize,
    /// One sphere per instance for the darkening near contacts.
    blobs: Vec<(V3, f32)>,
}

impl<'a> Shader<'a> {
    fn new(scene: &'a Scene, parts: &'a [Part]) -> Self {
        let sun = scene.light.towards;
        let across = sun.cross(v3(0.0, 0.0, 1.0)).normalised();
        let along = sun.cross(across);
        let discs = parts
            .iter()
            .map(|p| {
                let (c, r) = p.primitive.bounding_sphere();
                (c.dot(across), c.dot(along), r * r)
            })
            .collect();
        let mut blobs: Vec<(V3, f32)> =
            scene.objects.iter().map(|o| o.primitive().bounding_sphere()).collect();
        if let Some(m) = &scene.mannequin {
            blobs.extend([15, 16].map(|j| (m.joints[j], 0.03)));
        }
        let crowd_from = 1 + scene.objects.len();
        let crowd = parts.get(crowd_from..).filter(|p| !p.is_empty()).map_or((0.0, 0.0, 0.0), |body| {
            let spheres: Vec<_> = body.iter().map(|p| p.primitive.bounding_sphere()).collect();
            let sum = spheres.iter().fold(V3::default(), |sum, (c, _)| sum + *c);
            let centre = sum * (1.0 / spheres.len() as f32);
            let radius = spheres.iter().map(|(c, r)| (*c - centre).length() + r).fold(0.0, f32::max);
            (centre.dot(across), centre.dot(along), radius * radius)
        });
        Shader { scene, parts, across, along, discs, crowd, crowd_from, blobs }
    }

    /// Linear colour that comes along the ray.
    fn colour(&self, eye: V3, d: V3, hit: Option<(f32, usize)>) -> V3 {
        let light = &self.scene.light;
        let Some((t, index)) = hit else {
            return light.low.mix(light.high, (0.5 + 1.2 * d.z).clamp(0.0, 1.0));
        };
        let p = eye + d * t;
        let part = &self.parts[index];
        let n = if index == 0 && p.z > -1e-4 { v3(0.0, 0.0, 1.0) } else { part.primitive.normal(p) };
        let (albedo, gloss) = self.paint(part, p, n);
        let facing = n.dot(light.towards);
        let lit = facing > 0.0 && !self.shadowed(p + n * 6e-4, index);
        let mut open = 1.0;
        if part.instance == 0 {
            for (c, r) in &self.blobs {
                let q = *c - p;
                let r2 = r * r;
                open *= 1.0 - 0.33 * (r2 / q.dot(q).max(r2));
            }
        }
        let mut out = albedo.times(light.sky) * ((0.65 + 0.35 * n.z) * open);
        if lit {
            out = out + albedo.times(light.sun) * facing;
            if gloss > 0.0 {
                let half = (light.towards - d).normalised();
                // The 32nd power by squaring.
                let shine = (0..5).fold(n.dot(half).max(0.0), |s, _| s * s);
                out = out + light.sun * (shine * gloss);
            }
        }
        out
    }

    fn shadowed(&self, p: V3, own: usize) -> bool {
        let sun = self.scene.light.towards;
        let (a, b) = (p.dot(self.across), p.dot(self.along));
        let convex = !matches!(self.parts[own].paint, Paint::Table)
            && !matches!(self.parts[own].primitive, crate::shapes::Primitive::Torus { .. });
        let (da, db) = (a - self.crowd.0, b - self.crowd.1);
        let all = da * da + db * db < self.crowd.2;
        let end = if all { self.parts.len() } else { self.crowd_from.min(self.parts.len()) };
        (1..end).any(|k| {
            let (ca, cb, r2) = self.discs[k];
            let (da, db) = (a - ca, b - cb);
            da * da + db * db < r2 && !(convex && k == own) && self.parts[k].primitive.hit(p, sun).is_some()
        })
    }

    fn paint(&self, part: &Part, p: V3, n: V3) -> (V3, f32) {
        const WOOD: V3 = v3(0.62, 0.40, 0.21);
        const DARK: V3 = v3(0.34, 0.18, 0.08);
        match part.paint {
            Paint::Table if n.z > 0.5 => (self.scene.table.albedo(p.x, p.y), 0.02),
            Paint::Table => (self.scene.table.first * 0.6, 0.0),
            Paint::Colour(colour) => (colour.albedo(), 0.12),
            Paint::Finish(finish) => {
                let mannequin = self.scene.mannequin.as_ref();
                let front = mannequin.map_or(0.0, |m| n.dot(m.front));
                let gaze = mannequin.map_or(0.0, |m| n.dot(m.gaze));
                match finish {
                    Finish::Head if gaze < -0.1 => (v3(0.10, 0.05, 0.03), 0.03),
                    Finish::Chest if front > 0.35 => (v3(0.30, 0.42, 0.40), 0.03),
                    Finish::Wood | Finish::Head | Finish::Chest => (WOOD, 0.04),
                    Finish::Dark => (DARK, 0.04),
                    Finish::Eye => (v3(0.01, 0.01, 0.01), 0.2),
                }
            }
        }
    }
}
