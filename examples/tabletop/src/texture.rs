//! Procedural surfaces of the table: functions of the position in metres, equal at every picture size.

use crate::maths::{V3, v3};
use crate::rng::{Rng, hash};

/// Half the side of the square table, metres.
pub const TABLE_HALF: f32 = 0.62;

/// Kinds of surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// Boards 0.11 m wide with grain.
    Planks,
    /// Squares of 0.1 m in two tones.
    Checker,
    /// Woven stripes.
    Cloth,
    /// Tiles of 0.155 m with joints.
    Tiles,
    /// Soft clouds, as of stone.
    Stone,
    /// Dots on a plain ground.
    Dots,
}

/// The table's look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Table {
    /// Kind of surface.
    pub surface: Surface,
    /// Main linear albedo.
    pub first: V3,
    /// Second linear albedo.
    pub second: V3,
    /// Seed of the pattern's details.
    pub seed: u64,
}

/// Muted grounds, so that none of the eight colours drowns.
const GROUNDS: [V3; 8] = [
    v3(0.40, 0.24, 0.13),
    v3(0.30, 0.29, 0.28),
    v3(0.50, 0.42, 0.31),
    v3(0.22, 0.27, 0.33),
    v3(0.27, 0.33, 0.25),
    v3(0.42, 0.31, 0.28),
    v3(0.20, 0.17, 0.15),
    v3(0.45, 0.46, 0.48),
];

impl Table {
    /// A random table.
    pub fn random(rng: &mut Rng) -> Table {
        let kinds = [
            Surface::Planks,
            Surface::Checker,
            Surface::Cloth,
            Surface::Tiles,
            Surface::Stone,
            Surface::Dots,
        ];
        let surface = kinds[rng.below(kinds.len())];
        let ground = if surface == Surface::Planks { [0, 2, 5, 6][rng.below(4)] } else { rng.below(8) };
        let first = GROUNDS[ground] * rng.range(0.85, 1.15);
        let second = first * if rng.chance(0.5) { rng.range(0.62, 0.8) } else { rng.range(1.2, 1.4) };
        Table { surface, first, second, seed: rng.bits() }
    }

    /// Linear albedo at a point of the table top.
    pub fn albedo(&self, x: f32, y: f32) -> V3 {
        let fine = noise(x * 55.0, y * 55.0, self.seed) - 0.5;
        let t = match self.surface {
            Surface::Planks => {
                let board = floor(x / 0.11);
                let tone = lattice(board as i32, 7, self.seed);
                let grain = noise(x * 90.0, y * 6.0 + board * 3.7, self.seed ^ 1);
                let joint = x / 0.11 - board;
                let line = if !(0.025..0.975).contains(&joint) { 0.35 } else { 0.0 };
                0.35 * tone + 0.5 * grain + line
            }
            Surface::Checker => {
                let odd = (floor(x / 0.1) as i32 + floor(y / 0.1) as i32) & 1;
                odd as f32 * 0.9 + 0.1 * fine
            }
            Surface::Cloth => {
                let stripe = (x / 0.16 - floor(x / 0.16) - 0.5).abs() < 0.16;
                let cross = (y / 0.16 - floor(y / 0.16) - 0.5).abs() < 0.16;
                0.45 * stripe as u8 as f32 + 0.45 * cross as u8 as f32 + 0.2 * fine
            }
            Surface::Tiles => {
                let (u, v) = (x / 0.155, y / 0.155);
                let (i, j) = (floor(u), floor(v));
                let edge = (u - i).min(1.0 - (u - i)).min(v - j).min(1.0 - (v - j));
                let tone = 0.35 * lattice(i as i32, j as i32, self.seed);
                if edge < 0.03 { 1.0 } else { tone + 0.15 * fine }
            }
            Surface::Stone => {
                let cloud = noise(x * 7.0, y * 7.0, self.seed ^ 2);
                let vein = noise(x * 19.0, y * 19.0, self.seed ^ 3);
                0.65 * cloud + 0.35 * vein + 0.15 * fine
            }
            Surface::Dots => {
                let (u, v) = (x / 0.085, y / 0.085);
                let shift = if (floor(v) as i32) & 1 == 0 { 0.0 } else { 0.5 };
                let (a, b) = ((u + shift) - floor(u + shift) - 0.5, v - floor(v) - 0.5);
                (a * a + b * b < 0.05) as u8 as f32 * 0.8 + 0.1 * fine
            }
        };
        let c = self.first.mix(self.second, t.clamp(0.0, 1.0)) * (1.0 + 0.12 * fine);
        v3(c.x.min(0.8), c.y.min(0.8), c.z.min(0.8))
    }
}

/// `f32::floor` for small numbers, without a call on processors before SSE4.1.
fn floor(x: f32) -> f32 {
    let whole = x as i32 as f32;
    if whole > x { whole - 1.0 } else { whole }
}

/// A random number in 0..1 of a lattice point.
fn lattice(i: i32, j: i32, seed: u64) -> f32 {
    let key = ((i as u32 as u64) << 32) | j as u32 as u64;
    (hash(key ^ seed) >> 40) as f32 / (1u32 << 24) as f32
}

/// Smooth value noise in 0..1.
fn noise(x: f32, y: f32, seed: u64) -> f32 {
    let (fx, fy) = (floor(x), floor(y));
    let (i, j) = (fx as i32, fy as i32);
    let (u, v) = (x - fx, y - fy);
    let (u, v) = (u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v));
    let a = lattice(i, j, seed);
    let b = lattice(i + 1, j, seed);
    let c = lattice(i, j + 1, seed);
    let d = lattice(i + 1, j + 1, seed);
    (a + (b - a) * u) * (1.0 - v) + (c + (d - c) * u) * v
}
