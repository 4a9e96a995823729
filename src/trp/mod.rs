//! The triplet-based referring paradigm: tasks and prompts going in, answers coming out.
//!
//! A grounded answer is a sentence with triplets *concept, decoding type, targets*,
//! `<Phrase>red mug</Phrase>(<Unit>box</Unit>[0]<REF>[1]<REF>)`, after an optional plan (VD-CoT) between `<Task>` and
//! `</Task>` that names what will be decoded (arXiv 2503.07413, section 3).
#![forbid(unsafe_code)]

pub mod answer;
mod classes;
pub mod flags;
mod grammar;
pub mod guide;
pub mod guide_tables;
pub mod mask;
pub mod parser;
pub mod prompt;
pub mod question;
pub mod router;
pub mod score;
pub mod task;
mod trie;

pub use answer::{Answer, Plan, PlanItem, Reference, Triplet};
pub use flags::Flags;
pub use guide::{Guide, GuideMode, GuideOptions};
pub use guide_tables::GuideTables;
pub use mask::TokenMask;
pub use parser::{parse, parse_text};
pub use prompt::{PromptItem, PromptTemplate};
pub use question::QuestionTemplate;
pub use router::{Route, Routes, Slot, UnitHead, route};
pub use score::{log_probability, triplet_score};
pub use task::{Element, Task, TaskCommand, Unit};
