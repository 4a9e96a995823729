//! Primary visibility: which part each pixel sees, and how many pixels each instance has alone.

use crate::camera::View;
use crate::mannequin::Finish;
use crate::maths::{V3, v3};
use crate::scene::{Colour, Scene};
use crate::shapes::Primitive;
use crate::texture::TABLE_HALF;

/// How a part is painted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Paint {
    /// The table.
    Table,
    /// One of the eight colours.
    Colour(Colour),
    /// A part of the mannequin.
    Finish(Finish),
}

/// A solid of the scene with its instance id (0: the table).
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The solid.
    pub primitive: Primitive,
    /// 0 the table, else the object's id.
    pub instance: u8,
    /// Its paint.
    pub paint: Paint,
}

/// Part index of a pixel that sees nothing.
pub const NOTHING: u16 = u16::MAX;

/// Every part of a scene: the table first, then objects, then the mannequin; parts of an instance are contiguous.
pub fn parts(scene: &Scene) -> Vec<Part> {
    let thickness = 0.02;
    let table = Primitive::Cuboid {
        centre: v3(0.0, 0.0, -thickness),
        half: v3(TABLE_HALF, TABLE_HALF, thickness),
        turn: (0.0, 1.0),
    };
    let mut out = vec![Part { primitive: table, instance: 0, paint: Paint::Table }];
    for (i, object) in scene.objects.iter().enumerate() {
        let paint = Paint::Colour(object.colour);
        out.push(Part { primitive: object.primitive(), instance: i as u8 + 1, paint });
    }
    if let Some(mannequin) = &scene.mannequin {
        let instance = scene.objects.len() as u8 + 1;
        for (primitive, finish) in &mannequin.parts {
            out.push(Part { primitive: *primitive, instance, paint: Paint::Finish(*finish) });
        }
    }
    out
}

/// What the pixels of a view see.
pub struct Raster {
    /// Unit direction of the ray of every pixel's centre.
    pub rays: Vec<V3>,
    /// Distance along the ray, infinite where nothing is.
    pub distance: Vec<f32>,
    /// Index into the parts, `NOTHING` where nothing is.
    pub part: Vec<u16>,
    /// Instance id per pixel (0: table or nothing).
    pub instance: Vec<u8>,
    /// Pixels of each instance id when it is rendered alone inside the picture.
    pub alone: Vec<u32>,
    /// Pixel rectangle `[x0, y0, x1, y1)` of every part.
    pub rects: Vec<[usize; 4]>,
}

/// Casts one ray per pixel centre, part by part, inside each part's rectangle.
pub fn raster(parts: &[Part], view: &View) -> Raster {
    let (w, h) = (view.width, view.height);
    let mut distance = vec![f32::INFINITY; w * h];
    let mut part_of = vec![NOTHING; w * h];
    let mut stamp = vec![0u8; w * h];
    let ids = parts.iter().map(|p| p.instance as usize).max().unwrap_or(0) + 1;
    let mut alone = vec![0u32; ids];
    let rays: Vec<V3> = (0..w * h).map(|i| view.ray((i % w) as f32 + 0.5, (i / w) as f32 + 0.5).0).collect();
    let mut rects = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let rect = pixel_rect(view, &part.primitive);
        rects.push(rect);
        let [x0, y0, x1, y1] = rect;
        for y in y0..y1 {
            for i in y * w + x0..y * w + x1 {
                let Some(t) = part.primitive.hit(view.camera.eye, rays[i]) else { continue };
                if part.instance != 0 && stamp[i] != part.instance {
                    stamp[i] = part.instance;
                    alone[part.instance as usize] += 1;
                }
                if t < distance[i] {
                    distance[i] = t;
                    part_of[i] = index as u16;
                }
            }
        }
    }
    let instance = part_of.iter().map(|p| parts.get(*p as usize).map_or(0, |part| part.instance)).collect();
    Raster { rays, distance, part: part_of, instance, alone, rects }
}

fn pixel_rect(view: &View, primitive: &Primitive) -> [usize; 4] {
    match view.bounds(&primitive.hull()) {
        None => [0, 0, view.width, view.height],
        Some([x0, y0, x1, y1]) => {
            let clip = |v: f32, n: usize| v.clamp(0.0, n as f32) as usize;
            [
                clip((x0 - 1.0).floor(), view.width),
                clip((y0 - 1.0).floor(), view.height),
                clip((x1 + 1.0).ceil(), view.width),
                clip((y1 + 1.0).ceil(), view.height),
            ]
        }
    }
}

/// The first part that the ray (`o`, unit `d`) meets among those that `keep` lets through.
pub fn first_hit(parts: &[Part], o: V3, d: V3, keep: impl Fn(usize) -> bool) -> Option<(f32, usize)> {
    let mut best: Option<(f32, usize)> = None;
    for (index, part) in parts.iter().enumerate() {
        if !keep(index) {
            continue;
        }
        if let Some(t) = part.primitive.hit(o, d)
            && best.is_none_or(|(b, _)| t < b)
        {
            best = Some((t, index));
        }
    }
    best
}
