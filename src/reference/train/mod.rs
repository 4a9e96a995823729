//! Definitions of the operations of training; see [`Train`](crate::backend::Train) for the formulas.
//!
//! `tests/ops` holds each backward pass against finite differences of its forward definition.
#![forbid(unsafe_code)]

mod activate_backward;
mod adamw;
mod add_backward;
mod attention_backward;
mod gather_scaled;
mod layer_norm_backward;
mod linear_backward;

pub use activate_backward::{TOLERANCE as ACTIVATE_BACKWARD, activate_backward, slope};
pub use adamw::{TOLERANCE as ADAMW, adamw};
pub use add_backward::{TOLERANCE as ADD_BACKWARD, add_backward};
pub use attention_backward::{TOLERANCE as ATTENTION_BACKWARD, attention_backward};
pub use gather_scaled::{TOLERANCE as GATHER_SCALED, gather_scaled, gather_scaled_backward};
pub use layer_norm_backward::{NormBackward, TOLERANCE as LAYER_NORM_BACKWARD, layer_norm_backward};
pub use linear_backward::{AffineGradients, TOLERANCE as LINEAR_BACKWARD, linear_backward, linear_gradients};
