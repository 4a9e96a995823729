//! Text and token ids: the vocabulary that decoding needs everywhere, and text encoding where the feature `text` is on.
#![forbid(unsafe_code)]

pub mod detokenizer;
#[cfg(feature = "text")]
pub mod tokenizer;
mod tokenizer_json;
pub mod vocabulary;

pub use detokenizer::Detokenizer;
#[cfg(feature = "text")]
pub(crate) use tokenizer::LateTokenizer;
#[cfg(feature = "text")]
pub use tokenizer::Tokenizer;
pub use vocabulary::{SpecialTokens, Symbol, TokenKind, Vocabulary};
