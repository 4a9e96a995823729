//! Pictures from files: decoding, folders, packs, and the order in which a run sees them.

mod decode;
mod stream;
