//! Which pictures are held back for validation.
#![forbid(unsafe_code)]

use super::pictures::Pictures;

/// Of 100 pictures, so many are held back.
const PERCENT: u64 = 2;

/// A 64-bit hash of bytes (FNV-1a, its bits mixed once more by SplitMix64's finish, for FNV's upper bits are weak).
pub(in crate::finetune) fn hash(bytes: &[u8], seed: u64) -> u64 {
    let fnv = bytes.iter().fold(0xCBF2_9CE4_8422_2325 ^ seed, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Numbers of the pictures to train on and of those to validate on: the last 2 % by the hash of their names, at least one. A
/// picture keeps its side when others come or go.
pub fn split(pictures: &Pictures) -> (Vec<usize>, Vec<usize>) {
    split_names((0..pictures.len()).map(|index| pictures.name(index)))
}

fn split_names<'a>(names: impl Iterator<Item = &'a str>) -> (Vec<usize>, Vec<usize>) {
    let hashes: Vec<u64> = names.map(|name| hash(name.as_bytes(), 0)).collect();
    let first = u64::MAX / 100 * (100 - PERCENT);
    // Where no hash is that large, the largest one will do.
    let first = hashes.iter().max().map_or(first, |&largest| first.min(largest));
    (0..hashes.len()).partition(|&index| hashes[index] < first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_percent_are_held_back_and_stay_where_they_are() {
        let names: Vec<String> = (0..20_000).map(|index| format!("folder/{index:06}.png")).collect();
        let (train, held) = split_names(names.iter().map(String::as_str));
        assert!(
            (330..470).contains(&held.len()) && train.len() + held.len() == names.len(),
            "{}",
            held.len()
        );
        let half: Vec<&str> = names.iter().step_by(2).map(String::as_str).collect();
        let (_, of_half) = split_names(half.iter().copied());
        let want: Vec<&str> =
            held.iter().filter(|&&index| index % 2 == 0).map(|&index| names[index].as_str()).collect();
        assert_eq!(of_half.iter().map(|&index| half[index]).collect::<Vec<_>>(), want);
    }

    #[test]
    fn few_pictures_have_one_for_validation() {
        assert_eq!(split_names(["only"].into_iter()), (vec![], vec![0]));
        let (train, held) = split_names(["a", "b", "c"].into_iter());
        assert_eq!((train.len(), held.len()), (2, 1));
    }
}
