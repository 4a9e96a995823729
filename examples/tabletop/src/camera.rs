//! The pinhole camera and its view at a picture size.

use crate::maths::{V3, sin_cos, v3};

/// Focal length over the picture's longer side (a field of view of about 54 degrees).
pub const FOCAL: f32 = 0.98;

/// A pinhole camera in the world (metres, z up), independent of the size it is rendered at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Camera {
    /// Where it stands.
    pub eye: V3,
    /// Unit vector to the right of the picture.
    pub right: V3,
    /// Unit vector to the top of the picture.
    pub up: V3,
    /// Unit vector of the optical axis.
    pub forward: V3,
}

impl Camera {
    /// A camera that looks at `target` from `distance` metres, `azimuth` and `elevation` in radians.
    pub fn around(target: V3, azimuth: f32, elevation: f32, distance: f32) -> Camera {
        let (sa, ca) = sin_cos(azimuth);
        let (se, ce) = sin_cos(elevation);
        let away = v3(ca * ce, sa * ce, se);
        let forward = -away;
        let right = forward.cross(v3(0.0, 0.0, 1.0)).normalised();
        Camera { eye: target + away * distance, right, up: right.cross(forward), forward }
    }

    /// The camera with a picture of `width` x `height` pixels.
    pub fn view(&self, width: usize, height: usize) -> View {
        View {
            camera: *self,
            width,
            height,
            focal: FOCAL * width.max(height) as f32,
            cx: 0.5 * width as f32,
            cy: 0.5 * height as f32,
        }
    }
}

/// A camera with a picture size: rays of pixels and pixels of points.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The camera.
    pub camera: Camera,
    /// Picture width in pixels.
    pub width: usize,
    /// Picture height in pixels.
    pub height: usize,
    /// Focal length in pixels.
    pub focal: f32,
    /// Principal point, x.
    pub cx: f32,
    /// Principal point, y.
    pub cy: f32,
}

impl View {
    /// Unit direction of the ray through the point (`x`, `y`) of the picture, and the cosine of its angle to
    /// the optical axis (distance along the ray times it = depth).
    pub fn ray(&self, x: f32, y: f32) -> (V3, f32) {
        let (u, v) = ((x - self.cx) / self.focal, (self.cy - y) / self.focal);
        let inverse = 1.0 / (1.0 + u * u + v * v).sqrt();
        ((self.camera.forward + self.camera.right * u + self.camera.up * v) * inverse, inverse)
    }

    /// Coordinates in the camera's frame: right, up, depth.
    pub fn local(&self, p: V3) -> V3 {
        let q = p - self.camera.eye;
        v3(q.dot(self.camera.right), q.dot(self.camera.up), q.dot(self.camera.forward))
    }

    /// Pixel position and depth of a world point; `None` behind the camera.
    pub fn project(&self, p: V3) -> Option<(f32, f32, f32)> {
        let l = self.local(p);
        (l.z > 1e-3).then(|| (self.cx + self.focal * l.x / l.z, self.cy - self.focal * l.y / l.z, l.z))
    }

    /// Bounds `[x0, y0, x1, y1]` on the (unclipped) picture of the hull of some spheres; `None` when one of them
    /// reaches behind the camera.
    pub fn bounds(&self, hull: &[(V3, f32)]) -> Option<[f32; 4]> {
        let mut out = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
        for (centre, radius) in hull {
            let l = self.local(*centre);
            let (left, right) = tangents(l.x, l.z, *radius)?;
            let (low, high) = tangents(l.y, l.z, *radius)?;
            out[0] = out[0].min(self.cx + self.focal * left);
            out[2] = out[2].max(self.cx + self.focal * right);
            out[1] = out[1].min(self.cy - self.focal * high);
            out[3] = out[3].max(self.cy - self.focal * low);
        }
        Some(out)
    }
}

/// Slopes of the two lines through the origin that touch the circle at (`x`, `z`).
fn tangents(x: f32, z: f32, radius: f32) -> Option<(f32, f32)> {
    let l = (x * x + z * z).sqrt();
    if z <= radius + 1e-3 || l <= radius {
        return None;
    }
    let s = radius / l;
    let c = (1.0 - s * s).sqrt();
    let (near, far) = (z * c + x * s, z * c - x * s);
    (near > 1e-6 && far > 1e-6).then(|| ((x * c - z * s) / near, (x * c + z * s) / far))
}
