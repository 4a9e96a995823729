//! Writing an answer token by token.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::context::Context;
use super::question::{Event, Watch};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::language::{Llama, Sampler};
use crate::reply::Finish;
use crate::text::{Detokenizer, Vocabulary};
use crate::trp::parser::Parser;
use crate::trp::{Answer, Guide, TokenMask};

/// An answer as tokens.
pub(super) struct Written<'a> {
    pub(super) ids: &'a mut Vec<u32>,
    /// Natural logarithm of every token's probability under the plain softmax.
    pub(super) log_probs: &'a mut Vec<f32>,
}

/// What writing an answer keeps for the next one.
#[derive(Default)]
pub(super) struct Pen {
    pub(super) sampler: Sampler,
    pub(super) detokenizer: Detokenizer,
    pub(super) parser: Parser,
    /// What the caller was told of last.
    told: Answer,
}

/// Everything that decides what is written.
pub(super) struct Writer<'a, B: Backend> {
    pub(super) backend: &'a B,
    pub(super) llm: &'a Llama<B>,
    pub(super) vocabulary: &'a Vocabulary,
    pub(super) guide: Option<&'a mut Guide>,
    /// Every token of the vocabulary, which is what may be written without guidance.
    pub(super) all: &'a TokenMask,
    pub(super) pen: &'a mut Pen,
    /// Most tokens to write.
    pub(super) budget: usize,
}

impl<B: Backend> Writer<'_, B> {
    /// Writes an answer after what `context` holds, to lists that are empty. Every token but an end-of-text is read again, a
    /// `<REF>` always, so that its hidden state exists.
    ///
    /// # Errors
    /// Those of [`Llama::forward`], and [`Error::NonFinite`] for the logits.
    pub(super) fn write(
        mut self,
        context: &mut Context<B>,
        watch: &mut Watch,
        written: &mut Written,
    ) -> Result<Finish> {
        let mut unchecked = false;
        let finish = self.write_on(context, watch, written, &mut unchecked).and_then(|finish| {
            let last = context.len().saturating_sub(1);
            let is_finite =
                !unchecked || self.backend.is_finite(context.hidden()?.row_range(last..last + 1)?)?;
            if is_finite { Ok(finish) } else { Err(Llama::<B>::not_finite()) }
        });
        if unchecked && finish.is_err() {
            context.pop();
        }
        finish
    }

    /// `unchecked` says whether nobody has looked at the last hidden state.
    fn write_on(
        &mut self,
        context: &mut Context<B>,
        watch: &mut Watch,
        written: &mut Written,
        unchecked: &mut bool,
    ) -> Result<Finish> {
        let (backend, llm, vocabulary, budget) = (self.backend, self.llm, self.vocabulary, self.budget);
        let Pen { sampler, detokenizer, parser, told } = &mut *self.pen;
        detokenizer.restart();
        while written.ids.len() < budget {
            if let Some(finish) = watch.stop() {
                return Ok(finish);
            }
            let last = context.len().saturating_sub(1);
            let hidden = context.hidden()?.row_range(last..last + 1)?;
            let logits = llm.logits(backend, hidden)?;
            let allowed = match &mut self.guide {
                Some(guide) => guide.allowed(budget - written.ids.len()),
                None => self.all,
            };
            let Some((id, log_probability)) = sampler.select(backend, hidden, logits.view(), allowed)? else {
                let reason = "leaves no token to choose".into();
                return Err(Error::Input { field: "guide", reason });
            };
            *unchecked = false;
            if let Some(guide) = &mut self.guide {
                guide.advance(id)?;
            }
            written.ids.push(id);
            written.log_probs.push(log_probability);
            if vocabulary.is_eos(id) {
                watch.tell(Event::Token { id, text: detokenizer.finish() });
                return Ok(Finish::EndOfText);
            }
            watch.tell(Event::Token { id, text: detokenizer.push(vocabulary, id) });
            let is_reference = id == vocabulary.special().reference;
            if is_reference && watch.is_told() {
                parser.parse_into(vocabulary, written.ids, told);
                tell_reference(told, watch);
            }
            if written.ids.len() < budget || is_reference {
                context.push(backend, llm, id)?;
                *unchecked = true;
            }
        }
        Ok(Finish::Length)
    }
}

/// Tells of the `<REF>` that ends an answer.
fn tell_reference(answer: &Answer, watch: &mut Watch) {
    if let Some(triplet) = answer.triplets.last() {
        let index = triplet.references.len().saturating_sub(1);
        watch.tell(Event::Reference { phrase: answer.phrase(triplet), unit: triplet.unit, index });
    }
}
