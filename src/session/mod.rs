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
use alloc::vec;
use alloc::vec::Vec;

pub use encoded::EncodedImage;
pub use memory::{Bounds, Memory};
pub use question::{Control, Event, OnEvent, Prompt, Question};

use self::context::Context;
use self::decode::{Masks, Place};
use self::encoded::EncodedPrompts;
use self::generate::{Writer, Written};
use self::question::Watch;
use self::sequence::Sequence;
use crate::backend::{Backend, CacheType, View};
use crate::cpu::Cpu;
use crate::error::{Error, Result};
use crate::image::ImageView;
use crate::language::Sampler;
use crate::model::Model;
use crate::reply::{Finish, Reply};
use crate::text::{Detokenizer, Vocabulary};
use crate::trp::{Guide, GuideMode, GuideOptions, PromptItem, TaskCommand, parse};

/// A conversation with a model; see the [module](self).
pub struct Session<B: Backend = Cpu> {
    model: Model<B>,
    /// Computes as the model's does; memory may come from elsewhere.
    backend: B,
    context: Context<B>,
    asked: Option<Asked>,
}

/// The words that were asked last and what they became.
struct Asked {
    command: TaskCommand,
    text: String,
    items: Vec<PromptItem>,
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
        Ok(Session { model, backend, context, asked: None })
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
        let mut watch = Watch::start(control);
        self.check_model(image)?;
        let sampler = Sampler::new(question.sampling)?;
        let items = self.items(question)?;
        let (model, backend) = (&self.model, &self.backend);
        let llm = &model.modules().llm;
        let prompts = EncodedPrompts::new(model, backend, image, &question.prompts)?;
        let sequence = Sequence::new(&items, image, &prompts)?;
        let budget = self.budget(sequence.slots.len(), question.max_new_tokens)?;
        let guide = self.guide(question, budget)?;
        self.context.keep_common_prefix(&sequence);
        let written = match self.context.read(backend, llm, &sequence, &watch)? {
            Some(finish) => Written { ids: Vec::new(), log_probs: Vec::new(), finish },
            None => {
                let vocabulary = model.vocabulary();
                let all = model.guide_tables().all();
                let writer = Writer { backend, llm, vocabulary, guide, all, sampler, budget };
                writer.write(&mut self.context, &mut watch)?
            }
        };
        self.reply(image, question, written, sequence.slots.len())
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
        let mut items = self.items(question)?;
        let model = &self.model;
        let prompts = EncodedPrompts::new(model, &self.backend, image, &question.prompts)?;
        let prompt = Sequence::new(&items, image, &prompts)?.slots.len();
        let spoken = without_end(model.vocabulary(), answer);
        items.extend(spoken.iter().copied().map(PromptItem::Token));
        let sequence = Sequence::new(&items, image, &prompts)?;
        self.context.keep_common_prefix(&sequence);
        self.context.read(&self.backend, &model.modules().llm, &sequence, &watch)?;
        let log_probs = vec![f32::NAN; answer.len()];
        let written = Written { ids: answer.to_vec(), log_probs, finish: Finish::Given };
        self.reply(image, question, written, prompt)
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

    /// The prompt as items. Words that are asked again, as of every picture of a camera, are encoded once.
    fn items(&mut self, question: &Question) -> Result<Vec<PromptItem>> {
        let text = match &question.prompt {
            Prompt::Items(items) => return Ok(items.clone()),
            Prompt::Text(text) => text,
        };
        let command = &question.command;
        if let Some(asked) = &self.asked
            && asked.text == *text
            && asked.command == *command
        {
            return Ok(asked.items.clone());
        }
        let items = self.model.encode_question(command, text)?;
        self.asked = Some(Asked { command: command.clone(), text: text.clone(), items: items.clone() });
        Ok(items)
    }

    /// How many tokens may be written after `prompt` positions.
    fn budget(&self, prompt: usize, max_new_tokens: usize) -> Result<usize> {
        if max_new_tokens == 0 {
            return Err(Error::Input { field: "max_new_tokens", reason: "must be positive".into() });
        }
        Ok(self.context.room_after(prompt)?.min(max_new_tokens))
    }

    fn guide(&self, question: &Question, max_tokens: usize) -> Result<Option<Guide>> {
        if matches!(question.guide, GuideMode::Off) {
            return Ok(None);
        }
        let options = GuideOptions {
            mode: question.guide.clone(),
            cot: question.vd_cot,
            units: question.command.units.clone(),
            heads: self.model.heads().to_vec(),
            max_tokens,
        };
        Guide::new(self.model.guide_tables().clone(), &options).map(Some)
    }

    /// Parses what was written after `prompt` positions and decodes its targets.
    fn reply(
        &self,
        image: &EncodedImage<B>,
        question: &Question,
        written: Written,
        prompt: usize,
    ) -> Result<Reply> {
        let vocabulary = self.model.vocabulary();
        let spoken = without_end(vocabulary, &written.ids);
        let mut answer = parse(vocabulary, spoken);
        let text = text(vocabulary, spoken);
        let hidden = self.context.hidden()?;
        let image_first = self.context.image_first();
        let place =
            Place { backend: &self.backend, image, hidden, first: prompt, image_first, maps: &question.maps };
        let masks = Masks { threshold: question.mask_threshold, binary: question.binary_masks };
        let triplets = decode::triplets(&self.model, &place, &mut answer, &written, masks)?;
        let flags = answer.flags;
        Ok(Reply { text, ids: written.ids, answer, triplets, finish: written.finish, flags })
    }
}

/// The ids before the end-of-text token, if they end in one.
fn without_end<'a>(vocabulary: &Vocabulary, ids: &'a [u32]) -> &'a [u32] {
    match ids.split_last() {
        Some((&last, rest)) if vocabulary.is_eos(last) => rest,
        _ => ids,
    }
}

/// The text of a sequence, special tokens included.
fn text(vocabulary: &Vocabulary, ids: &[u32]) -> String {
    let mut detokenizer = Detokenizer::new();
    let mut text = String::new();
    for &id in ids {
        text.push_str(detokenizer.push(vocabulary, id));
    }
    text.push_str(detokenizer.finish());
    text
}
