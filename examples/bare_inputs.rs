//! Writes the picture and the prompts that `examples/bare` is built with, and prints what the standard library answers to
//! them, in that program's words.
//!
//! ```text
//! cargo run --release --example bare_inputs -- --out out/bare > out/bare/expected.txt
//! ```

#[allow(dead_code)]
mod common;
#[path = "bare/src/print.rs"]
mod print;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use common::arguments::{Arguments, exit_code};
use tabletop::{FULL, Scene};
use triplet::image::ImageView;
use triplet::model::Model;
use triplet::session::{Prompt, Question};
use triplet::trp::{PromptItem, Task};

const USAGE: &str = "bare_inputs [--out DIR] [--seed N]
  --out DIR   where picture.bin and questions.bin go; default: out/bare
  --seed N    the tabletop scene's seed";

/// The scene that `describe` shows; not among those that the model was trained on.
const SEED: u64 = 1_000_029;
/// Stands for the picture among token ids.
const PICTURE: u32 = u32::MAX;

/// A question for every kind of target.
const QUESTIONS: [(Task, &str); 4] = [
    (Task::Detection, "Detect everything."),
    (Task::GcgSegmentation, "Describe the picture with masks."),
    (Task::KeypointDetection, "Find the joints of every mannequin."),
    (Task::Depth, "Estimate the depth."),
];

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read(&["out", "seed"], &[], USAGE)?;
    let out = PathBuf::from(arguments.text("out").unwrap_or("out/bare"));
    let rendered = tabletop::render(&Scene::from_seed(arguments.number("seed")?.unwrap_or(SEED)), FULL);
    let model = Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tabletop/model"))?;
    let mut session = model.session()?;
    let image = session.encode(&ImageView::rgb8(&rendered.rgb, rendered.width, rendered.height)?)?;

    let mut questions = Vec::new();
    let mut text = String::new();
    for (task, words) in QUESTIONS {
        let question = Question::new(task, words);
        let items = model.encode_question(&question.command, words)?;
        let number = Task::ALL.iter().position(|&other| other == task).ok_or("a task without a number")?;
        push(&mut questions, number)?;
        push(&mut questions, items.len())?;
        for item in &items {
            let id = match *item {
                PromptItem::Token(id) => id,
                PromptItem::Image => PICTURE,
                PromptItem::VisualPrompt => return Err("a visual prompt in a question without one".into()),
            };
            questions.extend(id.to_le_bytes());
        }
        let reply = session.ask(&image, &Question { prompt: Prompt::Items(items), ..question })?;
        print::reply(&mut text, task, &reply)?;
    }
    let mut picture = Vec::new();
    push(&mut picture, rendered.width)?;
    push(&mut picture, rendered.height)?;
    picture.extend(&rendered.rgb);

    std::fs::create_dir_all(&out)?;
    std::fs::write(out.join("picture.bin"), picture)?;
    std::fs::write(out.join("questions.bin"), questions)?;
    print!("{text}");
    Ok(())
}

/// Appends a number as a little-endian `u32`.
fn push(bytes: &mut Vec<u8>, number: usize) -> Result<(), std::num::TryFromIntError> {
    bytes.extend(u32::try_from(number)?.to_le_bytes());
    Ok(())
}
