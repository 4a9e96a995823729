//! Small vectors of numbers that the host gives with every call and that hardly ever differ, such as rotary frequencies: kept
//! on the device by what they hold.
#![forbid(unsafe_code)]

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::pool::Block;

/// Most vectors that are kept.
const MOST: usize = 64;

/// What is on the device.
#[derive(Default)]
pub(super) struct Constants {
    /// Bytes and where they are; the least recently used first.
    kept: Vec<(Vec<u8>, Arc<Block>)>,
}

impl Constants {
    /// Where the bytes are, if they are.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<Arc<Block>> {
        let index = self.kept.iter().position(|(kept, _)| kept == bytes)?;
        if let Some(used) = self.kept.get_mut(index..) {
            used.rotate_left(1);
        }
        self.kept.last().map(|(_, block)| block.clone())
    }

    /// Keeps what was copied.
    pub(super) fn keep(&mut self, bytes: &[u8], block: Arc<Block>) {
        if self.kept.len() >= MOST {
            self.kept.remove(0);
        }
        self.kept.push((bytes.to_vec(), block));
    }
}
