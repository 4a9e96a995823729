//! The order in which a run sees its pictures, decoded and augmented on threads ahead of the step.
//!
//! The stream is endless: epoch after epoch, each in an order of its own. What comes at a position follows from seed and
//! position alone, so neither the number of threads nor an interruption changes it. A picture that cannot be read is passed
//! over, and the next one moves up.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::ahead::Ahead;
use super::pictures::Pictures;
use super::split::hash;
use crate::error::{Error, Result};
use crate::finetune::{Augmentation, Rng};

/// A picture as `side * side * 3` bytes, or the number of the picture and why there is none.
type Prepared = std::result::Result<Vec<u8>, (usize, String)>;

/// What a stream shows.
#[derive(Clone, Copy, Debug)]
pub struct StreamConfig {
    /// Pixels along a side of what comes out.
    pub side: usize,
    /// Fixes order and augmentation.
    pub seed: u64,
    /// Whether pictures are augmented ([`Augmentation::draw`]).
    pub augment: bool,
    /// Threads that decode; at least one is used.
    pub workers: usize,
}

/// Pictures by number, in a random order that goes on for ever.
pub struct Stream {
    pictures: Arc<Pictures>,
    ahead: Ahead<Prepared>,
    position: u64,
    count: usize,
    failed_in_a_row: usize,
    skipped: BTreeMap<String, String>,
}

impl Stream {
    /// The stream over the pictures `of` from `position` on, which is 0 or an earlier [`Stream::position`].
    ///
    /// # Errors
    /// [`Error::Input`] where there is no picture; [`Error::Io`] where there is no thread.
    pub fn new(
        pictures: &Arc<Pictures>,
        of: Vec<usize>,
        config: StreamConfig,
        position: u64,
    ) -> Result<Stream> {
        if of.is_empty() {
            let reason = "there is no picture to train on beside those held back for validation".to_string();
            return Err(Error::Input { field: "images", reason });
        }
        let (count, orders, shared) = (of.len(), Orders::default(), pictures.clone());
        let work = move |position: u64| {
            let (epoch, place) = (position / count as u64, (position % count as u64) as usize);
            let order = orders.get(config.seed, epoch, count);
            let index = order.get(place).and_then(|&place| of.get(place)).copied().unwrap_or(0);
            let mut rng = Rng::new(hash(&position.to_le_bytes(), config.seed));
            let augmentation = if config.augment { Augmentation::draw(&mut rng) } else { Augmentation::NONE };
            prepare(&shared, index, config.side, &augmentation)
        };
        let ahead = Ahead::new(config.workers, position..u64::MAX, work)?;
        let (pictures, skipped) = (pictures.clone(), BTreeMap::new());
        Ok(Stream { pictures, ahead, position, count, failed_in_a_row: 0, skipped })
    }

    /// The next readable picture: `side * side * 3` bytes.
    ///
    /// # Errors
    /// [`Error::Input`] where a whole epoch has none, or a decoding thread has died.
    pub fn next_picture(&mut self) -> Result<Vec<u8>> {
        loop {
            let Some(prepared) = self.ahead.next() else {
                let reason = "a decoding thread has died at one of them".to_string();
                return Err(Error::Input { field: "images", reason });
            };
            self.position += 1;
            match prepared {
                Ok(picture) => {
                    self.failed_in_a_row = 0;
                    return Ok(picture);
                }
                Err((index, reason)) => {
                    self.failed_in_a_row += 1;
                    let name = self.pictures.name(index).to_string();
                    if self.failed_in_a_row > self.count {
                        let reason =
                            format!("none of the {} pictures can be read; {name}: {reason}", self.count);
                        return Err(Error::Input { field: "images", reason });
                    }
                    self.skipped.insert(name, reason);
                }
            }
        }
    }

    /// Pictures taken so far, those passed over included: where to go on from.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Pictures that could not be read since this stream began, by name, with the reasons.
    pub fn skipped(&self) -> &BTreeMap<String, String> {
        &self.skipped
    }
}

/// The whole pictures `of`, each cut to a square of `side`, in their order; what cannot be read is added to `skipped`.
///
/// # Errors
/// [`Error::Io`] where there is no thread; [`Error::Input`] where a decoding thread has died.
pub fn whole_pictures(
    pictures: &Arc<Pictures>,
    of: &[usize],
    side: usize,
    workers: usize,
    skipped: &mut BTreeMap<String, String>,
) -> Result<Vec<Vec<u8>>> {
    let (shared, list) = (pictures.clone(), of.to_vec());
    let work = move |place: u64| {
        let index = list.get(place as usize).copied().unwrap_or(0);
        prepare(&shared, index, side, &Augmentation::NONE)
    };
    let (mut whole, mut seen) = (Vec::with_capacity(of.len()), 0);
    for prepared in Ahead::new(workers, 0..of.len() as u64, work)? {
        seen += 1;
        match prepared {
            Ok(picture) => whole.push(picture),
            Err((index, reason)) => {
                skipped.insert(pictures.name(index).to_string(), reason);
            }
        }
    }
    if seen < of.len() {
        let reason = "a decoding thread has died at one of them".to_string();
        return Err(Error::Input { field: "images", reason });
    }
    Ok(whole)
}

fn prepare(pictures: &Pictures, index: usize, side: usize, augmentation: &Augmentation) -> Prepared {
    pictures
        .read(index)
        .and_then(|picture| augmentation.apply(&picture.view()?, side))
        .map_err(|error| (index, error.to_string()))
}

/// The orders of the epochs that the threads are in.
#[derive(Default)]
struct Orders(Mutex<BTreeMap<u64, Arc<[usize]>>>);

impl Orders {
    /// The order of an epoch; made at most once while threads are within an epoch of each other.
    fn get(&self, seed: u64, epoch: u64, count: usize) -> Arc<[usize]> {
        // The map is whole at every instant, so a thread that died while it held the lock does no harm.
        let mut orders = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let order = orders.entry(epoch).or_insert_with(|| order(seed, epoch, count)).clone();
        while orders.len() > 2 {
            orders.pop_first();
        }
        order
    }
}

/// A random order of `count` numbers (Fisher and Yates).
fn order(seed: u64, epoch: u64, count: usize) -> Arc<[usize]> {
    let mut rng = Rng::new(hash(&epoch.to_le_bytes(), !seed));
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, rng.below(last + 1));
    }
    order.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_permutations_of_their_own() {
        let orders = Orders::default();
        let first = orders.get(7, 0, 100);
        let mut sorted = first.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_eq!(first, order(7, 0, 100));
        assert!(first != orders.get(7, 1, 100) && first != order(8, 0, 100));
        orders.get(7, 2, 100);
        assert_eq!(orders.0.lock().unwrap().len(), 2);
    }
}
