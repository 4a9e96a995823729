//! Intersection over union of boxes and of masks.

/// Intersection over union of two boxes `[x0, y0, x1, y1]`, in 0..=1.
///
/// A box whose sides are not positive or not numbers has no area and overlaps nothing.
pub fn box_iou(a: [f32; 4], b: [f32; 4]) -> f64 {
    let a = a.map(f64::from);
    let b = b.map(f64::from);
    let width = a[2].min(b[2]) - a[0].max(b[0]);
    let height = a[3].min(b[3]) - a[1].max(b[1]);
    let (area_a, area_b) = (area(a), area(b));
    if !(width > 0.0 && height > 0.0 && area_a > 0.0 && area_b > 0.0) {
        return 0.0;
    }
    let shared = width * height;
    shared / (area_a + area_b - shared)
}

/// Area of a box in f64; 0 when a side is not positive or not a number.
fn area(b: [f64; 4]) -> f64 {
    let (width, height) = (b[2] - b[0], b[3] - b[1]);
    if width > 0.0 && height > 0.0 && b.iter().all(|v| v.is_finite()) { width * height } else { 0.0 }
}

/// Intersection over union of two masks of one size, in 0..=1; two empty masks, or masks of different sizes, give 0.
pub fn mask_iou(a: &[bool], b: &[bool]) -> f64 {
    if a.len() != b.len() {
        return 0.0;
    }
    let (mut shared, mut either) = (0usize, 0usize);
    for (&a, &b) in a.iter().zip(b) {
        shared += usize::from(a & b);
        either += usize::from(a | b);
    }
    if either == 0 { 0.0 } else { shared as f64 / either as f64 }
}

#[cfg(test)]
mod tests {
    use super::{box_iou, mask_iou};

    #[test]
    fn boxes_that_are_equal_disjoint_touching_and_nested() {
        let unit = [0.0, 0.0, 2.0, 2.0];
        assert_eq!(box_iou(unit, unit), 1.0);
        assert_eq!(box_iou(unit, [5.0, 5.0, 6.0, 6.0]), 0.0);
        assert_eq!(box_iou(unit, [2.0, 0.0, 4.0, 2.0]), 0.0, "a shared edge is no area");
        assert_eq!(box_iou(unit, [0.0, 0.0, 1.0, 1.0]), 0.25);
        assert_eq!(box_iou(unit, [1.0, 0.0, 3.0, 2.0]), 1.0 / 3.0);
    }

    #[test]
    fn a_box_without_area_overlaps_nothing() {
        let unit = [0.0, 0.0, 2.0, 2.0];
        assert_eq!(box_iou(unit, [1.0, 1.0, 1.0, 1.0]), 0.0);
        assert_eq!(box_iou([1.0; 4], [1.0; 4]), 0.0);
        assert_eq!(box_iou(unit, [2.0, 2.0, 0.0, 0.0]), 0.0, "corners the wrong way round");
        assert_eq!(box_iou(unit, [f32::NAN, 0.0, 2.0, 2.0]), 0.0);
        assert_eq!(box_iou(unit, [0.0, 0.0, f32::INFINITY, 2.0]), 0.0);
    }

    #[test]
    fn masks_by_hand() {
        let a = [true, true, false, false];
        assert_eq!(mask_iou(&a, &a), 1.0);
        assert_eq!(mask_iou(&a, &[false, true, true, false]), 1.0 / 3.0);
        assert_eq!(mask_iou(&a, &[false; 4]), 0.0);
        assert_eq!(mask_iou(&[false; 4], &[false; 4]), 0.0);
        assert_eq!(mask_iou(&a, &[true, true]), 0.0, "another size");
    }
}
