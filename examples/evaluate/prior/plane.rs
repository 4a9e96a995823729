//! One plane for every picture, as depth.
//!
//! A plane seen by a pinhole camera has an inverse depth that is linear in the pixel: 1/z = a + b u + c v, with u and v
//! measured from the picture's centre in parts of its longer side. The fit minimises the sum of (z (a + b u + c v) - 1)^2,
//! the squared relative error, over the pixels taken in.

/// Every how many pixels of a row and of a column one is taken in.
const STRIDE: usize = 4;

/// The sums of the normal equations.
#[derive(Default)]
pub struct InverseDepth {
    matrix: [[f64; 3]; 3],
    right: [f64; 3],
}

impl InverseDepth {
    /// Takes in a depth map, row-major metres; pixels without a positive depth are left out.
    pub fn add(&mut self, width: usize, height: usize, depth: &[f32]) {
        for y in (0..height).step_by(STRIDE) {
            for x in (0..width).step_by(STRIDE) {
                let z = f64::from(depth.get(y * width + x).copied().unwrap_or(f32::NAN));
                if !(z.is_finite() && z > 0.0) {
                    continue;
                }
                let row = terms(x, y, width, height).map(|term| term * z);
                for i in 0..3 {
                    for j in 0..3 {
                        self.matrix[i][j] += row[i] * row[j];
                    }
                    self.right[i] += row[i];
                }
            }
        }
    }

    /// The fitted plane; without any depth, one at a metre.
    pub fn finish(self) -> Plane {
        Plane { coefficients: solve(self.matrix, self.right).unwrap_or([1.0, 0.0, 0.0]) }
    }
}

/// The factors of a, b and c at a pixel's centre.
fn terms(x: usize, y: usize, width: usize, height: usize) -> [f64; 3] {
    let long = width.max(height) as f64;
    [1.0, (x as f64 + 0.5 - width as f64 / 2.0) / long, (y as f64 + 0.5 - height as f64 / 2.0) / long]
}

/// Solves a symmetric 3 x 3 system by Gaussian elimination with pivoting; `None` when it is singular.
fn solve(mut a: [[f64; 3]; 3], mut b: [f64; 3]) -> Option<[f64; 3]> {
    let scale = a.iter().flatten().fold(0.0f64, |m, v| m.max(v.abs()));
    for step in 0..3 {
        let pivot = (step..3).max_by(|&i, &j| a[i][step].abs().total_cmp(&a[j][step].abs()))?;
        if a[pivot][step].abs() <= 1e-12 * scale {
            return None;
        }
        a.swap(step, pivot);
        b.swap(step, pivot);
        for row in step + 1..3 {
            let factor = a[row][step] / a[step][step];
            let above = a[step];
            for (value, above) in a[row].iter_mut().zip(above).skip(step) {
                *value -= factor * above;
            }
            b[row] -= factor * b[step];
        }
    }
    let mut x = [0.0; 3];
    for row in (0..3).rev() {
        let known: f64 = (row + 1..3).map(|column| a[row][column] * x[column]).sum();
        x[row] = (b[row] - known) / a[row][row];
    }
    Some(x)
}

/// A fitted plane.
pub struct Plane {
    coefficients: [f64; 3],
}

impl Plane {
    /// Its depth in every pixel of a picture, row-major metres; NaN where the plane is behind the camera.
    pub fn map(&self, width: usize, height: usize) -> Vec<f32> {
        let mut map = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let inverse: f64 =
                    terms(x, y, width, height).iter().zip(self.coefficients).map(|(term, k)| term * k).sum();
                map.push(if inverse > 0.0 { (1.0 / inverse) as f32 } else { f32::NAN });
            }
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::{InverseDepth, Plane};

    #[test]
    fn a_plane_is_found_again() {
        let plane = Plane { coefficients: [0.5, 0.1, 0.3] };
        let (wide, tall) = (plane.map(64, 48), plane.map(48, 64));
        let mut fit = InverseDepth::default();
        fit.add(64, 48, &wide);
        fit.add(48, 64, &tall);
        let found = fit.finish().coefficients;
        for (value, wanted) in found.into_iter().zip([0.5, 0.1, 0.3]) {
            assert!((value - wanted).abs() < 1e-5, "{found:?}");
        }
    }

    #[test]
    fn undefined_depth_is_left_out() {
        let mut map = Plane { coefficients: [0.5, 0.0, 0.0] }.map(64, 48);
        map[..64 * 20].fill(f32::NAN);
        let mut fit = InverseDepth::default();
        fit.add(64, 48, &map);
        assert!((fit.finish().coefficients[0] - 0.5).abs() < 1e-6);
    }

    #[test]
    fn without_depth_the_plane_is_at_a_metre() {
        assert_eq!(InverseDepth::default().finish().map(1, 1), vec![1.0]);
    }
}
