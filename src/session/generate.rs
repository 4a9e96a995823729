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
use crate::trp::{Guide, TokenMask, parse};

/// An answer as tokens.
pub(super) struct Written {
    pub(super) ids: Vec<u32>,
    /// Natural logarithm of every token's probability under the plain softmax.
    pub(super) log_probs: Vec<f32>,
    pub(super) finish: Finish,
}

/// Everything that decides what is written.
pub(super) struct Writer<'a, B: Backend> {
    pub(super) backend: &'a B,
    pub(super) llm: &'a Llama<B>,
    pub(super) vocabulary: &'a Vocabulary,
    pub(super) guide: Option<Guide>,
    /// Every token of the vocabulary, which is what may be written without guidance.
    pub(super) all: &'a TokenMask,
    pub(super) sampler: Sampler,
    /// Most tokens to write.
    pub(super) budget: usize,
}

impl<B: Backend> Writer<'_, B> {
    /// Writes an answer after what `context` holds. Every token but an end-of-text is read again, a `<REF>` always, so
    /// that its hidden state exists.
    ///
    /// # Errors
    /// Those of [`Llama::forward`], and [`Error::NonFinite`] for the logits.
    pub(super) fn write(mut self, context: &mut Context<B>, watch: &mut Watch) -> Result<Written> {
        let mut unchecked = false;
        let written = self.write_on(context, watch, &mut unchecked).and_then(|written| {
            let last = context.len().saturating_sub(1);
            let is_finite =
                !unchecked || self.backend.is_finite(context.hidden()?.row_range(last..last + 1)?)?;
            if is_finite { Ok(written) } else { Err(Llama::<B>::not_finite()) }
        });
        if unchecked && written.is_err() {
            context.pop();
        }
        written
    }

    /// `unchecked` says whether nobody has looked at the last hidden state.
    fn write_on(
        &mut self,
        context: &mut Context<B>,
        watch: &mut Watch,
        unchecked: &mut bool,
    ) -> Result<Written> {
        let (backend, llm, vocabulary, budget) = (self.backend, self.llm, self.vocabulary, self.budget);
        let mut written = Written { ids: Vec::new(), log_probs: Vec::new(), finish: Finish::Length };
        let mut detokenizer = Detokenizer::new();
        while written.ids.len() < budget {
            if let Some(finish) = watch.stop() {
                written.finish = finish;
                break;
            }
            let last = context.len().saturating_sub(1);
            let hidden = context.hidden()?.row_range(last..last + 1)?;
            let logits = llm.logits(backend, hidden)?;
            let allowed = match &mut self.guide {
                Some(guide) => guide.allowed(budget - written.ids.len()),
                None => self.all,
            };
            let Some((id, log_probability)) = self.sampler.select(backend, hidden, logits.view(), allowed)?
            else {
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
                written.finish = Finish::EndOfText;
                watch.tell(Event::Token { id, text: detokenizer.finish() });
                break;
            }
            watch.tell(Event::Token { id, text: detokenizer.push(vocabulary, id) });
            let is_reference = id == vocabulary.special().reference;
            if is_reference {
                tell_reference(vocabulary, &written.ids, watch);
            }
            if written.ids.len() < budget || is_reference {
                context.push(backend, llm, id)?;
                *unchecked = true;
            }
        }
        Ok(written)
    }
}

/// Tells of the `<REF>` that ends `ids`.
fn tell_reference(vocabulary: &Vocabulary, ids: &[u32], watch: &mut Watch) {
    let answer = parse(vocabulary, ids);
    if let Some(triplet) = answer.triplets.last() {
        let index = triplet.references.len().saturating_sub(1);
        watch.tell(Event::Reference { phrase: answer.phrase(triplet), unit: triplet.unit, index });
    }
}
