//! What a model, a picture and a session take, known before either is there.
//!
//! The very code that will run is run on shapes: with [`Arena::measuring`] every operation takes its memory and computes
//! nothing. A block is a stack ([`crate::arena`]), so that no smaller prompt and no shorter answer takes more.
#![forbid(unsafe_code)]

use alloc::vec;

use super::decode::{self, Place};
use super::encoded::{EncodedImage, EncodedPrompts};
use super::{Session, SessionOptions};
use crate::arena::Arena;
use crate::backend::CacheType;
use crate::cpu::Cpu;
use crate::error::{Error, Result};
use crate::image::{ImageView, MAX_PROMPTS};
use crate::language::{Sampler, Sampling};
use crate::model::Model;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Width of the pictures in pixels.
    pub width: usize,
    /// Height of the pictures in pixels.
    pub height: usize,
    /// Positions of prompt and answer together; no more count than the language model takes.
    pub positions: usize,
    /// Most visual prompts of a question, up to [`MAX_PROMPTS`]; they count only where the model takes any.
    pub visual_prompts: usize,
    /// How the session keeps keys and values.
    pub cache: CacheType,
}

/// Bytes of memory. [`Memory::image`] and [`Memory::session`] are exact: an [`Arena`] of that size is enough for what was
/// measured, and one of [`ALIGNMENT`](crate::arena::ALIGNMENT) bytes less is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The tensors that the model uses, in the types of their file. They are used where they lie: in a memory map, from
    /// which the system reads and drops pages as it likes, in memory of the caller's, or where the file was read to.
    pub weights: usize,
    /// Copies of them that are made when the model is loaded and stay: with
    /// [`Cpu::with_packed_weights`](crate::Cpu::with_packed_weights), about as much as the tensors that are copied; else none.
    pub packed: usize,
    /// An encoded picture with the scratch of encoding it.
    pub image: usize,
    /// What of [`Memory::image`] is kept afterwards.
    pub image_kept: usize,
    /// A session with the scratch of every question: key-value cache, hidden states, activations, heads.
    pub session: usize,
    /// What of [`Memory::session`] is the cache of keys and values.
    pub kv_cache: usize,
    /// One mask or depth map of a reply.
    pub map: usize,
    /// All masks and depth maps of the reply with the most targets, each rounded up to whole
    /// [`ALIGNMENT`](crate::arena::ALIGNMENT)s: an [`Arena`] of that size as [`Question::maps`](super::Question::maps) is enough
    /// for every answer. The rest of a reply (text, ids, boxes, joints) is on the heap.
    pub reply: usize,
}

impl Model<Cpu> {
    /// What memory the model, a picture and a session take on this machine, with the threads of the model's backend.
    ///
    /// ```no_run
    /// use triplet::{Model, arena::Arena, backend::CacheType, session::{Bounds, SessionOptions}};
    ///
    /// let model = Model::open("examples/tabletop/model")?;
    /// let options = SessionOptions { positions: 512, cache: CacheType::F16 };
    /// let SessionOptions { positions, cache } = options;
    /// let need = model.memory(&Bounds { width: 640, height: 480, positions, visual_prompts: 0, cache })?;
    /// let arena = Arena::with_size(need.session)?; // or `Arena::of` memory that is there already
    /// let session = model.session_on(model.backend().in_arena(arena), options)?;
    /// # Ok::<(), triplet::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Limit`] where there are too many visual prompts or a size overflows; those of [`Model::encode`] for the size
    /// of the picture.
    // Like everything that is generic over backends, this is compiled by the crate that calls it, as small as that wants it.
    #[inline]
    pub fn memory(&self, bounds: &Bounds) -> Result<Memory> {
        if bounds.visual_prompts > MAX_PROMPTS {
            let (max, got) = (MAX_PROMPTS as u64, bounds.visual_prompts as u64);
            return Err(Error::Limit { limit: "visual_prompts", max, got });
        }
        let arena = Arena::measuring();
        let picture = ImageView::without_pixels(bounds.width, bounds.height)?;
        let image = EncodedImage::new(self, &self.backend().in_arena(arena.clone()), &picture)?;
        let (image_peak, image_kept) = (arena.peak(), arena.taken());

        let arena = Arena::measuring();
        let backend = self.backend().in_arena(arena.clone());
        let options = SessionOptions { positions: bounds.positions, cache: bounds.cache };
        let mut session = Session::new(self.clone(), backend, options)?;
        let kv_cache = arena.taken() - session.context.hidden_bytes();
        let maps = Arena::measuring();
        session.measure(&image, bounds.visual_prompts, &maps)?;
        let map = crate::checked::Size::product(&[bounds.width, bounds.height, size_of::<f32>()])?.get();
        Ok(Memory {
            weights: self.weight_bytes(),
            packed: self.copied_bytes(),
            image: image_peak,
            image_kept,
            session: arena.peak(),
            kv_cache,
            map,
            reply: maps.peak(),
        })
    }
}

impl Session<Cpu> {
    /// Takes the memory of every step of the largest question.
    #[inline]
    fn measure(&mut self, image: &EncodedImage<Cpu>, visual_prompts: usize, maps: &Arena) -> Result<()> {
        let (model, backend) = (&self.model, &self.backend);
        let llm = &model.modules().llm;
        let cells = vec![vec![false; image.selected()?.grid.cells()]; visual_prompts];
        let _prompts = EncodedPrompts::of_cells(model, backend, image, cells)?;
        self.context.measure(backend, llm)?;
        let hidden = self.context.all_hidden();
        if hidden.rows() > 0 {
            let hidden = hidden.row_range(0..1)?;
            let logits = llm.logits(backend, hidden)?;
            let all = model.all_tokens();
            Sampler::new(Sampling::GREEDY)?.select(backend, hidden, logits.view(), all)?;
        }
        let place = Place { backend, image, hidden, first: 0, image_first: Some(0), maps };
        decode::measure(model, &place)
    }
}
