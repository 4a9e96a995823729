//! The tiny model and what PyTorch made of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};
use triplet::config::Config;
use triplet::image::{ImageView, VisualPrompt};
use triplet::session::Question;
use triplet::text::Vocabulary;
use triplet::trp::{Task, Unit};
use triplet::weights::{Access, Weights};
use triplet::{Cpu, Model, Result};

pub const WIDTH: usize = 40;
pub const HEIGHT: usize = 28;

pub fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/end_to_end")
}

pub fn model() -> Model {
    Model::open_on(Cpu::with_threads(2), dir()).unwrap()
}

/// What PyTorch computed.
pub struct Outputs(Weights);

impl Outputs {
    pub fn open() -> Outputs {
        Outputs::of("outputs.safetensors")
    }

    /// The outputs of the model with its `vd_adapter`.
    pub fn adapted() -> Outputs {
        Outputs::of("adapter_outputs.safetensors")
    }

    fn of(file: &str) -> Outputs {
        Outputs(Weights::open_file(dir().join(file), Access::Map).unwrap())
    }

    pub fn get(&self, name: &str) -> Vec<f32> {
        let bytes = self.0.tensor(name).unwrap().bytes();
        bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.get(name).into_iter().map(|id| id as u32).collect()
    }

    pub fn picture(&self) -> Vec<u8> {
        self.get("picture").into_iter().map(|value| value as u8).collect()
    }
}

pub fn view(picture: &[u8]) -> ImageView<'_> {
    ImageView::rgb8(picture, WIDTH, HEIGHT).unwrap()
}

/// The question with two visual prompts whose answer has three triplets.
pub fn prompted() -> Question<'static> {
    let mut question = Question::new(Task::GcgDetection, "What is [VPT] next to [VPT]?");
    question.command.units = vec![Unit::Box, Unit::Mask, Unit::Keypoint];
    question.prompts = vec![VisualPrompt::Point([11.5, 9.25]), VisualPrompt::Box([20.0, 4.5, 37.5, 22.0])];
    question
}

/// The question whose answer is a depth map.
pub fn depth() -> Question<'static> {
    Question::new(Task::Depth, "How far away is everything?")
}

/// The model's weights.
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// The model with some tensors changed: `change` gets every tensor's name and f16 bytes; `None` drops it.
pub fn changed_model(
    config: impl Fn(&str) -> String,
    change: impl Fn(&str, &[u8]) -> Option<Vec<u8>>,
) -> Result<Model> {
    model_of(&SHARDS, config, change)
}

/// The model with its `vd_adapter`.
pub fn adapted_model() -> Model {
    let fields = std::fs::read_to_string(dir().join("adapter.json")).unwrap();
    let config = |text: &str| text.replacen("{", &format!("{{\"vd_adapter\": {fields},"), 1);
    let files = [SHARDS[0], SHARDS[1], "adapter.safetensors"];
    model_of(&files, config, |_, bytes| Some(bytes.to_vec())).unwrap()
}

fn model_of(
    files: &[&str],
    config: impl Fn(&str) -> String,
    change: impl Fn(&str, &[u8]) -> Option<Vec<u8>>,
) -> Result<Model> {
    let mut tensors = BTreeMap::new();
    for file in files {
        let bytes = std::fs::read(dir().join(file)).unwrap();
        for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            if let Some(data) = change(&name, tensor.data()) {
                tensors.insert(name, (tensor.shape().to_vec(), data));
            }
        }
    }
    let views = tensors.iter().map(|(name, (shape, data))| {
        (name.as_str(), TensorView::new(Dtype::F16, shape.clone(), data).unwrap())
    });
    let weights = Weights::from_vec(serialize(views, None).unwrap())?;
    let text = std::fs::read_to_string(dir().join("config.json")).unwrap();
    let config = Config::parse(config(&text).as_bytes())?;
    let tokenizer = std::fs::read(dir().join("tokenizer.json")).unwrap();
    let vocabulary = Vocabulary::from_tokenizer_json("tokenizer.json", &tokenizer)?;
    Model::from_parts(Cpu::with_threads(1), config, &weights, vocabulary)
}
