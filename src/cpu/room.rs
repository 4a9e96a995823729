//! Small tensors in an operation's scratch.
#![forbid(unsafe_code)]

use super::Cpu;
use super::isa::Isa;
use super::mat::{Convert, Elements};
use crate::arena::Room;
use crate::backend::Weight;
use crate::error::Result;

impl<'a> Room<'a> {
    /// The elements of a small tensor (a bias, a scale, a filter) as `f32`.
    pub(super) fn elements(&mut self, elements: Elements, isa: Isa) -> &'a [f32] {
        let out = self.take(elements.len());
        isa.run(Convert { from: elements.bytes, dtype: elements.dtype, out });
        out
    }

    /// As [`Room::elements`], of a weight that may not be there; takes [`vector`] elements.
    pub(super) fn vector(&mut self, weight: Option<&Weight<Cpu>>, isa: Isa) -> Result<Option<&'a [f32]>> {
        weight.map(|weight| Ok(self.elements(Elements::new(weight)?, isa))).transpose()
    }
}

/// Elements of scratch for the vector of a weight that may not be there.
pub(super) fn vector(weight: Option<&Weight<Cpu>>) -> usize {
    weight.map_or(0, Weight::elements)
}
