//! Sorting by merging runs, or by a heap. The standard library's sorts can panic on an order that is none, and programs for bare
//! machines are held to a short list of panics; these only give another order.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::cmp::Ordering;

/// The items in ascending order; equal ones keep their order. Runs that are in order already are merged as they are.
pub(crate) fn sorted_by<T>(items: Vec<T>, compare: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    let before = |a: usize, b: usize| match (items.get(a), items.get(b)) {
        (Some(a), Some(b)) => compare(a, b) == Ordering::Less,
        _ => false,
    };
    let mut ends: Vec<usize> = (1..items.len()).filter(|&i| before(i, i - 1)).collect();
    if ends.is_empty() {
        return items;
    }
    ends.push(items.len());
    let mut order: Vec<usize> = (0..items.len()).collect();
    let mut merged = Vec::with_capacity(order.len());
    while ends.len() > 1 {
        merged.clear();
        let mut start = 0;
        for pair in ends.chunks(2) {
            let [middle, end] = match *pair {
                [middle, end] => [middle, end],
                [end, ..] => [end, end],
                [] => [start, start],
            };
            let mut left = order.get(start..middle).unwrap_or(&[]);
            let mut right = order.get(middle..end).unwrap_or(&[]);
            while let (&[a, ref after_a @ ..], &[b, ref after_b @ ..]) = (left, right) {
                if before(b, a) {
                    merged.push(b);
                    right = after_b;
                } else {
                    merged.push(a);
                    left = after_a;
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
            start = end;
        }
        ends = ends.chunks(2).filter_map(|pair| pair.last().copied()).collect();
        core::mem::swap(&mut order, &mut merged);
    }
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    order.into_iter().filter_map(|place| items.get_mut(place)?.take()).collect()
}

/// Leaves the first `count` of the items in ascending order, which of equal ones is left open.
pub(crate) fn keep_first_by<T>(items: &mut Vec<T>, count: usize, compare: impl Fn(&T, &T) -> Ordering) {
    // A heap with the first item on top, which shrinks from the end, where the items then lie in descending order.
    for root in (0..items.len() / 2).rev() {
        sink(items, root, &compare);
    }
    let rest = items.len().saturating_sub(count);
    for end in (rest..items.len()).rev() {
        items.swap(0, end);
        sink(&mut items[..end], 0, &compare);
    }
    items.drain(..rest);
    items.reverse();
}

/// Moves the item at `root` down below those that come before it.
fn sink<T>(heap: &mut [T], mut root: usize, compare: impl Fn(&T, &T) -> Ordering) {
    let before = |heap: &[T], a: usize, b: usize| match (heap.get(a), heap.get(b)) {
        (Some(a), Some(b)) => compare(a, b) == Ordering::Less,
        _ => false,
    };
    loop {
        let (left, right) = (2 * root + 1, 2 * root + 2);
        let first = if before(heap, right, left) { right } else { left };
        if !before(heap, first, root) {
            return;
        }
        heap.swap(first, root);
        root = first;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sorts_as_the_standard_library(items in proptest::collection::vec((0u8..8, any::<u16>()), 0..200)) {
            let mut expected = items.clone();
            expected.sort_by_key(|item| item.0);
            prop_assert_eq!(&sorted_by(items.clone(), |a, b| a.0.cmp(&b.0)), &expected);
            expected.sort();
            for count in [0, 1, 5, 200] {
                let mut first = items.clone();
                keep_first_by(&mut first, count, Ord::cmp);
                prop_assert_eq!(&first, &expected[..count.min(expected.len())]);
            }
        }
    }
}
