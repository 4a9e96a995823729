//! What the examples share: pictures, drawing, arguments.

pub mod arguments;
pub mod font;
pub mod overlay;
pub mod picture;
pub mod world;
