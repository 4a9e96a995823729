//! Which value was seen most often.

use std::collections::BTreeMap;

/// How often every value was seen.
pub struct Counts<T>(BTreeMap<T, usize>);

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Counts(BTreeMap::new())
    }
}

impl<T: Ord> Counts<T> {
    /// Sees one value.
    pub fn add(&mut self, value: T) {
        *self.0.entry(value).or_default() += 1;
    }

    /// The value seen most often, the smallest of several; `None` when nothing was seen.
    pub fn most(self) -> Option<T> {
        let mut best: Option<(T, usize)> = None;
        for (value, count) in self.0 {
            if best.as_ref().is_none_or(|(_, most)| count > *most) {
                best = Some((value, count));
            }
        }
        best.map(|(value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn the_most_frequent_and_of_equals_the_smallest() {
        let mut counts = Counts::default();
        assert_eq!(Counts::<u8>::default().most(), None);
        for value in [5, 9, 3, 9, 3] {
            counts.add(value);
        }
        assert_eq!(counts.most(), Some(3));
    }
}
