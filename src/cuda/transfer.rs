//! Between host and device, by way of two pieces of pinned memory that take turns: while the device copies one, the host
//! fills or empties the other.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::sync::Arc;

use super::driver::{Context, HostMemory, Stream};
use super::pool::{Block, Place};
use crate::error::{Error, Result};

/// Told how many bytes of weights have gone to the device since it was opened.
pub type OnUpload = Arc<dyn Fn(u64) + Send + Sync>;

/// Bytes of a piece.
const PIECE: usize = 2 << 20;

/// The pieces.
pub(super) struct Transfer {
    pieces: [HostMemory; 2],
    turn: usize,
    told: Option<OnUpload>,
    uploaded: u64,
}

impl Transfer {
    pub(super) fn new(context: &Context) -> Result<Transfer> {
        let piece = || context.allocate_host("transfer", PIECE);
        Ok(Transfer { pieces: [piece()?, piece()?], turn: 0, told: None, uploaded: 0 })
    }

    pub(super) fn on_upload(&mut self, told: OnUpload) {
        self.told = Some(told);
    }

    fn next(&mut self) -> &mut HostMemory {
        self.turn ^= 1;
        let [first, second] = &mut self.pieces;
        if self.turn == 0 { first } else { second }
    }

    /// Copies `bytes` to a block, all of it; `bytes` may go at once. `count` them among the weights.
    ///
    /// # Errors
    /// [`Error::Shape`] where the block has another size; [`Error::Device`].
    pub(super) fn upload(&mut self, stream: &Stream, block: &Block, bytes: &[u8], count: bool) -> Result<()> {
        if block.bytes() != bytes.len() {
            let reason = format!("{} bytes to a block of {}", bytes.len(), block.bytes());
            return Err(Error::Shape { operand: "upload", reason });
        }
        for (index, part) in bytes.chunks(PIECE).enumerate() {
            let at = index * PIECE;
            block.with(|place| match place {
                Place::Device(memory, start) => {
                    let piece = self.next();
                    let room = piece.bytes_mut()?.get_mut(..part.len());
                    room.ok_or_else(|| too_short(part.len()))?.copy_from_slice(part);
                    stream.upload(piece, memory, start + at, part.len())
                }
                Place::Host(memory) => {
                    // What was there before may still be read.
                    stream.synchronize()?;
                    let room = memory.get_mut(at..at + part.len());
                    room.ok_or_else(|| too_short(part.len()))?.copy_from_slice(part);
                    Ok(())
                }
            })?;
            if count {
                self.uploaded += part.len() as u64;
                if let Some(told) = &self.told {
                    told(self.uploaded);
                }
            }
        }
        Ok(())
    }

    /// Copies a block to `bytes` and waits for it.
    ///
    /// # Errors
    /// As [`Transfer::upload`].
    pub(super) fn download(
        &mut self,
        stream: &Stream,
        block: &Block,
        from: usize,
        bytes: &mut [u8],
    ) -> Result<()> {
        if from.checked_add(bytes.len()).is_none_or(|end| end > block.bytes()) {
            let reason = format!("{} bytes from {from} of a block of {}", bytes.len(), block.bytes());
            return Err(Error::Shape { operand: "download", reason });
        }
        for (index, part) in bytes.chunks_mut(PIECE).enumerate() {
            let at = from + index * PIECE;
            block.with(|place| match place {
                Place::Device(memory, start) => {
                    let piece = self.next();
                    stream.download(memory, start + at, piece, part.len())?;
                    let there = piece.bytes_mut()?.get(..part.len());
                    part.copy_from_slice(there.ok_or_else(|| too_short(part.len()))?);
                    Ok(())
                }
                Place::Host(memory) => {
                    stream.synchronize()?;
                    let there = memory.get(at..at + part.len());
                    part.copy_from_slice(there.ok_or_else(|| too_short(part.len()))?);
                    Ok(())
                }
            })?;
        }
        Ok(())
    }
}

fn too_short(bytes: usize) -> Error {
    Error::Shape { operand: "transfer", reason: format!("no room for {bytes} bytes") }
}
