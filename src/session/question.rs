//! What is asked, and what the caller may do while the answer is written.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "std")]
use std::time::{Duration, Instant};

use crate::arena::Arena;
use crate::image::VisualPrompt;
use crate::language::Sampling;
use crate::reply::Finish;
use crate::trp::{GuideMode, PromptItem, Task, TaskCommand, Unit};

/// The words of a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// The question alone, with one `[VPT]` for each visual prompt; the model's chat template is put around it. Needs the
    /// tokenizer, and with it the feature `text`.
    Text(String),
    /// The whole prompt as the language model reads it: tokens, one place for the picture, one place per visual prompt.
    Items(Vec<PromptItem>),
}

/// A question about an encoded picture.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The words.
    pub prompt: Prompt,
    /// What the answer shall hold; written into the prompt, and the units bound the guided answer.
    pub command: TaskCommand,
    /// The regions that stand for the `[VPT]` of the prompt, in order; in pixels of the original picture.
    pub prompts: Vec<VisualPrompt<'a>>,
    /// Whether the model writes its plan first (VD-CoT). Without guidance the model decides.
    pub vd_cot: bool,
    /// How the answer is kept well-formed.
    pub guide: GuideMode,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens of the answer, the end-of-text token included; what is left of the context bounds it as well.
    pub max_new_tokens: usize,
    /// A pixel belongs to a mask where its probability is above this (the reference's scripts use 0.4).
    pub mask_threshold: f32,
    /// Whether masks come decided: every pixel's probability is then 1 where it is above the threshold and 0 elsewhere. From a GPU a
    /// bit a pixel comes back instead of the head's cells.
    pub binary_masks: bool,
    /// Where the masks and depth maps of the reply lie, see [`Memory::reply`](super::Memory::reply).
    pub maps: Arena,
}

impl Question<'_> {
    /// A question of a task, with its plan, greedily, structurally guided, at most 512 tokens, maps on the heap.
    pub fn new(task: Task, text: impl Into<String>) -> Self {
        Question {
            prompt: Prompt::Text(text.into()),
            command: task.command(),
            prompts: Vec::new(),
            vd_cot: true,
            guide: GuideMode::Structural,
            sampling: Sampling::GREEDY,
            max_new_tokens: 512,
            mask_threshold: 0.5,
            binary_masks: false,
            maps: Arena::HEAP,
        }
    }
}

/// News of an answer that is being written.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'e> {
    /// A token was chosen.
    Token {
        /// The token.
        id: u32,
        /// The text that became complete with it; empty while a character is unfinished.
        text: &'e str,
    },
    /// A `<REF>` was written: a triplet is known, its target comes with the reply.
    Reference {
        /// The concept.
        phrase: &'e str,
        /// The decoding type.
        unit: Option<Unit>,
        /// Place of the target within its group, from 0.
        index: usize,
    },
}

/// Told of events; says whether the answer goes on.
pub type OnEvent<'a> = &'a mut dyn FnMut(Event) -> ControlFlow<()>;

/// The caller's hold on a running question.
#[derive(Default)]
pub struct Control<'a> {
    /// Set it from any thread to stop: the answer ends before its next token, see [`Finish::Cancelled`].
    pub cancel: Option<&'a AtomicBool>,
    /// Longest time for reading the prompt and writing the answer; decoding the targets comes on top.
    #[cfg(feature = "std")]
    pub time_limit: Option<Duration>,
    /// Called for every token and every `<REF>`, on the thread that asks; [`ControlFlow::Break`] stops as `cancel` does.
    pub on_event: Option<OnEvent<'a>>,
}

/// A [`Control`] whose clock runs.
pub(super) struct Watch<'c, 'a> {
    control: &'c mut Control<'a>,
    /// `on_event` said so.
    stopped: bool,
    #[cfg(feature = "std")]
    deadline: Option<Instant>,
}

impl<'c, 'a> Watch<'c, 'a> {
    pub(super) fn start(control: &'c mut Control<'a>) -> Watch<'c, 'a> {
        #[cfg(feature = "std")]
        let deadline = control.time_limit.and_then(|limit| Instant::now().checked_add(limit));
        Watch {
            control,
            stopped: false,
            #[cfg(feature = "std")]
            deadline,
        }
    }

    /// Why the answer has to end now, if it has to.
    pub(super) fn stop(&self) -> Option<Finish> {
        if self.stopped || self.control.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Some(Finish::Cancelled);
        }
        #[cfg(feature = "std")]
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Some(Finish::TimeLimit);
        }
        None
    }

    /// Whether anybody is told of events.
    pub(super) fn is_told(&self) -> bool {
        self.control.on_event.is_some()
    }

    pub(super) fn tell(&mut self, event: Event) {
        if let Some(on_event) = &mut self.control.on_event {
            self.stopped |= on_event(event).is_break();
        }
    }
}
