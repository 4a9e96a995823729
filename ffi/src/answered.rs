//! Answers with their texts as C reads them, which a session takes back and fills again.
#![forbid(unsafe_code)]

use core::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use triplet::reply::{Reply, Target, Triplet};

use crate::text::Texts;

/// An answer and its texts.
#[derive(Default)]
pub(crate) struct Answered {
    reply: Reply,
    /// The text, the sentence, the phrases, then name and unit of every line of the plan.
    texts: Texts,
}

/// Place of the first phrase among the texts.
const PHRASES: usize = 2;

impl Answered {
    pub(crate) fn reply(&self) -> &Reply {
        &self.reply
    }

    /// Has `answer` answer, and makes the texts.
    pub(crate) fn fill<E>(&mut self, answer: impl FnOnce(&mut Reply) -> Result<(), E>) -> Result<(), E> {
        let Answered { reply, texts } = self;
        texts.clear();
        answer(reply)?;
        texts.push(&reply.text);
        texts.push(&reply.answer.text);
        reply.triplets.iter().for_each(|triplet| texts.push(&triplet.phrase));
        for item in reply.answer.plan.iter().flat_map(|plan| &plan.items) {
            texts.push(&item.name);
            texts.push(&item.unit);
        }
        Ok(())
    }

    /// The answer as the model wrote it, and its length.
    pub(crate) fn text(&self) -> (*const c_char, usize) {
        self.texts.get(0)
    }

    /// The answer in plain words.
    pub(crate) fn sentence(&self) -> (*const c_char, usize) {
        self.texts.get(1)
    }

    /// The concept of a triplet.
    pub(crate) fn phrase(&self, triplet: usize) -> (*const c_char, usize) {
        self.texts.get(PHRASES + triplet)
    }

    /// Name and unit of a line of the plan.
    pub(crate) fn plan_item(&self, line: usize) -> [*const c_char; 2] {
        let first = PHRASES + self.reply.triplets.len() + 2 * line;
        [self.texts.get(first).0, self.texts.get(first + 1).0]
    }
}

/// Answers whose replies were destroyed, for the next ones of their session: their texts and lists need no other memory then.
#[derive(Default)]
pub(crate) struct Spare(Mutex<Vec<Answered>>);

/// Answers that a session keeps so.
const KEPT: usize = 8;

impl Spare {
    /// An answer to fill.
    pub(crate) fn take(&self) -> Answered {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps an answer, but for its masks and depth maps.
    pub(crate) fn keep(&self, mut answered: Answered) {
        let maps =
            |triplet: &&mut Triplet| matches!(triplet.target, Some(Target::Mask(_) | Target::Depth(_)));
        answered.reply.triplets.iter_mut().filter(maps).for_each(|triplet| triplet.target = None);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(answered);
        }
    }
}
