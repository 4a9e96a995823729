//! What the arithmetic instructions compute in one lane. Registers hold bits, narrow values in the low ones.

use half::f16;

/// An operation of up to three operands.
pub type Function = fn(u64, u64, u64) -> u64;

fn single(x: u64) -> f32 {
    f32::from_bits(x as u32)
}

fn bits(x: f32) -> u64 {
    u64::from(x.to_bits())
}

fn narrow(x: u64) -> u64 {
    u64::from(f16::from_f32(single(x)).to_bits())
}

fn double(x: u64) -> f64 {
    f64::from_bits(x)
}

/// `2^x` as the instruction `ex2.approx.f32` may give it: exact for integers, else off by up to 2^-22 of itself in a direction
/// that only the operand decides.
fn ex2(x: f32) -> f32 {
    let exact = f64::from(x).exp2();
    let direction = f64::from(x.to_bits().wrapping_mul(0x9e37_79b9) >> 30) - 1.5;
    let error = if x.fract() == 0.0 || x.is_infinite() { 0.0 } else { direction / 1.5 / 4_194_304.0 };
    (exact * (1.0 + error)) as f32
}

/// The nearest number with 10 bits behind the point, ties away from zero.
fn tf32(x: u64) -> u64 {
    match single(x).is_finite() {
        true => u64::from((x as u32).wrapping_add(0x1000) & 0xffff_e000),
        false => x,
    }
}

/// PTX `max` and `min` give the operand that is a number.
fn larger(a: f32, b: f32) -> f32 {
    a.max(b)
}

fn clamp_to_s32(x: f64) -> u64 {
    u64::from((x.round_ties_even() as i32) as u32)
}

/// The function of an opcode and its number of operands.
pub fn function(opcode: &str) -> Option<(Function, usize)> {
    let found: (Function, usize) = match opcode {
        "mov.b32" | "mov.u32" | "mov.f32" | "mov.b16" | "cvt.u64.u32" | "cvt.u32.u16" => (|a, _, _| a, 1),
        "mov.b64" | "mov.u64" | "mov.f64" | "mov.pred" => (|a, _, _| a, 1),
        "add.u32" | "add.s32" => (|a, b, _| u64::from((a as u32).wrapping_add(b as u32)), 2),
        "sub.u32" | "sub.s32" => (|a, b, _| u64::from((a as u32).wrapping_sub(b as u32)), 2),
        "mul.lo.u32" | "mul.lo.s32" => (|a, b, _| u64::from((a as u32).wrapping_mul(b as u32)), 2),
        "mad.lo.u32" | "mad.lo.s32" => {
            (|a, b, c| u64::from((a as u32).wrapping_mul(b as u32).wrapping_add(c as u32)), 3)
        }
        "add.u64" => (|a, b, _| a.wrapping_add(b), 2),
        "sub.u64" => (|a, b, _| a.wrapping_sub(b), 2),
        "mul.lo.u64" => (|a, b, _| a.wrapping_mul(b), 2),
        "mul.wide.u32" => (|a, b, _| (a & 0xffff_ffff) * (b & 0xffff_ffff), 2),
        "mad.wide.u32" => (|a, b, c| ((a & 0xffff_ffff) * (b & 0xffff_ffff)).wrapping_add(c), 3),
        // Division by zero gives all ones on the device; here it is caught by the caller.
        "div.u32" => (|a, b, _| u64::from((a as u32).checked_div(b as u32).unwrap_or(u32::MAX)), 2),
        "rem.u32" => (|a, b, _| u64::from((a as u32).checked_rem(b as u32).unwrap_or(a as u32)), 2),
        "min.u32" => (|a, b, _| u64::from((a as u32).min(b as u32)), 2),
        "max.u32" => (|a, b, _| u64::from((a as u32).max(b as u32)), 2),
        "min.s32" => (|a, b, _| u64::from((a as i32).min(b as i32) as u32), 2),
        "max.s32" => (|a, b, _| u64::from((a as i32).max(b as i32) as u32), 2),
        "max.u64" => (|a, b, _| a.max(b), 2),
        "and.b32" => (|a, b, _| (a & b) & 0xffff_ffff, 2),
        "or.b32" => (|a, b, _| (a | b) & 0xffff_ffff, 2),
        "xor.b32" => (|a, b, _| (a ^ b) & 0xffff_ffff, 2),
        "not.b32" => (|a, _, _| u64::from(!(a as u32)), 1),
        "and.b64" => (|a, b, _| a & b, 2),
        "or.b64" => (|a, b, _| a | b, 2),
        "and.pred" => (|a, b, _| a & b, 2),
        "not.pred" => (|a, _, _| a ^ 1, 1),
        "or.pred" => (|a, b, _| a | b, 2),
        "shl.b32" => (|a, b, _| u64::from((a as u32).checked_shl(b as u32).unwrap_or(0)), 2),
        "shr.u32" => (|a, b, _| u64::from((a as u32).checked_shr(b as u32).unwrap_or(0)), 2),
        "shr.s32" => (|a, b, _| u64::from(((a as i32) >> (b as u32).min(31)) as u32), 2),
        "shl.b64" => (|a, b, _| a.checked_shl(b as u32).unwrap_or(0), 2),
        // Bits from a place on, so many.
        "bfe.u32" => (|a, b, c| (a as u32 >> b & ((1u64 << c) - 1) as u32).into(), 3),
        "bfe.s32" => (|a, b, c| u64::from(((a as i32) << (32 - b - c) >> (32 - c)) as u32), 3),
        "selp.u32" | "selp.f32" | "selp.f64" | "selp.u64" | "selp.b32" => {
            (|a, b, c| if c != 0 { a } else { b }, 3)
        }
        "add.rn.f32" => (|a, b, _| bits(single(a) + single(b)), 2),
        "sub.rn.f32" => (|a, b, _| bits(single(a) - single(b)), 2),
        "mul.rn.f32" => (|a, b, _| bits(single(a) * single(b)), 2),
        "div.rn.f32" => (|a, b, _| bits(single(a) / single(b)), 2),
        "fma.rn.f32" => (|a, b, c| bits(single(a).mul_add(single(b), single(c))), 3),
        "max.f32" => (|a, b, _| bits(larger(single(a), single(b))), 2),
        "min.f32" => (|a, b, _| bits(-larger(-single(a), -single(b))), 2),
        "abs.f32" => (|a, _, _| bits(single(a).abs()), 1),
        "neg.f32" => (|a, _, _| bits(-single(a)), 1),
        "rcp.rn.f32" => (|a, _, _| bits(1.0 / single(a)), 1),
        "sqrt.rn.f32" => (|a, _, _| bits(single(a).sqrt()), 1),
        "ex2.approx.f32" => (|a, _, _| bits(ex2(single(a))), 1),
        "cvt.rzi.u32.f32" => (|a, _, _| u64::from(single(a) as u32), 1),
        "cvt.rni.f32.f32" => (|a, _, _| bits(single(a).round_ties_even()), 1),
        "cvt.rni.s32.f32" => (|a, _, _| clamp_to_s32(f64::from(single(a))), 1),
        "cvt.rn.f32.u32" => (|a, _, _| bits(a as u32 as f32), 1),
        "cvt.rn.f32.s32" => (|a, _, _| bits(a as u32 as i32 as f32), 1),
        "cvt.f32.f16" => (|a, _, _| bits(f16::from_bits(a as u16).to_f32()), 1),
        "cvt.rn.f16.f32" => (|a, _, _| narrow(a), 1),
        // The first operand goes to the upper half.
        "cvt.rn.f16x2.f32" => (|a, b, _| narrow(a) << 16 | narrow(b), 2),
        "cvt.rna.tf32.f32" => (|a, _, _| tf32(a), 1),
        "cvt.f64.f32" => (|a, _, _| f64::from(single(a)).to_bits(), 1),
        "cvt.rn.f32.f64" => (|a, _, _| bits(double(a) as f32), 1),
        "cvt.rni.f64.f64" => (|a, _, _| double(a).round_ties_even().to_bits(), 1),
        "cvt.rni.s32.f64" => (|a, _, _| clamp_to_s32(double(a)), 1),
        "add.rn.f64" => (|a, b, _| (double(a) + double(b)).to_bits(), 2),
        "sub.rn.f64" => (|a, b, _| (double(a) - double(b)).to_bits(), 2),
        "mul.rn.f64" => (|a, b, _| (double(a) * double(b)).to_bits(), 2),
        "div.rn.f64" => (|a, b, _| (double(a) / double(b)).to_bits(), 2),
        "fma.rn.f64" => (|a, b, c| double(a).mul_add(double(b), double(c)).to_bits(), 3),
        "abs.f64" => (|a, _, _| double(a).abs().to_bits(), 1),
        "cvt.rn.f64.u32" => (|a, _, _| f64::from(a as u32).to_bits(), 1),
        "cvt.rn.f64.s32" => (|a, _, _| f64::from(a as u32 as i32).to_bits(), 1),
        "max.f64" => (|a, b, _| double(a).max(double(b)).to_bits(), 2),
        _ => return None,
    };
    Some(found)
}

/// The comparison of `setp.COMPARISON.TYPE`.
pub fn comparison(name: &str, kind: &str) -> Option<fn(u64, u64) -> bool> {
    let found: fn(u64, u64) -> bool = match (name, kind) {
        ("eq", "u32" | "s32" | "b32") => |a, b| a as u32 == b as u32,
        ("ne", "u32" | "s32" | "b32") => |a, b| a as u32 != b as u32,
        ("lt", "u32") => |a, b| (a as u32) < b as u32,
        ("le", "u32") => |a, b| a as u32 <= b as u32,
        ("gt", "u32") => |a, b| a as u32 > b as u32,
        ("ge", "u32") => |a, b| a as u32 >= b as u32,
        ("lt", "s32") => |a, b| (a as i32) < b as i32,
        ("le", "s32") => |a, b| a as i32 <= b as i32,
        ("gt", "s32") => |a, b| a as i32 > b as i32,
        ("ge", "s32") => |a, b| a as i32 >= b as i32,
        ("eq", "u64" | "b64") => |a, b| a == b,
        ("ne", "u64" | "b64") => |a, b| a != b,
        ("lt", "u64") => |a, b| a < b,
        ("le", "u64") => |a, b| a <= b,
        ("gt", "u64") => |a, b| a > b,
        ("ge", "u64") => |a, b| a >= b,
        ("eq", "f32") => |a, b| single(a) == single(b),
        // Unordered: also where one is NaN.
        ("neu", "f32") => |a, b| single(a) != single(b),
        ("lt", "f32") => |a, b| single(a) < single(b),
        ("le", "f32") => |a, b| single(a) <= single(b),
        ("gt", "f32") => |a, b| single(a) > single(b),
        ("ge", "f32") => |a, b| single(a) >= single(b),
        ("nan", "f32") => |a, b| single(a).is_nan() || single(b).is_nan(),
        ("gt", "f64") => |a, b| double(a) > double(b),
        ("lt", "f64") => |a, b| double(a) < double(b),
        _ => return None,
    };
    Some(found)
}
