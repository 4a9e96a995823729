//! The whole model: configuration, weights and vocabulary put together. Immutable and shared: clones, sessions and
//! encoded pictures hold one copy of it between them, which goes with the last of them.
#![forbid(unsafe_code)]

mod modules;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
#[cfg(feature = "std")]
use std::path::Path;

pub(crate) use modules::{Found, Modules, Pose};

use crate::arena::Lock;
use crate::backend::{Backend, Matrix};
use crate::config::Config;
#[cfg(feature = "std")]
use crate::config::ModelDir;
use crate::cpu::Cpu;
use crate::error::{Error, Result};
use crate::image::ImageView;
use crate::session::{EncodedImage, Session, SessionOptions};
#[cfg(feature = "text")]
use crate::text::LateTokenizer;
use crate::text::Vocabulary;
use crate::trp::guide_tables::LateTables;
use crate::trp::{GuideTables, PromptItem, PromptTemplate, TaskCommand, TokenMask, Unit, UnitHead};
use crate::weights::{Loader, Weights};

/// A model: `visual_encoder`, `projector` and `llm`, and, where the configuration names them, `visual_tower`,
/// `vpt_encoder`, `vd_adapter` and the heads under `visual_decoder`. Cheap to clone; clones share everything.
pub struct Model<B: Backend = Cpu> {
    parts: Arc<Parts<B>>,
}

impl<B: Backend> Clone for Model<B> {
    fn clone(&self) -> Model<B> {
        Model { parts: self.parts.clone() }
    }
}

/// What clones share.
struct Parts<B: Backend> {
    backend: B,
    config: Config,
    vocabulary: Vocabulary,
    #[cfg(feature = "text")]
    tokenizer: Option<LateTokenizer>,
    template: Option<PromptTemplate>,
    modules: Modules<B>,
    heads: Vec<UnitHead>,
    guide_tables: LateTables,
    /// Every token of the vocabulary.
    all: TokenMask,
    warnings: Vec<String>,
    weight_bytes: usize,
    copied_bytes: usize,
    /// Lists of the hidden states of pictures that are gone, for the next ones; empty but for their memory.
    states: Lock<Vec<Vec<Matrix<B>>>>,
}

/// Most of them that are kept.
const KEPT_STATES: usize = 8;

#[cfg(feature = "std")]
impl Model<Cpu> {
    /// Opens a model directory on all cores of the CPU; see `docs/model-directory.md` for what it holds.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`], [`Error::Config`], [`Error::Tensor`] or [`Error::Limit`], each naming the file,
    /// field or tensor.
    pub fn open(dir: impl AsRef<Path>) -> Result<Model> {
        Model::open_on(Cpu::new(), dir)
    }
}

impl<B: Backend> Model<B> {
    /// Opens a model directory on a backend.
    ///
    /// # Errors
    /// As [`Model::open`], and the backend's own.
    #[cfg(feature = "std")]
    pub fn open_on(backend: B, dir: impl AsRef<Path>) -> Result<Model<B>> {
        Model::from_dir(backend, ModelDir::open(dir)?)
    }

    /// A model from the parts of its directory, however they came to memory. Without the feature `text` it has no tokenizer
    /// and takes prompts as items only; with it the tokenizer is made by the first question in words, as the tables of the guide are
    /// by the first guided one: together some tens of milliseconds at 32,000 tokens.
    ///
    /// # Errors
    /// As [`Model::open`] but for [`Error::Io`], and the backend's own.
    #[cfg(feature = "std")]
    pub fn from_dir(backend: B, dir: ModelDir) -> Result<Model<B>> {
        let vocabulary = Vocabulary::from_tokenizer_json("tokenizer.json", &dir.tokenizer)?;
        let parts = Parts::load(backend, dir.config, &dir.weights, vocabulary)?;
        #[cfg(feature = "text")]
        let parts = Parts { tokenizer: Some(LateTokenizer::new("tokenizer.json", dir.tokenizer)), ..parts };
        Ok(Model { parts: Arc::new(parts) })
    }

    /// A model from its parts, for callers without files. The begin- and end-of-text tokens of `llm.bos_token_id` and
    /// `llm.eos_token_id` replace those of the vocabulary where the configuration has them. Such a model takes prompts as
    /// items only, for it has no tokenizer.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::Tensor`] naming the field or tensor; the backend's own.
    pub fn from_parts(
        backend: B,
        config: Config,
        weights: &Weights,
        vocabulary: Vocabulary,
    ) -> Result<Model<B>> {
        Ok(Model { parts: Arc::new(Parts::load(backend, config, weights, vocabulary)?) })
    }

    /// What a reader should know but what keeps nothing from working: unknown keys, unused tensors.
    pub fn warnings(&self) -> &[String] {
        &self.parts.warnings
    }

    /// The parsed `config.json`.
    pub fn config(&self) -> &Config {
        &self.parts.config
    }

    /// Tokens and their bytes.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.parts.vocabulary
    }

    /// Where the model computes.
    pub fn backend(&self) -> &B {
        &self.parts.backend
    }

    /// The units that answers may decode to, each with its head.
    pub fn heads(&self) -> &[UnitHead] {
        &self.parts.heads
    }

    /// A session that has read nothing, with room for as long a context as the language model takes, in the memory of the
    /// model's backend.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn session(&self) -> Result<Session<B>> {
        self.session_on(self.backend().clone(), SessionOptions::default())
    }

    /// A session with a choice of how long a context it has room for and of how its keys and values are kept, on a backend that computes as the model's does: for the CPU, [`Cpu::in_arena`] of it, with an arena that is the
    /// session's alone and has [`Memory::session`](crate::session::Memory::session) bytes.
    ///
    /// # Errors
    /// [`Error::Memory`]; [`Error::Input`] `cache` where the backend has no cache of the type that is asked for.
    pub fn session_on(&self, backend: B, options: SessionOptions) -> Result<Session<B>> {
        Session::new(self.clone(), backend, options)
    }

    /// Looks at a picture: encoder, tower and projector run once. Any session of this model may then be asked about it.
    ///
    /// # Errors
    /// [`Error::Input`] or [`Error::Limit`] for a picture that cannot be resized; [`Error::NonFinite`] naming the module
    /// that failed on it; [`Error::Memory`].
    pub fn encode(&self, image: &ImageView) -> Result<EncodedImage<B>> {
        self.encode_on(self.backend(), image)
    }

    /// As [`Model::encode`], on a backend that computes as the model's does: for the CPU, [`Cpu::in_arena`] of it, with an
    /// arena that is the picture's alone and has [`Memory::image`](crate::session::Memory::image) bytes.
    ///
    /// # Errors
    /// As [`Model::encode`].
    pub fn encode_on(&self, backend: &B, image: &ImageView) -> Result<EncodedImage<B>> {
        EncodedImage::new(self, backend, image)
    }

    /// Whether both are clones of one model.
    pub fn is_same(&self, other: &Model<B>) -> bool {
        Arc::ptr_eq(&self.parts, &other.parts)
    }

    /// The items of a question's whole prompt: chat template, task command and question, encoded.
    ///
    /// # Errors
    /// [`Error::Missing`] where the model has no tokenizer or no `prompt_template`; [`Error::Input`] for a question that
    /// is empty or holds special tokens; [`Error::Format`] where `tokenizer.json` has a vocabulary but is of no known kind.
    pub fn encode_question(&self, command: &TaskCommand, question: &str) -> Result<Vec<PromptItem>> {
        let Some(template) = &self.parts.template else {
            return Err(Error::Missing { module: "prompt_template".into() });
        };
        #[cfg(feature = "text")]
        if let Some(tokenizer) = &self.parts.tokenizer {
            return tokenizer.get()?.encode_question(self.vocabulary(), template, command, question);
        }
        template.render(command, question)?;
        Err(Error::Missing { module: "tokenizer; give the prompt as items".into() })
    }

    /// Bytes of the tensors that the modules use.
    pub(crate) fn weight_bytes(&self) -> usize {
        self.parts.weight_bytes
    }

    /// Bytes of the copies that the backend has made of them.
    pub(crate) fn copied_bytes(&self) -> usize {
        self.parts.copied_bytes
    }

    /// A list for the hidden states of a picture, empty.
    pub(crate) fn take_states(&self) -> Vec<Matrix<B>> {
        self.parts.states.with(Vec::pop).unwrap_or_default()
    }

    /// Keeps the list of a picture that goes.
    pub(crate) fn keep_states(&self, mut states: Vec<Matrix<B>>) {
        states.clear();
        self.parts.states.with(|kept| {
            if kept.len() < KEPT_STATES && kept.try_reserve(1).is_ok() {
                kept.push(states);
            }
        });
    }

    pub(crate) fn modules(&self) -> &Modules<B> {
        &self.parts.modules
    }

    /// What guided answers need, made for the first of them.
    pub(crate) fn guide_tables(&self) -> &Arc<GuideTables> {
        self.parts.guide_tables.get(&self.parts.vocabulary)
    }

    /// Every token of the vocabulary.
    pub(crate) fn all_tokens(&self) -> &TokenMask {
        &self.parts.all
    }
}

impl<B: Backend> Parts<B> {
    /// Loads the modules and checks the parts against each other; without a tokenizer.
    fn load(backend: B, config: Config, weights: &Weights, vocabulary: Vocabulary) -> Result<Parts<B>> {
        let loader = Loader::new(weights, &backend, "");
        let modules = Modules::load(&loader, &config)?;
        let (weight_bytes, copied_bytes) = (loader.taken_bytes(), loader.copied_bytes());
        let unused = loader.unused().into_iter().map(|name| format!("tensor {name} is not used"));
        let unknown = config.unknown_keys().into_iter().map(|key| format!("config.json: {key} is not known"));
        let warnings = unknown.chain(unused).collect();
        let vocabulary = with_config(vocabulary, &config)?;
        let vocab_size = modules.llm.config().vocab_size;
        if vocabulary.len() > vocab_size {
            let reason = format!("is {vocab_size}, but the tokenizer has {} tokens", vocabulary.len());
            return Err(Error::Config { field: "llm.vocab_size".into(), reason });
        }
        let heads = unit_heads(&config, &modules)?;
        let guide_tables = LateTables::new(&vocabulary)?;
        let all = TokenMask::all(vocabulary.len());
        let template = config.prompt_template()?;
        if let Some(template) = &template {
            template.validate()?;
        }
        Ok(Parts {
            backend,
            config,
            vocabulary,
            #[cfg(feature = "text")]
            tokenizer: None,
            template,
            modules,
            heads,
            guide_tables,
            all,
            warnings,
            weight_bytes,
            copied_bytes,
            states: Lock::new(Vec::new()),
        })
    }
}

/// The vocabulary with the begin- and end-of-text tokens of the configuration.
fn with_config(vocabulary: Vocabulary, config: &Config) -> Result<Vocabulary> {
    let llm = config.module("llm")?;
    let id = |name: &str, id: usize| {
        u32::try_from(id).map_err(|_| llm.error(name, format!("{id} is no token id")))
    };
    let mut vocabulary = vocabulary;
    if let Some(bos) = llm.optional_usize("bos_token_id")? {
        vocabulary = vocabulary.with_bos(Some(id("bos_token_id", bos)?))?;
    }
    if let Some(eos) = llm.optional_usizes("eos_token_id")? {
        let eos = eos.into_iter().map(|eos| id("eos_token_id", eos)).collect::<Result<_>>()?;
        vocabulary = vocabulary.with_eos(eos)?;
    }
    Ok(vocabulary)
}

/// `unit_heads` with every head's number of slots.
fn unit_heads<B: Backend>(config: &Config, modules: &Modules<B>) -> Result<Vec<UnitHead>> {
    let pairs = config.unit_heads()?;
    let mut served = Vec::with_capacity(pairs.len());
    for (unit, head) in pairs {
        let unit: Unit = unit.parse()?;
        let num_queries = match modules.head(&head) {
            Some(module) if module.gives(unit) => module.num_queries(),
            _ => {
                let reason = format!("the head {head} gives no {}", unit.name());
                return Err(Error::Config { field: format!("unit_heads.{}", unit.name()), reason });
            }
        };
        served.push(UnitHead { unit, head, num_queries });
    }
    Ok(served)
}
