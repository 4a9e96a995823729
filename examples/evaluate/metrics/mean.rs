//! A running mean that knows how many values it has seen.

/// Sum and number of the values seen; the mean of none is undefined.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    /// Takes one value in.
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// Takes `count` yes-or-no values in, `hits` of them yes.
    pub fn add_share(&mut self, hits: usize, count: usize) {
        self.sum += hits as f64;
        self.count += count;
    }

    /// Takes in all values of `other`.
    pub fn merge(&mut self, other: &Mean) {
        self.sum += other.sum;
        self.count += other.count;
    }

    /// The mean; `None` of no values.
    pub fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// How many values were seen.
    pub fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::Mean;

    #[test]
    fn a_mean_of_nothing_is_undefined() {
        assert_eq!(Mean::default().value(), None);
    }

    #[test]
    fn values_shares_and_merges_add_up() {
        let mut mean = Mean::default();
        mean.add(0.25);
        mean.add(0.75);
        let mut other = Mean::default();
        other.add_share(2, 6);
        mean.merge(&other);
        assert_eq!((mean.value(), mean.count()), (Some(3.0 / 8.0), 8));
    }
}
