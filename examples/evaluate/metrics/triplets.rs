//! Exact triplets: the words, the unit and the number of targets of a whole answer.

/// What one triplet says: its phrase, its unit and how many targets it has.
pub type Claim = (String, String, usize);

/// Whether two answers make the same claims, in any order.
///
/// Phrases are compared without the blanks around them; case and everything else counts.
pub fn same_claims(truth: &[Claim], answer: &[Claim]) -> bool {
    sorted(truth) == sorted(answer)
}

/// The claims in a fixed order, blanks around the words removed.
fn sorted(claims: &[Claim]) -> Vec<(&str, &str, usize)> {
    let mut list: Vec<_> =
        claims.iter().map(|(phrase, unit, count)| (phrase.trim(), unit.trim(), *count)).collect();
    list.sort_unstable();
    list
}

#[cfg(test)]
mod tests {
    use super::{Claim, same_claims};

    fn claims(items: &[(&str, &str, usize)]) -> Vec<Claim> {
        items.iter().map(|&(phrase, unit, count)| (phrase.into(), unit.into(), count)).collect()
    }

    #[test]
    fn order_and_outer_blanks_do_not_matter() {
        let truth = claims(&[("red mug", "box", 1), ("green can", "mask", 2)]);
        assert!(same_claims(&truth, &claims(&[(" green can", "mask", 2), ("red mug ", "box", 1)])));
        assert!(same_claims(&[], &[]));
    }

    #[test]
    fn phrase_unit_and_count_each_matter() {
        let truth = claims(&[("red mug", "box", 1)]);
        assert!(!same_claims(&truth, &claims(&[("blue mug", "box", 1)])));
        assert!(!same_claims(&truth, &claims(&[("red mug", "mask", 1)])));
        assert!(!same_claims(&truth, &claims(&[("red mug", "box", 2)])));
        assert!(!same_claims(&truth, &[]));
    }

    #[test]
    fn a_claim_made_twice_is_not_the_claim_made_once() {
        let once = claims(&[("red mug", "box", 1)]);
        let twice = claims(&[("red mug", "box", 1), ("red mug", "box", 1)]);
        assert!(!same_claims(&once, &twice));
        assert!(same_claims(&twice, &twice));
    }
}
