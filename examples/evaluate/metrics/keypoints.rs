//! PCK: the percentage of correct keypoints (Yang and Ramanan 2013).

/// Visibility of a joint that can be seen (COCO: 0 outside the picture, 1 hidden, 2 visible).
pub const VISIBLE: f32 = 2.0;

/// How far a joint may be off, in parts of the true box's longer side.
pub const TOLERANCE: f64 = 0.1;

/// Counts the visible joints of a figure and those of them that `predicted` places within `TOLERANCE` times the longer
/// side of `true_box` (`[x0, y0, x1, y1]`): (right, visible).
///
/// `truth` holds `[x, y, visibility]` per joint in pixels, `predicted` `[x, y]` in the same order; a joint that is
/// missing or no number is wrong, and so is every visible joint of a missing figure.
pub fn correct_joints(
    truth: &[[f32; 3]],
    true_box: [f32; 4],
    predicted: Option<&[[f32; 2]]>,
) -> (usize, usize) {
    let side = f64::from((true_box[2] - true_box[0]).max(true_box[3] - true_box[1]));
    let limit = TOLERANCE * side;
    let (mut right, mut visible) = (0, 0);
    for (index, joint) in truth.iter().enumerate().filter(|(_, joint)| joint[2] >= VISIBLE) {
        visible += 1;
        if let Some(guess) = predicted.and_then(|joints| joints.get(index)) {
            let (dx, dy) =
                (f64::from(guess[0]) - f64::from(joint[0]), f64::from(guess[1]) - f64::from(joint[1]));
            right += usize::from(dx.hypot(dy) <= limit);
        }
    }
    (right, visible)
}

#[cfg(test)]
mod tests {
    use super::correct_joints;

    /// A box of 100 x 40 pixels: the tolerance is 10.
    const BOX: [f32; 4] = [0.0, 0.0, 100.0, 40.0];

    #[test]
    fn hidden_and_outside_joints_do_not_count() {
        let truth = [[10.0, 10.0, 2.0], [20.0, 20.0, 1.0], [500.0, 20.0, 0.0]];
        let guess = [[10.0, 10.0], [99.0, 99.0], [0.0, 0.0]];
        assert_eq!(correct_joints(&truth, BOX, Some(&guess)), (1, 1));
    }

    #[test]
    fn the_tolerance_is_a_tenth_of_the_longer_side() {
        let truth = [[10.0, 10.0, 2.0]; 3];
        let guess = [[20.0, 10.0], [16.0, 18.0], [18.0, 17.0]];
        assert_eq!(correct_joints(&truth, BOX, Some(&guess)), (2, 3), "10, 10 and 10.6 pixels off");
    }

    #[test]
    fn a_missing_figure_is_all_wrong() {
        let truth = [[10.0, 10.0, 2.0], [20.0, 20.0, 2.0], [20.0, 20.0, 1.0]];
        assert_eq!(correct_joints(&truth, BOX, None), (0, 2));
        assert_eq!(correct_joints(&truth, BOX, Some(&[[10.0, 10.0]])), (1, 2), "a joint short");
    }

    #[test]
    fn a_joint_that_is_no_number_is_wrong() {
        assert_eq!(correct_joints(&[[1.0, 1.0, 2.0]], BOX, Some(&[[f32::NAN, 1.0]])), (0, 1));
    }
}
