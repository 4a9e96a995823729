//! Geometric primitives: where a ray hits them, their normals and their bounds.

use crate::maths::{V3, v3};

/// A solid in world coordinates (metres, z up).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Primitive {
    /// A ball.
    Sphere {
        /// Centre.
        centre: V3,
        /// Radius.
        radius: f32,
    },
    /// A box turned about z.
    Cuboid {
        /// Centre.
        centre: V3,
        /// Half edge lengths in the box's own axes.
        half: V3,
        /// Sine and cosine of the turn about z.
        turn: (f32, f32),
    },
    /// An upright cylinder with both lids.
    Cylinder {
        /// Centre of the lower lid.
        base: V3,
        /// Radius.
        radius: f32,
        /// Height.
        height: f32,
    },
    /// An upright cone with its base disc, apex up.
    Cone {
        /// Centre of the base disc.
        base: V3,
        /// Radius of the base.
        radius: f32,
        /// Height.
        height: f32,
    },
    /// A torus.
    Torus {
        /// Centre.
        centre: V3,
        /// Unit vector of its axis of symmetry.
        axis: V3,
        /// Radius of the circle in the middle of the tube.
        ring: f32,
        /// Radius of the tube.
        tube: f32,
    },
    /// A cylinder with round ends.
    Capsule {
        /// Centre of one end.
        a: V3,
        /// Centre of the other end.
        b: V3,
        /// Radius.
        radius: f32,
    },
}

/// Nothing nearer than this counts as a hit, in metres.
const NEAR: f32 = 1e-4;

impl Primitive {
    /// A sphere that holds the whole solid: centre and radius.
    pub fn bounding_sphere(&self) -> (V3, f32) {
        match *self {
            Primitive::Sphere { centre, radius } => (centre, radius),
            Primitive::Cuboid { centre, half, .. } => (centre, half.length()),
            Primitive::Cylinder { base, radius, height } => {
                (base + v3(0.0, 0.0, 0.5 * height), (radius * radius + 0.25 * height * height).sqrt())
            }
            Primitive::Cone { base, radius, height } => {
                // Through the apex and the rim.
                let up = ((height * height - radius * radius) / (2.0 * height)).max(0.0);
                (base + v3(0.0, 0.0, up), (height - up).max(radius))
            }
            Primitive::Torus { centre, ring, tube, .. } => (centre, ring + tube),
            Primitive::Capsule { a, b, radius } => ((a + b) * 0.5, (b - a).length() * 0.5 + radius),
        }
    }

    /// Spheres whose convex hull holds the solid (a tighter bound on the picture than one sphere).
    pub fn hull(&self) -> Vec<(V3, f32)> {
        match *self {
            Primitive::Cuboid { centre, half, turn } => {
                let mut out = Vec::with_capacity(8);
                for i in 0..8 {
                    let sign = |bit: usize| if i & bit == 0 { -1.0 } else { 1.0 };
                    let local = v3(half.x * sign(1), half.y * sign(2), half.z * sign(4));
                    out.push((centre + turned(local, turn), 0.0));
                }
                out
            }
            Primitive::Capsule { a, b, radius } => vec![(a, radius), (b, radius)],
            _ => vec![self.bounding_sphere()],
        }
    }

    /// Distance along the unit ray (`o`, `d`) to the first point where it enters the solid from outside.
    pub fn hit(&self, o: V3, d: V3) -> Option<f32> {
        match *self {
            Primitive::Sphere { centre, radius } => {
                let oc = o - centre;
                let b = oc.dot(d);
                let h = b * b - (oc.dot(oc) - radius * radius);
                if h < 0.0 {
                    return None;
                }
                ahead(-b - h.sqrt())
            }
            Primitive::Cuboid { centre, half, turn } => {
                let back = (-turn.0, turn.1);
                let (ro, rd) = (turned(o - centre, back), turned(d, back));
                let mut enter = f32::NEG_INFINITY;
                let mut leave = f32::INFINITY;
                for (p, q, h) in [(ro.x, rd.x, half.x), (ro.y, rd.y, half.y), (ro.z, rd.z, half.z)] {
                    if q.abs() < 1e-9 {
                        if p.abs() > h {
                            return None;
                        }
                        continue;
                    }
                    let inverse = 1.0 / q;
                    let (m, k) = (-p * inverse, h * inverse.abs());
                    enter = enter.max(m - k);
                    leave = leave.min(m + k);
                }
                if enter > leave { None } else { ahead(enter) }
            }
            Primitive::Cylinder { base, radius, height } => {
                let p = o - base;
                let a = d.x * d.x + d.y * d.y;
                let b = p.x * d.x + p.y * d.y;
                let c = p.x * p.x + p.y * p.y - radius * radius;
                let mut best = f32::INFINITY;
                if a > 1e-9 {
                    let h = b * b - a * c;
                    if h < 0.0 {
                        return None;
                    }
                    let t = (-b - h.sqrt()) / a;
                    let z = p.z + t * d.z;
                    if t > NEAR && z >= 0.0 && z <= height {
                        best = t;
                    }
                }
                if d.z.abs() > 1e-9 {
                    let lid = if d.z < 0.0 { height } else { 0.0 };
                    let t = (lid - p.z) / d.z;
                    let (x, y) = (p.x + t * d.x, p.y + t * d.y);
                    if t > NEAR && t < best && x * x + y * y <= radius * radius {
                        best = t;
                    }
                }
                ahead(best)
            }
            Primitive::Cone { base, radius, height } => {
                let p = o - base - v3(0.0, 0.0, height);
                let k2 = (radius / height) * (radius / height);
                let a = d.x * d.x + d.y * d.y - k2 * d.z * d.z;
                let b = p.x * d.x + p.y * d.y - k2 * p.z * d.z;
                let c = p.x * p.x + p.y * p.y - k2 * p.z * p.z;
                let mut best = f32::INFINITY;
                let h = b * b - a * c;
                if h >= 0.0 && a.abs() > 1e-9 {
                    let s = h.sqrt();
                    for t in [(-b - s) / a, (-b + s) / a] {
                        let z = p.z + t * d.z;
                        if t > NEAR && t < best && z <= 0.0 && z >= -height {
                            best = t;
                        }
                    }
                }
                if d.z.abs() > 1e-9 {
                    let t = (-height - p.z) / d.z;
                    let (x, y) = (p.x + t * d.x, p.y + t * d.y);
                    if t > NEAR && t < best && x * x + y * y <= radius * radius {
                        best = t;
                    }
                }
                ahead(best)
            }
            Primitive::Torus { centre, axis, ring, tube } => torus_hit(o - centre, d, axis, ring, tube),
            Primitive::Capsule { a, b, radius } => capsule_hit(o, d, a, b, radius),
        }
    }

    /// Outward unit normal at a point of the surface.
    pub fn normal(&self, p: V3) -> V3 {
        match *self {
            Primitive::Sphere { centre, .. } => (p - centre).normalised(),
            Primitive::Cuboid { centre, half, turn } => {
                let l = turned(p - centre, (-turn.0, turn.1));
                let (x, y, z) = (l.x.abs() - half.x, l.y.abs() - half.y, l.z.abs() - half.z);
                let n = if z >= x && z >= y {
                    v3(0.0, 0.0, l.z.signum())
                } else if x >= y {
                    v3(l.x.signum(), 0.0, 0.0)
                } else {
                    v3(0.0, l.y.signum(), 0.0)
                };
                turned(n, turn)
            }
            Primitive::Cylinder { base, radius, height } => {
                let l = p - base;
                let wall = (radius - (l.x * l.x + l.y * l.y).sqrt()).abs();
                if (height - l.z).abs() < wall {
                    v3(0.0, 0.0, 1.0)
                } else if l.z.abs() < wall {
                    v3(0.0, 0.0, -1.0)
                } else {
                    v3(l.x, l.y, 0.0).normalised()
                }
            }
            Primitive::Cone { base, radius, height } => {
                let l = p - base;
                let r = (l.x * l.x + l.y * l.y).sqrt();
                if l.z.abs() < 1e-4 && r < radius * 0.995 {
                    return v3(0.0, 0.0, -1.0);
                }
                v3(l.x * height, l.y * height, r * radius).normalised()
            }
            Primitive::Torus { centre, axis, ring, .. } => {
                let l = p - centre;
                let flat = (l - axis * l.dot(axis)).normalised();
                (l - flat * ring).normalised()
            }
            Primitive::Capsule { a, b, .. } => {
                let (pa, ba) = (p - a, b - a);
                let h = (pa.dot(ba) / ba.dot(ba).max(1e-12)).clamp(0.0, 1.0);
                (pa - ba * h).normalised()
            }
        }
    }
}

fn ahead(t: f32) -> Option<f32> {
    (t > NEAR && t < f32::INFINITY).then_some(t)
}

/// `v` turned about z by the angle with sine and cosine `turn`.
fn turned(v: V3, turn: (f32, f32)) -> V3 {
    v3(v.x * turn.1 - v.y * turn.0, v.x * turn.0 + v.y * turn.1, v.z)
}

/// Sphere tracing between the two points where the ray crosses the torus's bounding slab and sphere.
fn torus_hit(o: V3, d: V3, axis: V3, ring: f32, tube: f32) -> Option<f32> {
    let outer = ring + tube;
    let b = o.dot(d);
    let h = b * b - (o.dot(o) - outer * outer);
    if h < 0.0 {
        return None;
    }
    let s = h.sqrt();
    let (mut t, mut end) = ((-b - s).max(NEAR), -b + s);
    let (oa, da) = (o.dot(axis), d.dot(axis));
    if da.abs() > 1e-6 {
        let (m, k) = (-oa / da, (tube / da).abs());
        t = t.max(m - k);
        end = end.min(m + k);
    } else if oa.abs() > tube {
        return None;
    }
    let mut gap = f32::INFINITY;
    for _ in 0..64 {
        if t > end {
            return None;
        }
        let p = o + d * t;
        let up = oa + da * t;
        let flat = (p.dot(p) - up * up).max(0.0).sqrt() - ring;
        gap = (flat * flat + up * up).sqrt() - tube;
        if gap < 2e-5 {
            return ahead(t);
        }
        t += gap;
    }
    // A grazing ray that ran out of steps beside the surface.
    if gap < 5e-4 { ahead(t) } else { None }
}

/// Quadratic for the wall, then a sphere for the end on whose side the wall was missed.
fn capsule_hit(o: V3, d: V3, a: V3, b: V3, radius: f32) -> Option<f32> {
    let (ba, oa) = (b - a, o - a);
    let (baba, bard, baoa) = (ba.dot(ba), ba.dot(d), ba.dot(oa));
    let (rdoa, oaoa) = (d.dot(oa), oa.dot(oa));
    let qa = baba - bard * bard;
    let qb = baba * rdoa - baoa * bard;
    let qc = baba * oaoa - baoa * baoa - radius * radius * baba;
    let h = qb * qb - qa * qc;
    if h < 0.0 {
        return None;
    }
    let t = if qa > 1e-9 { (-qb - h.sqrt()) / qa } else { f32::NEG_INFINITY };
    let y = baoa + t * bard;
    if qa > 1e-9 && y > 0.0 && y < baba {
        return ahead(t);
    }
    let first = if qa > 1e-9 { y <= 0.0 } else { bard > 0.0 };
    let oc = if first { oa } else { o - b };
    let half = d.dot(oc);
    let h = half * half - (oc.dot(oc) - radius * radius);
    if h < 0.0 { None } else { ahead(-half - h.sqrt()) }
}
