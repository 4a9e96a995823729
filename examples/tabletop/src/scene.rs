//! What a scene is: objects, mannequin, table, light and camera, all of them known exactly.

use crate::camera::{Camera, View};
use crate::mannequin::Mannequin;
use crate::maths::{V3, sin_cos, v3};
use crate::shapes::Primitive;
use crate::texture::Table;

/// The five shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// A sphere.
    Ball,
    /// A cube.
    Cube,
    /// An upright cylinder.
    Can,
    /// An upright cone.
    Cone,
    /// A torus, lying or standing.
    Ring,
}

impl Shape {
    /// All shapes.
    pub const ALL: [Shape; 5] = [Shape::Ball, Shape::Cube, Shape::Can, Shape::Cone, Shape::Ring];
    /// The shape's word.
    pub fn word(self) -> &'static str {
        ["ball", "cube", "can", "cone", "ring"][self as usize]
    }
}

/// The eight colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Colour {
    /// Red.
    Red,
    /// Yellow.
    Yellow,
    /// Green.
    Green,
    /// Cyan.
    Cyan,
    /// Blue.
    Blue,
    /// Purple.
    Purple,
    /// White.
    White,
    /// Black.
    Black,
}

impl Colour {
    /// All colours.
    pub const ALL: [Colour; 8] = [
        Colour::Red,
        Colour::Yellow,
        Colour::Green,
        Colour::Cyan,
        Colour::Blue,
        Colour::Purple,
        Colour::White,
        Colour::Black,
    ];
    /// The colour's word.
    pub fn word(self) -> &'static str {
        ["red", "yellow", "green", "cyan", "blue", "purple", "white", "black"][self as usize]
    }
    /// Linear albedo.
    pub fn albedo(self) -> V3 {
        [
            v3(0.72, 0.03, 0.03),
            v3(0.90, 0.70, 0.02),
            v3(0.04, 0.42, 0.06),
            v3(0.05, 0.62, 0.68),
            v3(0.03, 0.09, 0.68),
            v3(0.33, 0.04, 0.52),
            v3(0.90, 0.90, 0.90),
            v3(0.012, 0.012, 0.014),
        ][self as usize]
    }
}

/// The two sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// 0.10 m.
    Small,
    /// 0.19 m.
    Large,
}

impl Size {
    /// The size's word.
    pub fn word(self) -> &'static str {
        ["small", "large"][self as usize]
    }
    /// Nominal diameter in metres.
    pub fn metres(self) -> f32 {
        [0.10, 0.19][self as usize]
    }
}

/// One thing on the table (other than the mannequin).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    /// Its shape.
    pub shape: Shape,
    /// Its colour.
    pub colour: Colour,
    /// Its size.
    pub size: Size,
    /// Where it stands on the table, x.
    pub x: f32,
    /// Where it stands on the table, y.
    pub y: f32,
    /// Turn about the vertical, radians.
    pub yaw: f32,
    /// For a ring: it stands on its edge.
    pub standing: bool,
}

impl Object {
    /// The solid.
    pub fn primitive(&self) -> Primitive {
        let s = self.size.metres();
        let at = |z: f32| v3(self.x, self.y, z);
        match self.shape {
            Shape::Ball => Primitive::Sphere { centre: at(0.5 * s), radius: 0.5 * s },
            Shape::Cube => Primitive::Cuboid {
                centre: at(0.41 * s),
                half: v3(0.41 * s, 0.41 * s, 0.41 * s),
                turn: sin_cos(self.yaw),
            },
            Shape::Can => Primitive::Cylinder { base: at(0.0), radius: 0.36 * s, height: 1.02 * s },
            Shape::Cone => Primitive::Cone { base: at(0.0), radius: 0.48 * s, height: 1.08 * s },
            Shape::Ring => {
                let (ring, tube) = (0.40 * s, 0.14 * s);
                let (sine, cosine) = sin_cos(self.yaw);
                if self.standing {
                    Primitive::Torus { centre: at(ring + tube), axis: v3(cosine, sine, 0.0), ring, tube }
                } else {
                    Primitive::Torus { centre: at(tube), axis: v3(0.0, 0.0, 1.0), ring, tube }
                }
            }
        }
    }

    /// Radius of a circle about (x, y) that holds the object seen from above.
    pub fn footprint(&self) -> f32 {
        self.size.metres() * [0.5, 0.58, 0.36, 0.48, 0.54][self.shape as usize]
    }
}

/// The light: one sun and an even sky.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Light {
    /// Unit vector from the scene to the sun.
    pub towards: V3,
    /// Colour and strength of the sun.
    pub sun: V3,
    /// Colour and strength of the sky.
    pub sky: V3,
    /// Colour behind the table, lower part of the picture.
    pub low: V3,
    /// Colour behind the table, upper part of the picture.
    pub high: V3,
}

/// A whole scene. Instance ids: objects are 1.. in order, the mannequin (if any) comes last.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// The seed that made it.
    pub seed: u64,
    /// Full picture width in pixels.
    pub width: usize,
    /// Full picture height in pixels.
    pub height: usize,
    /// The camera.
    pub camera: Camera,
    /// The light.
    pub light: Light,
    /// The table.
    pub table: Table,
    /// One to five objects.
    pub objects: Vec<Object>,
    /// The mannequin, in 40 % of the scenes.
    pub mannequin: Option<Mannequin>,
}

/// The long side of a full-size 640 x 480 picture; `long_side` arguments are relative to it.
pub const FULL: usize = 640;

impl Scene {
    /// The camera's view at `long_side` / 640 of the full size.
    pub fn view(&self, long_side: usize) -> View {
        let scaled = |n: usize| ((n * long_side + FULL / 2) / FULL).max(1);
        self.camera.view(scaled(self.width), scaled(self.height))
    }
}
