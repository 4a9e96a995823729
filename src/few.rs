//! Short lists on the stack.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::ops::Deref;

/// A list that is on the heap only where it has more than `N` items; dereferences to a slice.
pub(crate) enum Few<T, const N: usize> {
    /// As many as are counted; what follows repeats the first.
    Inline([T; N], usize),
    Heap(Vec<T>),
}

impl<T: Copy, const N: usize> FromIterator<T> for Few<T, N> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Few<T, N> {
        let mut items = items.into_iter();
        let Some(first) = items.next() else { return Few::Heap(Vec::new()) };
        let (mut inline, mut len) = ([first; N], 1);
        for item in items.by_ref() {
            match inline.get_mut(len) {
                Some(place) => *place = item,
                None => return Few::Heap(inline.into_iter().chain([item]).chain(items).collect()),
            }
            len += 1;
        }
        Few::Inline(inline, len)
    }
}

impl<T, const N: usize> Deref for Few<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Few::Inline(items, len) => items.get(..*len).unwrap_or(items),
            Few::Heap(items) => items,
        }
    }
}

impl<T, const N: usize> Few<T, N> {
    /// The items, to change them.
    pub(crate) fn items_mut(&mut self) -> &mut [T] {
        match self {
            Few::Inline(items, len) => &mut items[..(*len).min(N)],
            Few::Heap(items) => items,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_any_number_in_order() {
        for count in [0, 1, 3, 4, 5, 9] {
            let mut few: Few<usize, 4> = (0..count).collect();
            assert_eq!(matches!(few, Few::Inline(..)), (1..=4).contains(&count));
            assert!(few.iter().copied().eq(0..count), "{count}");
            few.items_mut().iter_mut().for_each(|item| *item += 1);
            assert!(few.iter().copied().eq(1..=count), "{count}");
        }
    }
}
