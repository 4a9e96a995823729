//! The losses of a run as a picture.

use crate::common::picture::{Colour, Picture};

const WIDTH: usize = 900;
const HEIGHT: usize = 500;
/// Left, top, right and bottom edge of the plot.
const FRAME: [f32; 4] = [70.0, 30.0, 880.0, 460.0];
const INK: Colour = [40, 40, 40];
const GRID: Colour = [225, 225, 225];
const TRAIN: Colour = [150, 190, 240];
const MEAN: Colour = [20, 90, 200];
const VALIDATION: Colour = [220, 80, 40];

/// Draws the loss of every update (pale), their running mean (dark) and the validation losses (points), the loss on a
/// logarithmic axis.
pub fn draw(losses: &[f32], validations: &[(u64, f32)]) -> Picture {
    let mut picture = Picture::filled(WIDTH, HEIGHT, [255; 3]);
    let all = || losses.iter().copied().chain(validations.iter().map(|&(_, loss)| loss)).filter(|x| *x > 0.0);
    let low = all().fold(f32::INFINITY, f32::min).max(1e-12);
    let high = all().fold(0.0, f32::max).max(low * 1.01);
    let [left, top, right, bottom] = FRAME;
    let updates = losses.len().max(1) as f32;
    let x = |update: f32| left + (right - left) * update / updates;
    let share = |loss: f32| (loss.max(low).ln() - low.ln()) / (high.ln() - low.ln());
    let y = |loss: f32| bottom - (bottom - top) * share(loss);
    for step in 0..=4 {
        let part = step as f32 / 4.0;
        let (loss, update) = (low * (high / low).powf(part), (updates * part).round());
        picture.line([left, y(loss)], [right, y(loss)], 0.5, GRID);
        picture.line([x(update), top], [x(update), bottom], 0.5, GRID);
        picture.label(4.0, y(loss) + 5.0, &format!("{loss:.4}"), [255; 3], 1);
        picture.label(x(update) - 10.0, bottom + 16.0, &format!("{update}"), [255; 3], 1);
    }
    let mut smooth = Vec::with_capacity(losses.len());
    for &loss in losses {
        smooth.push(smooth.last().map_or(loss, |mean: &f32| mean + 0.05 * (loss - mean)));
    }
    for (losses, radius, colour) in [(losses, 0.5, TRAIN), (smooth.as_slice(), 1.0, MEAN)] {
        for (index, pair) in losses.windows(2).enumerate() {
            let from = [x(index as f32), y(pair[0])];
            picture.line(from, [x(index as f32 + 1.0), y(pair[1])], radius, colour);
        }
    }
    let mut before: Option<[f32; 2]> = None;
    for &(update, loss) in validations {
        let here = [x(update as f32), y(loss)];
        picture.line(before.unwrap_or(here), here, 1.0, VALIDATION);
        picture.line(here, here, 3.5, VALIDATION);
        before = Some(here);
    }
    picture.line([left, bottom], [right, bottom], 0.8, INK);
    picture.line([left, top], [left, bottom], 0.8, INK);
    picture.label(left, 22.0, "loss by update: every one, mean, validation (points)", [255; 3], 1);
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(picture: &Picture, colour: Colour) -> Vec<(usize, usize)> {
        let found = picture.pixels.chunks_exact(3).enumerate().filter(|(_, pixel)| *pixel == colour);
        found.map(|(index, _)| (index % WIDTH, index / WIDTH)).collect()
    }

    #[test]
    fn a_falling_loss_falls_in_the_picture() {
        let losses: Vec<f32> = (0..200).map(|i| 2.0 * (-f32::from(i as u8) / 60.0).exp()).collect();
        let picture = draw(&losses, &[(0, 2.0), (200, 0.1)]);
        let mean = pixels(&picture, MEAN);
        let (first, last) = (mean.iter().min().unwrap(), mean.iter().max().unwrap());
        assert!(first.0 < 80 && last.0 > 860 && last.1 > first.1 + 100, "{first:?} {last:?}");
        let points = pixels(&picture, VALIDATION);
        assert!(points.iter().any(|p| p.0 < 76) && points.iter().any(|p| p.0 > 874));
    }

    #[test]
    fn no_loss_and_equal_losses_are_drawn_too() {
        draw(&[], &[]);
        draw(&[0.5], &[(0, 0.5)]);
        draw(&[0.0, 0.0], &[]);
    }
}
