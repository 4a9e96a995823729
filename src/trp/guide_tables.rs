//! What guiding needs of a vocabulary, whatever the answer.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
#[cfg(feature = "std")]
use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::text::vocabulary::{Symbol, TokenKind, Vocabulary};
use crate::trp::classes::{self, ClassTable, LEAD, SEEN};
use crate::trp::grammar::{Context, Spelling};
use crate::trp::mask::TokenMask;
use crate::trp::trie::Trie;

/// What guiding needs of a vocabulary, made once per model.
pub struct GuideTables {
    pub(super) vocabulary: Vocabulary,
    pub(super) trie: Trie,
    pub(super) text: ClassTable,
    pub(super) name: ClassTable,
    pub(super) spelling: Spelling,
    pub(super) all: TokenMask,
    /// Text at a character's boundary, with `<Phrase>` (bit 0) and the end tokens (bit 1).
    pub(super) free: [TokenMask; 4],
    /// A phrase that may end.
    pub(super) phrase: TokenMask,
    /// For the bytes after which free text begins, `)` and newline: the tokens that begin with them, by the class of
    /// text in which they end.
    pub(super) tails: [(u8, Vec<(u8, TokenMask)>); 2],
    pub(super) longest_lead: u32,
}

impl GuideTables {
    /// Reads every token once per class of running text: some tens of milliseconds at 128k tokens.
    ///
    /// # Errors
    /// [`Error::Config`] naming `llm.eos_token_id` where the vocabulary has no end token.
    pub fn new(vocabulary: &Vocabulary) -> Result<GuideTables> {
        GuideTables::check(vocabulary)?;
        Ok(GuideTables::make(vocabulary))
    }

    fn check(vocabulary: &Vocabulary) -> Result<()> {
        if vocabulary.eos().is_empty() {
            let reason = String::from("the vocabulary has no end token");
            return Err(Error::Config { field: String::from("llm.eos_token_id"), reason });
        }
        Ok(())
    }

    fn make(vocabulary: &Vocabulary) -> GuideTables {
        let trie = Trie::new(vocabulary);
        let text = ClassTable::text(vocabulary);
        let name = ClassTable::name(vocabulary);
        let mut free = [(); 4].map(|()| text.union(SEEN).clone());
        for (bits, mask) in free.iter_mut().enumerate() {
            if bits & 1 != 0 {
                mask.insert(vocabulary.special().phrase_open);
            }
            if bits & 2 != 0 {
                vocabulary.eos().iter().for_each(|&id| mask.insert(id));
            }
        }
        let mut phrase = text.union(SEEN).clone();
        phrase.insert(vocabulary.special().phrase_close);
        // Every byte by itself is the dearest spelling.
        let longest_lead =
            name.union(LEAD).iter().map(|id| vocabulary.bytes(id).len().saturating_sub(1)).max().unwrap_or(0);
        GuideTables {
            spelling: Spelling::new(&trie, vocabulary.space_after_special()),
            all: TokenMask::all(vocabulary.len()),
            vocabulary: vocabulary.clone(),
            trie,
            text,
            name,
            tails: [b')', b'\n'].map(|byte| (byte, tails(vocabulary, byte))),
            free,
            phrase,
            longest_lead: longest_lead as u32,
        }
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context { text: &self.text, name: &self.name, spelling: &self.spelling }
    }

    pub(super) fn symbol_id(&self, symbol: Symbol) -> u32 {
        let special = self.vocabulary.special();
        match symbol {
            Symbol::TaskOpen => special.task_open,
            Symbol::TaskClose => special.task_close,
            Symbol::UnitOpen => special.unit_open,
            Symbol::UnitClose => special.unit_close,
            Symbol::PhraseOpen => special.phrase_open,
            Symbol::PhraseClose => special.phrase_close,
            _ => special.reference,
        }
    }
}

/// The tables of a model, made when the first guided answer needs them; without the feature `std`, where no thread can wait for
/// another, when the model is loaded.
pub(crate) struct LateTables {
    #[cfg(feature = "std")]
    tables: OnceLock<Arc<GuideTables>>,
    #[cfg(not(feature = "std"))]
    tables: Arc<GuideTables>,
}

impl LateTables {
    /// # Errors
    /// As [`GuideTables::new`].
    pub(crate) fn new(vocabulary: &Vocabulary) -> Result<LateTables> {
        GuideTables::check(vocabulary)?;
        Ok(LateTables {
            #[cfg(feature = "std")]
            tables: OnceLock::new(),
            #[cfg(not(feature = "std"))]
            tables: Arc::new(GuideTables::make(vocabulary)),
        })
    }

    /// The tables, of the vocabulary that was checked. Threads that ask for them at once wait for the one that makes them.
    #[cfg(feature = "std")]
    pub(crate) fn get(&self, vocabulary: &Vocabulary) -> &Arc<GuideTables> {
        self.tables.get_or_init(|| Arc::new(GuideTables::make(vocabulary)))
    }

    /// The tables.
    #[cfg(not(feature = "std"))]
    pub(crate) fn get(&self, _: &Vocabulary) -> &Arc<GuideTables> {
        &self.tables
    }
}

/// Tokens that begin with `first` and go on as text, by the class in which they end.
fn tails(vocabulary: &Vocabulary, first: u8) -> Vec<(u8, TokenMask)> {
    let mut tails: Vec<(u8, TokenMask)> = Vec::new();
    for id in (0..vocabulary.len() as u32).filter(|&id| vocabulary.kind(id) == TokenKind::Text) {
        let Some((_, rest)) = vocabulary.bytes(id).split_first().filter(|(byte, _)| **byte == first) else {
            continue;
        };
        let Some(end) = rest.iter().try_fold(SEEN, |class, &byte| classes::text_step(class, byte)) else {
            continue;
        };
        match tails.iter_mut().find(|(class, _)| *class == end) {
            Some((_, mask)) => mask.insert(id),
            None => {
                let mut mask = TokenMask::none(vocabulary.len());
                mask.insert(id);
                tails.push((end, mask));
            }
        }
    }
    tails
}
