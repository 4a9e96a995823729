//! Triplets drawn over the picture that they were found in.

use triplet::reply::{Depth, Keypoints, Target, Triplet};

use super::picture::{Colour, Picture};

/// Colours of the triplets, in turn.
const COLOURS: [Colour; 8] = [
    [255, 99, 71],
    [65, 160, 255],
    [90, 220, 90],
    [255, 210, 60],
    [220, 110, 255],
    [60, 225, 215],
    [255, 140, 200],
    [255, 255, 255],
];

/// Pairs of COCO-17 joints that a skeleton connects.
const BONES: [(usize, usize); 18] = [
    (0, 1),
    (0, 2),
    (1, 3),
    (2, 4),
    (5, 6),
    (5, 7),
    (7, 9),
    (6, 8),
    (8, 10),
    (5, 11),
    (6, 12),
    (11, 12),
    (11, 13),
    (13, 15),
    (12, 14),
    (14, 16),
    (0, 5),
    (0, 6),
];

/// What has been drawn so far: the overlay, and depth maps as pictures of their own.
pub struct Overlay {
    pub picture: Picture,
    pub depth_maps: Vec<Picture>,
    labels: Vec<(f32, f32, String, Colour)>,
    drawn: usize,
}

impl Overlay {
    /// An overlay on a picture.
    pub fn new(picture: &Picture) -> Overlay {
        Overlay { picture: picture.clone(), depth_maps: Vec::new(), labels: Vec::new(), drawn: 0 }
    }

    /// Draws one triplet; masks should come before boxes.
    pub fn draw(&mut self, triplet: &Triplet) {
        let colour = COLOURS[self.drawn % COLOURS.len()];
        let label = format!("{} {:.0}%", shortened(&triplet.phrase), 100.0 * triplet.score);
        match &triplet.target {
            Some(Target::Box(area)) => {
                self.picture.frame(*area, colour);
                self.labels.push((area[0] - 1.0, area[1], label, colour));
            }
            Some(Target::Mask(mask)) => {
                let pixels = mask.pixels();
                self.picture.tint(|x, y| pixels[y * mask.width + x] == 1, colour);
                let inside = pixels.iter().enumerate().filter(|&(_, &pixel)| pixel == 1);
                let (count, x, y) = inside.fold((0.0, 0.0, 0.0), |(count, x, y), (index, _)| {
                    (count + 1.0, x + (index % mask.width) as f32, y + (index / mask.width) as f32)
                });
                if count > 0.0 {
                    self.labels.push((x / count - 30.0, y / count + 6.0, label, colour));
                }
            }
            Some(Target::Keypoints(keypoints)) => self.skeleton(keypoints, label, colour),
            Some(Target::Depth(depth)) => self.depth_maps.push(depth_map(depth)),
            _ => return,
        }
        self.drawn += 1;
    }

    /// The finished overlay, labels on top.
    pub fn finish(mut self) -> (Picture, Vec<Picture>) {
        let scale = scale(&self.picture);
        for (x, y, text, colour) in &self.labels {
            self.picture.label(*x, *y, text, *colour, scale);
        }
        (self.picture, self.depth_maps)
    }

    fn skeleton(&mut self, keypoints: &Keypoints, label: String, colour: Colour) {
        let points = &keypoints.points;
        for (from, to) in BONES {
            let (from, to) = (&points[from], &points[to]);
            if from.visible && to.visible {
                self.picture.line([from.x, from.y], [to.x, to.y], 1.5, colour);
            }
        }
        for point in points.iter().filter(|point| point.visible) {
            self.picture.line([point.x, point.y], [point.x, point.y], 3.5, [0, 0, 0]);
            self.picture.line([point.x, point.y], [point.x, point.y], 2.5, [255, 255, 255]);
        }
        let [x, y, ..] = keypoints.area;
        self.labels.push((x, y, label, colour));
    }
}

/// Size of the letters, so that they are read at a glance.
fn scale(picture: &Picture) -> usize {
    (picture.width.max(picture.height) / 320).max(1)
}

/// A phrase of at most 24 characters on one line.
fn shortened(phrase: &str) -> String {
    let mut characters = phrase.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = characters.by_ref().take(24).collect();
    if characters.next().is_some() {
        short.push_str("..");
    }
    short
}

/// A depth map in false colours, near warm and far cold, with the range that it spans.
fn depth_map(depth: &Depth) -> Picture {
    let defined = || depth.values.iter().copied().filter(|value| value.is_finite());
    let near = defined().fold(f32::INFINITY, f32::min);
    let far = defined().fold(f32::NEG_INFINITY, f32::max);
    let mut picture = Picture::filled(depth.width, depth.height, [0, 0, 0]);
    for (pixel, &value) in picture.pixels.chunks_exact_mut(3).zip(depth.values.iter()) {
        if value.is_finite() {
            pixel.copy_from_slice(&false_colour((value - near) / (far - near).max(1e-6)));
        }
    }
    let unit = if depth.unit == triplet::reply::DepthUnit::Metres { " m" } else { "" };
    let height = depth.height as f32;
    let label = format!("depth {near:.2} to {far:.2}{unit}");
    let scale = scale(&picture);
    picture.label(4.0, height - 4.0, &label, [255; 3], scale);
    picture
}

/// Warm (near, 0) to cold (far, 1).
fn false_colour(t: f32) -> Colour {
    const STOPS: [[f32; 3]; 6] = [
        [122.0, 4.0, 3.0],
        [239.0, 90.0, 17.0],
        [238.0, 207.0, 58.0],
        [98.0, 252.0, 108.0],
        [40.0, 167.0, 235.0],
        [48.0, 18.0, 59.0],
    ];
    let place = t.clamp(0.0, 1.0) * (STOPS.len() - 1) as f32;
    let index = (place as usize).min(STOPS.len() - 2);
    let share = place - index as f32;
    [0, 1, 2].map(|channel| {
        (STOPS[index][channel] * (1.0 - share) + STOPS[index + 1][channel] * share).round() as u8
    })
}
