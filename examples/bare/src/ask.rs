//! Opens the model from bytes, looks at the picture and asks.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use triplet::config::Config;
use triplet::image::ImageView;
use triplet::session::{Prompt, Question};
use triplet::text::Vocabulary;
use triplet::trp::{PromptItem, Task};
use triplet::weights::Weights;
use triplet::{Cpu, Error, Model, Result};

use crate::print;

/// Files and inputs as bytes.
pub struct Parts {
    /// `config.json`.
    pub config: &'static [u8],
    /// `model.safetensors`.
    pub weights: &'static [u8],
    /// `tokenizer.json`.
    pub vocabulary: &'static [u8],
    /// Width and height as little-endian `u32`, then three bytes per pixel.
    pub picture: &'static [u8],
    /// Per question three and more little-endian `u32`: the task's place in [`Task::ALL`], the number of ids, the ids;
    /// [`PICTURE`] stands for the picture.
    pub questions: &'static [u8],
}

/// The place of the picture in a prompt.
const PICTURE: u32 = u32::MAX;

/// Writes every question's reply to `out`.
///
/// # Errors
/// Those of the library; [`Error::Input`] for a picture or questions that are cut short.
pub fn ask(parts: &Parts, out: &mut impl Write) -> Result<()> {
    let model = Model::from_parts(
        Cpu::new(),
        Config::parse(parts.config)?,
        &Weights::from_bytes(parts.weights)?,
        Vocabulary::from_tokenizer_json("tokenizer.json", parts.vocabulary)?,
    )?;
    let mut picture = parts.picture;
    let (width, height) = (word(&mut picture, "picture")?, word(&mut picture, "picture")?);
    let view = ImageView::rgb8(picture, width as usize, height as usize)?;
    let mut session = model.session()?;
    let image = session.encode(&view)?;
    let mut questions = parts.questions;
    while !questions.is_empty() {
        let task = word(&mut questions, "task")?;
        let Some(&task) = Task::ALL.get(task as usize) else { return Err(short("task")) };
        let count = word(&mut questions, "prompt")?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(match word(&mut questions, "prompt")? {
                PICTURE => PromptItem::Image,
                id => PromptItem::Token(id),
            });
        }
        let question = Question { prompt: Prompt::Items(items), ..Question::new(task, String::new()) };
        let reply = session.ask(&image, &question)?;
        // The sink of the caller never refuses.
        let _ = print::reply(out, task, &reply);
    }
    Ok(())
}

/// Takes the next little-endian `u32`.
fn word(bytes: &mut &[u8], field: &'static str) -> Result<u32> {
    let (word, rest) = bytes.split_first_chunk().ok_or_else(|| short(field))?;
    *bytes = rest;
    Ok(u32::from_le_bytes(*word))
}

fn short(field: &'static str) -> Error {
    Error::Input { field, reason: "is cut short or unknown".into() }
}
