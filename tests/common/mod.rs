//! What the operation tests and benches share.

pub mod operands;
pub mod shapes;
pub mod variants;
