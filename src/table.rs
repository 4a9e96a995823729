//! Values by name, in alphabetic order, made once and then read.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;

use crate::sort::sorted_by;

/// Values by name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table<V> {
    /// In ascending order of the names, each once.
    entries: Vec<(String, V)>,
}

impl<V> Default for Table<V> {
    fn default() -> Table<V> {
        Table { entries: Vec::new() }
    }
}

impl<V> Table<V> {
    /// A table of these pairs; a name that is there twice is given back.
    pub(crate) fn new(pairs: Vec<(String, V)>) -> Result<Table<V>, String> {
        let mut entries: Vec<(String, V)> = Vec::with_capacity(pairs.len());
        for (name, value) in sorted_by(pairs, |a, b| a.0.cmp(&b.0)) {
            if entries.last().is_some_and(|(last, _)| *last == name) {
                return Err(name);
            }
            entries.push((name, value));
        }
        Ok(Table { entries })
    }

    /// Number of names.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The place of a name in alphabetic order.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.entries.binary_search_by(|(other, _)| other.as_str().cmp(name)).ok()
    }

    /// The value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&V> {
        self.entries.get(self.place(name)?).map(|(_, value)| value)
    }

    /// Names with their values, in alphabetic order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Names, in alphabetic order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// The pairs.
    pub(crate) fn into_pairs(self) -> Vec<(String, V)> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    #[test]
    fn finds_every_name_and_refuses_one_twice() {
        let pairs: Vec<(String, usize)> = (0..100).map(|i| ((i * 37 % 100).to_string(), i)).collect();
        let table = Table::new(pairs.clone()).unwrap();
        assert!(pairs.iter().all(|(name, value)| table.get(name) == Some(value)));
        assert_eq!((table.get("100"), table.get(""), table.len()), (None, None, 100));
        assert!(table.names().is_sorted());
        let twice = vec![("b".to_string(), 1), ("a".to_string(), 2), ("b".to_string(), 3)];
        assert_eq!(Table::new(twice).unwrap_err(), "b");
    }
}
