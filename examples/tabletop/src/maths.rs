//! Three-vectors and the few functions that the platform's maths library would not give alike everywhere.

use std::ops::{Add, Mul, Neg, Sub};

/// A vector or colour of three `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct V3 {
    /// First component.
    pub x: f32,
    /// Second component.
    pub y: f32,
    /// Third component; the world's up is +z.
    pub z: f32,
}

/// Shorthand constructor.
pub const fn v3(x: f32, y: f32, z: f32) -> V3 {
    V3 { x, y, z }
}

impl V3 {
    /// Scalar product.
    pub fn dot(self, b: V3) -> f32 {
        self.x * b.x + self.y * b.y + self.z * b.z
    }
    /// Vector product.
    pub fn cross(self, b: V3) -> V3 {
        v3(self.y * b.z - self.z * b.y, self.z * b.x - self.x * b.z, self.x * b.y - self.y * b.x)
    }
    /// Euclidean length.
    pub fn length(self) -> f32 {
        self.dot(self).sqrt()
    }
    /// The vector scaled to length 1 (unchanged when its length is 0).
    pub fn normalised(self) -> V3 {
        let l = self.length();
        if l > 0.0 { self * (1.0 / l) } else { self }
    }
    /// Component-wise product (colours).
    pub fn times(self, b: V3) -> V3 {
        v3(self.x * b.x, self.y * b.y, self.z * b.z)
    }
    /// `self + (b - self) * t`.
    pub fn mix(self, b: V3, t: f32) -> V3 {
        self + (b - self) * t
    }
    /// Rotated by `angle` radians about the unit vector `axis` (Rodrigues' formula).
    pub fn rotated(self, axis: V3, angle: f32) -> V3 {
        let (s, c) = sin_cos(angle);
        self * c + axis.cross(self) * s + axis * (axis.dot(self) * (1.0 - c))
    }
}

impl Add for V3 {
    type Output = V3;
    fn add(self, b: V3) -> V3 {
        v3(self.x + b.x, self.y + b.y, self.z + b.z)
    }
}
impl Sub for V3 {
    type Output = V3;
    fn sub(self, b: V3) -> V3 {
        v3(self.x - b.x, self.y - b.y, self.z - b.z)
    }
}
impl Mul<f32> for V3 {
    type Output = V3;
    fn mul(self, k: f32) -> V3 {
        v3(self.x * k, self.y * k, self.z * k)
    }
}
impl Neg for V3 {
    type Output = V3;
    fn neg(self) -> V3 {
        v3(-self.x, -self.y, -self.z)
    }
}

/// Sine and cosine of `x` radians from additions and products only, so that every machine gives the same bits.
pub fn sin_cos(x: f32) -> (f32, f32) {
    const TAU: f64 = std::f64::consts::TAU;
    let x = x as f64;
    let r = x - (x / TAU).round() * TAU;
    let r2 = r * r;
    let (mut sine, mut cosine) = (0.0f64, 0.0f64);
    let (mut odd, mut even) = (r, 1.0f64);
    for k in 0..14 {
        sine += odd;
        cosine += even;
        let n = (2 * k + 1) as f64;
        even *= -r2 / (n * (n + 1.0));
        odd *= -r2 / ((n + 1.0) * (n + 2.0));
    }
    (sine as f32, cosine as f32)
}

/// Degrees to radians.
pub fn radians(degrees: f32) -> f32 {
    degrees * (std::f32::consts::PI / 180.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sin_cos_agrees_with_std() {
        for i in -400..400 {
            let x = i as f32 * 0.05;
            let (s, c) = sin_cos(x);
            assert!((s - x.sin()).abs() < 2e-6 && (c - x.cos()).abs() < 2e-6, "{x}");
        }
    }
}
