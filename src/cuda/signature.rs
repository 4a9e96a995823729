//! What a kernel takes: the same facts as in its PTX, which a test holds against them.
#![forbid(unsafe_code)]

use alloc::format;

use super::driver::DevicePointer;
use crate::error::{Error, Result};

/// What a parameter gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// An address.
    Pointer(DevicePointer),
    /// A number.
    U32(u32),
    /// A number.
    F32(f32),
    /// A number.
    F64(f64),
}

impl Argument {
    /// The parameter's bytes, little endian, at the start of eight.
    pub(super) fn bits(self) -> u64 {
        match self {
            Argument::Pointer(pointer) => pointer.address(),
            Argument::U32(x) => x.into(),
            Argument::F32(x) => x.to_bits().into(),
            Argument::F64(x) => x.to_bits(),
        }
    }
}

impl Argument {
    /// Whether it is an address or a whole number that `of` divides.
    pub(super) fn is_multiple_of(self, of: u32) -> bool {
        match self {
            Argument::Pointer(pointer) => pointer.address().is_multiple_of(of.into()),
            Argument::U32(x) => x.is_multiple_of(of),
            _ => false,
        }
    }
}

/// Type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// `.u32`
    U32,
    /// `.u64`: an address on the device.
    U64,
    /// `.f32`
    F32,
    /// `.f64`
    F64,
}

/// What a kernel takes and how it is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Name of the entry: of the fastest variant's, where there are several.
    pub entry: &'static str,
    /// Types and names of the parameters, in order.
    pub parameters: &'static [(Parameter, &'static str)],
    /// Most threads of a block.
    pub threads: u32,
}

impl Signature {
    /// Checks the arguments of a launch.
    ///
    /// # Errors
    /// [`Error::Shape`] where number or types differ.
    pub(super) fn check(&self, arguments: &[Argument]) -> Result<()> {
        let fits = |(&(parameter, _), argument): (&(Parameter, &str), &Argument)| {
            matches!(
                (parameter, argument),
                (Parameter::U32, Argument::U32(_))
                    | (Parameter::U64, Argument::Pointer(_))
                    | (Parameter::F32, Argument::F32(_))
                    | (Parameter::F64, Argument::F64(_))
            )
        };
        if self.parameters.len() == arguments.len() && self.parameters.iter().zip(arguments).all(fits) {
            return Ok(());
        }
        let reason = format!("{arguments:?} for {:?}", self.parameters);
        Err(Error::Shape { operand: self.entry, reason })
    }
}
