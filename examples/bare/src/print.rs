//! Replies as text, without the formatting of floating-point numbers: that takes tens of kilobytes. `bare_inputs` prints
//! with the same functions.
#![forbid(unsafe_code)]

use core::fmt::{Result, Write};

use triplet::reply::{Reply, Target, Triplet};
use triplet::trp::Task;

/// The answer and its triplets, one a line, in pixels.
pub fn reply(out: &mut impl Write, task: Task, reply: &Reply) -> Result {
    out.write_str("[")?;
    out.write_str(task.name())?;
    out.write_str("]\n")?;
    out.write_str(&reply.text)?;
    out.write_str("\n")?;
    reply.triplets.iter().try_for_each(|triplet| line(out, triplet))
}

/// One triplet. After the target stands a hash of the bits of all its numbers.
fn line(out: &mut impl Write, triplet: &Triplet) -> Result {
    let mut bits = Bits::default();
    write!(out, "  {} [{}] ", triplet.phrase, triplet.index)?;
    tenths(out, triplet.score * 100.0, &mut bits)?;
    out.write_str(" %:")?;
    match &triplet.target {
        Some(Target::Box(corners)) => {
            out.write_str(" box")?;
            numbers(out, corners, &mut bits)?;
        }
        Some(Target::Mask(mask)) => {
            let inside = mask.pixels().iter().filter(|&&pixel| pixel == 1).count();
            mask.probabilities.iter().for_each(|&value| bits.add(value));
            write!(out, " mask of {inside} pixels")?;
        }
        Some(Target::Keypoints(person)) => {
            out.write_str(" joints")?;
            for point in &person.points {
                bits.add(point.score);
                numbers(out, &[point.x, point.y], &mut bits)?;
            }
        }
        Some(Target::Depth(depth)) => {
            depth.values.iter().for_each(|&value| bits.add(value));
            write!(out, " depth of {}x{} pixels", depth.width, depth.height)?;
        }
        _ => out.write_str(" no target")?,
    }
    writeln!(out, " #{:016x}", bits.0)
}

fn numbers(out: &mut impl Write, values: &[f32], bits: &mut Bits) -> Result {
    values.iter().try_for_each(|&value| {
        out.write_str(" ")?;
        tenths(out, value, bits)
    })
}

/// A number with one digit after the point.
fn tenths(out: &mut impl Write, value: f32, bits: &mut Bits) -> Result {
    bits.add(value);
    let tenths = (f64::from(value) * 10.0) as i64;
    let sign = if tenths < 0 { "-" } else { "" };
    write!(out, "{sign}{}.{}", tenths.unsigned_abs() / 10, tenths.unsigned_abs() % 10)
}

/// FNV-1a over the bits of numbers.
struct Bits(u64);

impl Default for Bits {
    fn default() -> Bits {
        Bits(0xcbf2_9ce4_8422_2325)
    }
}

impl Bits {
    fn add(&mut self, value: f32) {
        for byte in value.to_bits().to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}
