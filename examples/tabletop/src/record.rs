//! The binary record that a trainer reads from the stream.

use serde::{Deserialize, Serialize};

use crate::labels::ObjectLabel;
use crate::render::Rendered;
use crate::turn::Turn;

/// The JSON part of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The scene's seed.
    pub seed: u64,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Labels in id order.
    pub objects: Vec<ObjectLabel>,
    /// Questions and answers.
    pub turns: Vec<Turn>,
}

/// `u32 json_len | json | u8 rgb[h*w*3] | u8 instance[h*w] | f32 depth[h*w]`, little endian, row-major.
///
/// # Errors
/// When the labels cannot be written as JSON.
pub fn encode(r: Rendered, turns: Vec<Turn>) -> Result<Vec<u8>, serde_json::Error> {
    let header = Header { seed: r.seed, width: r.width, height: r.height, objects: r.objects, turns };
    let json = serde_json::to_vec(&header)?;
    let mut out = Vec::with_capacity(4 + json.len() + r.rgb.len() + 5 * r.instance.len());
    out.extend_from_slice(&(json.len() as u32).to_le_bytes());
    out.extend_from_slice(&json);
    out.extend_from_slice(&r.rgb);
    out.extend_from_slice(&r.instance);
    for metres in &r.depth {
        out.extend_from_slice(&metres.to_le_bytes());
    }
    Ok(out)
}
