//! The measures of `docs/evaluation.md`, as pure functions on plain numbers.

pub mod assignment;
pub mod average_precision;
pub mod calibration;
pub mod depth;
pub mod keypoints;
pub mod mean;
pub mod overlap;
pub mod triplets;
