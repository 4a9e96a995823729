//! Size arithmetic that cannot wrap: every product or sum of sizes that come from files goes through [`Size`].
#![forbid(unsafe_code)]

use crate::error::{Error, Result};

/// A size in elements or bytes; arithmetic on it reports overflow instead of wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(usize);

/// Reported when a size does not fit in the machine's address space.
const OVERFLOW: Error = Error::Limit { limit: "address space", max: usize::MAX as u64, got: u64::MAX };

impl Size {
    /// A size known to be sound.
    pub const fn new(value: usize) -> Size {
        Size(value)
    }

    /// A size read from a file.
    ///
    /// # Errors
    /// [`Error::Limit`] where it does not fit in `usize`.
    pub fn from_u64(value: u64) -> Result<Size> {
        usize::try_from(value).map(Size).map_err(|_| OVERFLOW)
    }

    /// The product of all dimensions of a shape (1 for an empty shape).
    ///
    /// # Errors
    /// [`Error::Limit`] on overflow.
    pub fn product(shape: &[usize]) -> Result<Size> {
        shape.iter().try_fold(Size(1), |size, &dim| size.times(dim))
    }

    /// `self + other`.
    ///
    /// # Errors
    /// [`Error::Limit`] on overflow.
    pub fn plus(self, other: usize) -> Result<Size> {
        self.0.checked_add(other).map(Size).ok_or(OVERFLOW)
    }

    /// `self * other`.
    ///
    /// # Errors
    /// [`Error::Limit`] on overflow.
    pub fn times(self, other: usize) -> Result<Size> {
        self.0.checked_mul(other).map(Size).ok_or(OVERFLOW)
    }

    /// The number itself.
    pub const fn get(self) -> usize {
        self.0
    }
}

/// `a / b` rounded down; 0 where `b` is 0, for sizes that were checked but that the compiler cannot see to be positive.
pub(crate) fn quotient(a: usize, b: usize) -> usize {
    a.checked_div(b).unwrap_or(0)
}

/// `a % b`; 0 where `b` is 0, as [`quotient`].
pub(crate) fn remainder(a: usize, b: usize) -> usize {
    a.checked_rem(b).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_is_an_error() {
        assert_eq!(Size::product(&[2, 3, 4]).unwrap().get(), 24);
        assert_eq!(Size::product(&[]).unwrap().get(), 1);
        assert!(matches!(Size::product(&[usize::MAX, 2]), Err(Error::Limit { .. })));
        assert!(matches!(Size::new(usize::MAX).plus(1), Err(Error::Limit { .. })));
        assert_eq!(Size::product(&[usize::MAX, 0]).unwrap().get(), 0);
    }
}
