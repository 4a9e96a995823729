//! A session: one thread's conversation with a model about pictures that it has encoded.
//!
//! [`Session::encode`] looks at a picture once; [`Session::ask`] may then be called any number of times. Between calls the
//! session keeps the keys, values and hidden states of what it read last. A new prompt is compared with them from the
//! start (tokens by id, image positions by picture, visual prompts by picture and region) and only what differs is read;
//! the bits are those of a fresh session, because no operation's row depends on the other rows of its batch.
#![forbid(unsafe_code)]

mod context;
mod decode;
mod encoded;
mod generate;
mod memory;
mod question;
mod sequence;

use alloc::string::String;
use alloc::vec::Vec;

pub use encoded::EncodedImage;
pub use memory::{Bounds, Memory};
pub use question::{Control, Event, OnEvent, Prompt, Question};

use self::context::Context;
use self::decode::{Masks, Place};
use self::encoded::EncodedPrompts;
use self::generate::{Pen, Writer, Written};
use self::question::Watch;
use self::sequence::{Sequence, Slot};
use crate::backend::{Backend, CacheType, View};
use crate::cpu::Cpu;
use crate::error::{Error, Result};
use crate::image::ImageView;
use crate::model::Model;
use crate::reply::{Finish, Reply};
use crate::text::{Detokenizer, Vocabulary};
use crate::trp::{Guide, GuideMode, GuideOptions, PromptItem, TaskCommand, Unit};

/// A conversation with a model; see the [module](self).
pub struct Session<B: Backend = Cpu> {
    model: Model<B>,
    /// Computes as the model's does; memory may come from elsewhere.
    backend: B,
    context: Context<B>,
    /// The words and the guides of what was asked before, the last at the end; at most [`KEPT`] of each.
    asked: Vec<Asked>,
    guided: Vec<Guided>,
    scratch: Scratch,
}

/// Questions whose words and guides a session keeps, so that asking them again takes no memory.
const KEPT: usize = 16;

/// Words and what they became.
struct Asked {
    command: TaskCommand,
    text: String,
    items: Vec<PromptItem>,
}

/// A guide and what it was made for.
struct Guided {
    mode: GuideMode,
    cot: bool,
    units: Vec<Unit>,
    guide: Guide,
}

/// Lists that a question fills and the next one fills again.
#[derive(Default)]
struct Scratch {
    slots: Vec<Slot>,
    log_probs: Vec<f32>,
    pen: Pen,
    decode: decode::Scratch,
}

impl Scratch {
    /// Empties a reply, and keeps what can be used again.
    fn clear(&mut self, reply: &mut Reply) {
        let spare = &mut self.pen.parser.spare;
        self.decode.clear(&mut reply.triplets, spare);
        reply.answer.clear(spare);
        reply.text.clear();
        reply.ids.clear();
        (reply.finish, reply.flags) = (Finish::Cancelled, Default::default());
    }
}

/// How a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Tokens of prompt and answer together, the rows of the picture and of visual prompts included; no more count than the
    /// language model takes.
    pub positions: usize,
    /// How keys and values are kept.
    pub cache: CacheType,
}

impl Default for SessionOptions {
    /// As long a context as the language model takes, in `f32`.
    fn default() -> SessionOptions {
        SessionOptions { positions: usize::MAX, cache: CacheType::F32 }
    }
}

impl SessionOptions {
    /// Room for `positions`, in `f32`.
    pub const fn positions(positions: usize) -> SessionOptions {
        SessionOptions { positions, cache: CacheType::F32 }
    }
}

impl<B: Backend> Session<B> {
    /// A session that has read nothing.
    pub(crate) fn new(model: Model<B>, backend: B, options: SessionOptions) -> Result<Session<B>> {
        let context = Context::new(&backend, &model.modules().llm, options)?;
        Ok(Session {
            model,
            backend,
            context,
            asked: Vec::new(),
            guided: Vec::new(),
            scratch: Scratch::default(),
        })
    }

    /// The model that answers.
    pub fn model(&self) -> &Model<B> {
        &self.model
    }

    /// Looks at a picture, as [`Model::encode`].
    ///
    /// # Errors
    /// As [`Model::encode`].
    pub fn encode(&self, image: &ImageView) -> Result<EncodedImage<B>> {
        self.model.encode(image)
    }

    /// Answers a question about an encoded picture.
    ///
    /// # Errors
    /// [`Error::Input`] naming the part of the question that is wrong (among others `prompts`, where their number is not
    /// that of the `[VPT]` in the question, and `image`, where another model encoded it); [`Error::Limit`] where prompt or answer do not fit into the context;
    /// [`Error::Plan`] naming the item of a plan that cannot be met; [`Error::Missing`] naming a module that the
    /// question needs; [`Error::Format`] as [`Model::encode_question`]; [`Error::NonFinite`]; [`Error::Memory`].
    pub fn ask(&mut self, image: &EncodedImage<B>, question: &Question) -> Result<Reply> {
        self.ask_with(image, question, &mut Control::default())
    }

    /// As [`Session::ask`], with a hold on the running question.
    ///
    /// # Errors
    /// As [`Session::ask`].
    pub fn ask_with(
        &mut self,
        image: &EncodedImage<B>,
        question: &Question,
        control: &mut Control,
    ) -> Result<Reply> {
        let mut reply = Reply::default();
        self.ask_into(image, question, control, &mut reply)?;
        Ok(reply)
    }

    /// As [`Session::ask_with`], into a reply that is there, one of this session's before or [`Reply::default`]. What it held is
    /// dropped, its masks and maps before anything is computed; where the question fails it is left empty.
    ///
    /// A question that is among the last sixteen then takes no memory from the allocator, as far as no text or list is longer
    /// than any before, the [maps](Question::maps) lie in an arena or a pool, no visual prompt is given and the model has no
    /// `vd_adapter`: the session and the reply keep theirs.
    ///
    /// # Errors
    /// As [`Session::ask`].
    pub fn ask_into(
        &mut self,
        image: &EncodedImage<B>,
        question: &Question,
        control: &mut Control,
        reply: &mut Reply,
    ) -> Result<()> {
        self.scratch.clear(reply);
        let answered = self.answer(image, question, control, reply);
        if answered.is_err() {
            self.scratch.clear(reply);
        }
        answered
    }

    fn answer(
        &mut self,
        image: &EncodedImage<B>,
        question: &Question,
        control: &mut Control,
        reply: &mut Reply,
    ) -> Result<()> {
        let mut watch = Watch::start(control);
        self.check_model(image)?;
        let Session { model, backend, context, asked, guided, scratch } = self;
        let Scratch { slots, log_probs, pen, decode } = scratch;
        pen.sampler.restart(question.sampling)?;
        let items = items(asked, model, question)?;
        let llm = &model.modules().llm;
        let prompts = EncodedPrompts::new(model, backend, image, &question.prompts)?;
        let sequence = Sequence::new(items, image, &prompts, slots)?;
        let prompt = sequence.slots().len();
        let budget = budget(context, prompt, question.max_new_tokens)?;
        let guide = guide(guided, model, question, budget)?;
        context.keep_common_prefix(&sequence);
        log_probs.clear();
        reply.finish = match context.read(backend, llm, &sequence, &watch)? {
            Some(finish) => finish,
            None => {
                let (vocabulary, all) = (model.vocabulary(), model.all_tokens());
                let mut written = Written { ids: &mut reply.ids, log_probs };
                let writer = Writer { backend, llm, vocabulary, guide, all, pen, budget };
                writer.write(context, &mut watch, &mut written)?
            }
        };
        let place = Place::new(backend, image, context, prompt, question)?;
        finish(model, &place, question, reply, log_probs, pen, decode)
    }

    /// Runs the model over a given answer (teacher forcing) and decodes its triplets. An end-of-text token at its end is
    /// not read. Scores are NaN.
    ///
    /// # Errors
    /// As [`Session::ask`]; [`Error::Input`] `ids` for a token outside the vocabulary.
    pub fn decode_tokens(
        &mut self,
        image: &EncodedImage<B>,
        question: &Question,
        answer: &[u32],
    ) -> Result<Reply> {
        let mut control = Control::default();
        let watch = Watch::start(&mut control);
        self.check_model(image)?;
        let Session { model, backend, context, asked, scratch, .. } = self;
        let Scratch { slots, log_probs, pen, decode } = scratch;
        let items = items(asked, model, question)?;
        let prompts = EncodedPrompts::new(model, backend, image, &question.prompts)?;
        let mut sequence = Sequence::new(items, image, &prompts, slots)?;
        let prompt = sequence.slots().len();
        sequence.extend(without_end(model.vocabulary(), answer));
        context.keep_common_prefix(&sequence);
        context.read(backend, &model.modules().llm, &sequence, &watch)?;
        log_probs.clear();
        log_probs.resize(answer.len(), f32::NAN);
        let mut reply = Reply { ids: answer.to_vec(), finish: Finish::Given, ..Reply::default() };
        let place = Place::new(backend, image, context, prompt, question)?;
        finish(model, &place, question, &mut reply, log_probs, pen, decode)?;
        Ok(reply)
    }

    /// Hidden states after the language model's last norm of every position read last, prompt and answer, `[positions,
    /// hidden_size]`. An end-of-text token is not among them.
    ///
    /// # Errors
    /// [`Error::Shape`] never in practice.
    pub fn hidden_states(&self) -> Result<View<'_, B>> {
        self.context.hidden()
    }

    /// Refuses a picture whose features another model made.
    fn check_model(&self, image: &EncodedImage<B>) -> Result<()> {
        match image.model().is_same(&self.model) {
            true => Ok(()),
            false => Err(Error::Input { field: "image", reason: "was encoded by another model".into() }),
        }
    }
}

/// Moves the entry that `is_it` to the end, where there is one; else makes room for one more there.
fn find_kept<T>(kept: &mut Vec<T>, is_it: impl Fn(&T) -> bool) -> bool {
    let found = kept.iter().position(is_it);
    let full = kept.len() >= KEPT;
    let place = found.or(full.then_some(0)).unwrap_or(kept.len());
    // By neighbours: a rotation divides, and programs for bare machines are held to a short list of panics.
    for place in place + 1..kept.len() {
        kept.swap(place - 1, place);
    }
    if full && found.is_none() {
        kept.pop();
    }
    found.is_some()
}

/// The prompt as items. Words that are asked again, as of every picture of a camera, are encoded once.
fn items<'a, B: Backend>(
    asked: &'a mut Vec<Asked>,
    model: &Model<B>,
    question: &'a Question,
) -> Result<&'a [PromptItem]> {
    let text = match &question.prompt {
        Prompt::Items(items) => return Ok(items),
        Prompt::Text(text) => text,
    };
    let command = &question.command;
    if !find_kept(asked, |asked| asked.text == *text && asked.command == *command) {
        let items = model.encode_question(command, text)?;
        asked.push(Asked { command: command.clone(), text: text.clone(), items });
    }
    Ok(asked.last().map_or(&[], |asked| &asked.items))
}

/// How many tokens may be written after `prompt` positions.
fn budget<B: Backend>(context: &Context<B>, prompt: usize, max_new_tokens: usize) -> Result<usize> {
    if max_new_tokens == 0 {
        return Err(Error::Input { field: "max_new_tokens", reason: "must be positive".into() });
    }
    Ok(context.room_after(prompt)?.min(max_new_tokens))
}

/// The guide of a question, at the start of an answer.
fn guide<'a, B: Backend>(
    guided: &'a mut Vec<Guided>,
    model: &Model<B>,
    question: &Question,
    max_tokens: usize,
) -> Result<Option<&'a mut Guide>> {
    let (mode, cot, units) = (&question.guide, question.vd_cot, &question.command.units);
    if matches!(mode, GuideMode::Off) {
        return Ok(None);
    }
    if !find_kept(guided, |kept| kept.cot == cot && kept.units == *units && kept.mode == *mode) {
        let heads = model.heads().to_vec();
        let options = GuideOptions { mode: mode.clone(), cot, units: units.clone(), heads, max_tokens };
        let guide = Guide::new(model.guide_tables().clone(), &options)?;
        guided.push(Guided { mode: options.mode, cot, units: options.units, guide });
    }
    let guide = guided.last_mut().map(|guided| &mut guided.guide);
    guide.map(|guide| guide.restart(max_tokens).map(|()| guide)).transpose()
}

/// Parses the tokens of a reply and decodes its targets.
fn finish<B: Backend>(
    model: &Model<B>,
    place: &Place<B>,
    question: &Question,
    reply: &mut Reply,
    log_probs: &[f32],
    pen: &mut Pen,
    scratch: &mut decode::Scratch,
) -> Result<()> {
    let vocabulary = model.vocabulary();
    let Pen { detokenizer, parser, .. } = pen;
    let spoken = without_end(vocabulary, &reply.ids);
    parser.parse_into(vocabulary, spoken, &mut reply.answer);
    write_text(vocabulary, spoken, detokenizer, &mut reply.text);
    let masks = Masks { threshold: question.mask_threshold, binary: question.binary_masks };
    decode::triplets(model, place, reply, log_probs, masks, scratch, &mut parser.spare)?;
    reply.flags = reply.answer.flags;
    Ok(())
}

/// The ids before the end-of-text token, if they end in one.
fn without_end<'a>(vocabulary: &Vocabulary, ids: &'a [u32]) -> &'a [u32] {
    match ids.split_last() {
        Some((&last, rest)) if vocabulary.is_eos(last) => rest,
        _ => ids,
    }
}

/// Writes the text of a sequence, special tokens included.
fn write_text(vocabulary: &Vocabulary, ids: &[u32], detokenizer: &mut Detokenizer, text: &mut String) {
    detokenizer.restart();
    for &id in ids {
        text.push_str(detokenizer.push(vocabulary, id));
    }
    text.push_str(detokenizer.finish());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_longest_ago_makes_room() {
        let mut kept = Vec::new();
        for number in 0..KEPT {
            assert!(!find_kept(&mut kept, |&other| other == number));
            kept.push(number);
        }
        assert!(find_kept(&mut kept, |&other| other == 0) && kept.last() == Some(&0));
        assert!(!find_kept(&mut kept, |&other| other == KEPT), "the second makes room");
        assert!(kept.iter().copied().eq((2..KEPT).chain([0])), "{kept:?}");
    }
}
