//! Tabletop scenes as a frozen encoder's patch tokens, and the classes that patches and pictures show.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use tabletop::{Colour, Rendered, Scene, Shape, render};
use triplet::Cpu;
use triplet::backend::Backend;
use triplet::config::Config;
use triplet::finetune::probe::ProbeLabels;
use triplet::image::{ImageView, Preprocessor, Square};
use triplet::vision::{Vit, VitConfig};
use triplet::weights::{Loader, Weights};

use crate::progress::Progress;

/// What counts as a class.
#[derive(Clone, Copy)]
pub enum Classes {
    /// Five shapes and the mannequin.
    Shape,
    /// Colour and shape, and the mannequin.
    Class,
}

impl Classes {
    /// The names of all classes.
    pub fn names(self) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Classes::Shape => Shape::ALL.iter().map(|shape| shape.word().to_string()).collect(),
            Classes::Class => {
                let pairs = Colour::ALL.iter().flat_map(|colour| Shape::ALL.map(|shape| (colour, shape)));
                pairs.map(|(colour, shape)| format!("{} {}", colour.word(), shape.word())).collect()
            }
        };
        names.push("mannequin".to_string());
        names
    }
}

/// A scene as the probe sees it.
pub struct Example {
    /// `[patches, width]`
    pub tokens: Vec<f32>,
    /// `[patches, classes]`, or `[classes]` for the picture.
    pub labels: Vec<bool>,
}

/// A frozen encoder.
pub struct Encoder<'a> {
    cpu: &'a Cpu,
    vit: Vit<Cpu>,
    preprocessor: Preprocessor,
    /// Hidden state from the end; -1 is the last one, normed.
    layer: isize,
}

impl<'a> Encoder<'a> {
    /// The `visual_encoder` of a model directory or of the part of one.
    pub fn open(cpu: &'a Cpu, dir: &str, layer: isize) -> Result<Encoder<'a>, Box<dyn Error>> {
        let dir = Path::new(dir);
        let path = dir.join("config.json");
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let config = Config::parse(&bytes)?;
        let vit = VitConfig::from_fields(&config.module("visual_encoder")?)?;
        if layer >= 0 || layer.unsigned_abs() > vit.layers + 1 {
            return Err(format!("--layer {layer}: from -1 to -{} are there", vit.layers + 1).into());
        }
        let preprocessor = Preprocessor::load(&config.preprocessor("visual_encoder")?)?;
        let weights = Weights::open(dir)?;
        let vit = Vit::load(&Loader::new(&weights, cpu, "visual_encoder"), &vit)?;
        Ok(Encoder { cpu, vit, preprocessor, layer })
    }

    /// Channels of a token, patches of a picture, attention heads.
    pub fn shape(&self) -> (usize, usize, usize) {
        let config = self.vit.config();
        let side = config.image_size / config.patch_size;
        (config.hidden_size, side * side, config.heads)
    }

    /// Renders scenes at the encoder's size or a quarter above it, and encodes them; a step of the bar each.
    pub fn examples(
        &self,
        seeds: Range<u64>,
        classes: Classes,
        labels: ProbeLabels,
        bar: &mut Progress,
    ) -> Result<Vec<Example>, Box<dyn Error>> {
        let (names, config) = (classes.names(), self.vit.config());
        let mut examples = Vec::new();
        for seed in seeds {
            // A square scene has 4/5 of this length.
            let rendered = render(&Scene::from_seed(seed), config.image_size * 5 / 4);
            let local = patch_labels(&rendered, classes, &names, config.image_size, config.patch_size)?;
            let labels = match labels {
                ProbeLabels::Union => local,
                ProbeLabels::GlobalUnion => union(&local, names.len()),
            };
            examples.push(Example { tokens: self.tokens(&rendered)?, labels });
            bar.step();
        }
        Ok(examples)
    }

    /// The patch tokens of a picture.
    fn tokens(&self, rendered: &Rendered) -> Result<Vec<f32>, Box<dyn Error>> {
        let view = ImageView::rgb8(&rendered.rgb, rendered.width, rendered.height)?;
        let map = self.preprocessor.prepare(&view)?;
        let config = self.vit.config();
        if (map.width, map.height) != (config.image_size, config.image_size) {
            return Err(format!("the preprocessor makes {}x{}, not squares", map.width, map.height).into());
        }
        let pixels = self.cpu.upload(map.width * map.height, 3, &map.data)?;
        let output = self.vit.forward(self.cpu, pixels.view())?;
        let rows = config.prefix()..output.normed.rows();
        let state = match self.layer {
            -1 => &output.normed,
            layer => {
                let place = output.hidden_states.len().checked_add_signed(layer);
                place.and_then(|place| output.hidden_states.get(place)).ok_or("--layer is not there")?
            }
        };
        Ok(self.cpu.download(state.view().row_range(rows)?)?)
    }
}

/// Which classes every patch of the padded square shows a pixel of: `[patches, classes]`.
fn patch_labels(
    rendered: &Rendered,
    classes: Classes,
    names: &[String],
    side: usize,
    patch: usize,
) -> Result<Vec<bool>, Box<dyn Error>> {
    let class_of = |id: u8| -> Option<usize> {
        let object = rendered.objects.iter().find(|object| object.id == id)?;
        let name = match classes {
            Classes::Shape => &object.shape,
            Classes::Class => &object.class,
        };
        names.iter().position(|known| known == name)
    };
    let by_id: Vec<Option<usize>> = (0..=u8::MAX).map(class_of).collect();
    let square = Square::new(rendered.width, rendered.height)?;
    let (cells, long) = (side / patch, rendered.width.max(rendered.height));
    // The patch that the middle of a pixel of the square falls in.
    let cell = |at: usize| (2 * at + 1) * side / (2 * long) / patch;
    let mut labels = vec![false; cells * cells * names.len()];
    for (index, &id) in rendered.instance.iter().enumerate() {
        let Some(class) = by_id[usize::from(id)] else { continue };
        let x = cell(index % rendered.width + square.left());
        let y = cell(index / rendered.width + square.top());
        if x < cells && y < cells {
            labels[(y * cells + x) * names.len() + class] = true;
        }
    }
    Ok(labels)
}

/// The classes of any patch.
fn union(labels: &[bool], classes: usize) -> Vec<bool> {
    (0..classes).map(|class| labels.iter().skip(class).step_by(classes).any(|&label| label)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_the_generator_s_masks() {
        let rendered = render(&Scene::from_seed(3), 80);
        for classes in [Classes::Shape, Classes::Class] {
            let names = classes.names();
            let labels = patch_labels(&rendered, classes, &names, 64, 8).unwrap();
            assert_eq!(labels.len(), 64 * names.len());
            let all = union(&labels, names.len());
            for (class, name) in names.iter().enumerate() {
                let shown = rendered.objects.iter().any(|object| {
                    let own = if matches!(classes, Classes::Shape) { &object.shape } else { &object.class };
                    own == name && rendered.instance.contains(&object.id)
                });
                assert_eq!(all[class], shown, "{name}");
            }
            assert!(all.iter().any(|&label| label));
        }
        assert_eq!((Classes::Shape.names().len(), Classes::Class.names().len()), (6, 41));
    }

    /// A picture of 80x60 lies in the middle of its square: at 8 patches a side, the first and last row are padding.
    #[test]
    fn padding_shows_nothing() {
        let mut wide =
            (0..).map(|seed| render(&Scene::from_seed(seed), 80)).find(|r| r.height == 60).unwrap();
        let id = wide.objects[0].id;
        wide.instance.fill(id);
        let names = Classes::Shape.names();
        let labels = patch_labels(&wide, Classes::Shape, &names, 64, 8).unwrap();
        let rows: Vec<bool> = labels.chunks(8 * names.len()).map(|row| row.contains(&true)).collect();
        assert_eq!(rows, [false, true, true, true, true, true, true, false]);
        let class = names.iter().position(|name| *name == wide.objects[0].shape).unwrap();
        assert_eq!(labels.iter().filter(|&&label| label).count(), 48);
        assert!(labels[8 * names.len() + class]);
    }
}
