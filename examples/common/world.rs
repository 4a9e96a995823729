//! Questions of the tabletop world as questions to the library.

use std::error::Error;

use tabletop::{PromptKind, Rendered, Turn};
use triplet::image::VisualPrompt;
use triplet::session::Question;
use triplet::trp::{Element, TaskCommand};

/// The masks of a turn's prompts, one byte per pixel; empty for prompts of other kinds.
pub fn masks(rendered: &Rendered, turn: &Turn) -> Vec<Vec<u8>> {
    let mask = |instance| rendered.instance.iter().map(|&id| u8::from(id == instance)).collect();
    let prompts = turn.prompts.iter();
    prompts.map(|p| if p.kind == PromptKind::Mask { mask(p.instance) } else { Vec::new() }).collect()
}

/// The question of a turn with its own task command; `masks` are those of [`masks`].
pub fn question<'a>(turn: &'a Turn, masks: &'a [Vec<u8>]) -> Result<Question<'a>, Box<dyn Error>> {
    let task = turn.task.name().parse()?;
    let elements = turn.elements.iter().map(|element| match element.as_str() {
        "phrase" => Ok(Element::Phrase),
        "sentence" => Ok(Element::Sentence),
        "unit" => Ok(Element::Unit),
        other => Err(format!("unknown answer element {other}")),
    });
    let elements = elements.collect::<Result<_, _>>()?;
    let units = turn.units.iter().map(|unit| unit.name().parse()).collect::<Result<_, _>>()?;
    let mut prompts = Vec::new();
    for (prompt, mask) in turn.prompts.iter().zip(masks) {
        prompts.push(match (prompt.kind, prompt.point, prompt.bounds, &prompt.scribble) {
            (PromptKind::Point, Some(point), ..) => VisualPrompt::Point(point),
            (PromptKind::Box, _, Some(bounds), _) => VisualPrompt::Box(bounds),
            (PromptKind::Scribble, .., Some(points)) => VisualPrompt::Scribble { points, width: None },
            (PromptKind::Mask, ..) => VisualPrompt::Mask(mask),
            (kind, ..) => return Err(format!("the {kind:?} prompt has no geometry").into()),
        });
    }
    let command = TaskCommand { task, elements, units };
    Ok(Question { command, prompts, ..Question::new(task, turn.question.as_str()) })
}
