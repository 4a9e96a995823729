//! Pictures from files (feature `finetune-files`): folders of PNG and JPEG files or packs of them, and the order in which a
//! run sees them.
#![forbid(unsafe_code)]

mod ahead;
pub(super) mod atomic;
mod decode;
mod pack;
mod pictures;
pub(super) mod split;
mod stream;

pub use decode::{MAX_PICTURE, Picture};
pub use pack::write_pack;
pub use pictures::Pictures;
pub use split::split;
pub use stream::{Stream, StreamConfig, whole_pictures};
