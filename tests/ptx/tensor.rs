//! Products of tensor cores by the layout of their fragments. With g = lane / 4 and t = lane mod 4 a lane of an m16n8k8 product
//! of tf32 holds of the left matrix (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4), of the right one (t, g), (t + 4, g) and of the
//! sums (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1). Of f16 it holds pairs, the lower in the lower half: of the left matrix
//! (g, 2 t), (g, 2 t + 1) and (g + 8, 2 t), (g + 8, 2 t + 1), of the right one (2 t, g), (2 t + 1, g); the sums are the same.

use half::f16;

/// What the 32 lanes hold of one register.
pub type Lanes = [u64; 32];

fn tf32(bits: u64) -> Result<f64, String> {
    match bits & 0x1fff {
        0 => Ok(f64::from(f32::from_bits(bits as u32))),
        _ => Err("multiplies a number that was not rounded to tf32".into()),
    }
}

/// The sum rounded toward zero: tensor cores drop what does not fit.
pub fn truncated(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest).abs() > x.abs() && nearest.is_finite() {
        return f32::from_bits(nearest.to_bits() - 1);
    }
    nearest
}

/// `a b + c` by registers: 4 of `a`, 2 of `b`, 4 of `c` and of the result.
pub fn m16n8k8_tf32(a: &[&Lanes], b: &[&Lanes], c: &[&Lanes]) -> Result<[Lanes; 4], String> {
    let mut sums = [[0; 32]; 4];
    for row in 0..16 {
        for col in 0..8 {
            let register = col % 2 + 2 * (row / 8);
            let lane = row % 8 * 4 + col / 2;
            let mut sum = f64::from(f32::from_bits(c[register][lane] as u32));
            for k in 0..8 {
                let left = a[row / 8 + 2 * (k / 4)][row % 8 * 4 + k % 4];
                let right = b[k / 4][col * 4 + k % 4];
                sum += tf32(left)? * tf32(right)?;
            }
            sums[register][lane] = u64::from(truncated(sum).to_bits());
        }
    }
    Ok(sums)
}

/// `a b + c` of f16 by registers: 2 of `a`, 1 of `b`, 4 of `c` and of the result.
pub fn m16n8k8_f16(a: &[&Lanes], b: &[&Lanes], c: &[&Lanes]) -> [Lanes; 4] {
    let number = |pair: u64, high: usize| f64::from(f16::from_bits((pair >> (16 * high)) as u16).to_f32());
    let mut sums = [[0; 32]; 4];
    for row in 0..16 {
        for col in 0..8 {
            let register = col % 2 + 2 * (row / 8);
            let lane = row % 8 * 4 + col / 2;
            let before = f64::from(f32::from_bits(c[register][lane] as u32));
            let sum = (0..8).fold(before, |sum, k| {
                let left = number(a[row / 8][row % 8 * 4 + k / 2], k % 2);
                sum + left * number(b[0][col * 4 + k / 2], k % 2)
            });
            sums[register][lane] = u64::from(truncated(sum).to_bits());
        }
    }
    sums
}

/// What `ldmatrix` puts into the lanes from the 8 rows of a matrix of 8 by 8 numbers of 16 bits: numbers 2 t and 2 t + 1 of row g,
/// or, transposed, number g of rows 2 t and 2 t + 1.
pub fn matrix(rows: &[[u8; 16]], transposed: bool) -> Lanes {
    let number =
        |row: usize, col: usize| u64::from(u16::from_le_bytes([rows[row][2 * col], rows[row][2 * col + 1]]));
    std::array::from_fn(|lane| {
        let (g, t) = (lane / 4, lane % 4);
        match transposed {
            false => number(g, 2 * t) | number(g, 2 * t + 1) << 16,
            true => number(2 * t, g) | number(2 * t + 1, g) << 16,
        }
    })
}

#[test]
fn a_product_of_pairs_is_the_product() {
    let value = |i: usize| f64::from((i * 37 % 64) as u32) - 32.0;
    let bits = |x: f64| f16::from_f64(x).to_le_bytes();
    // Both operands come from matrices in memory: the left one by its rows, the right one, transposed, by its own.
    let row = |first: usize, row: usize| {
        let mut bytes = [0; 16];
        (0..8).for_each(|i| bytes[2 * i..2 * i + 2].copy_from_slice(&bits(value(first + row * 8 + i))));
        bytes
    };
    let rows: Vec<[u8; 16]> = (0..16).map(|i| row(0, i)).collect();
    let right: Vec<[u8; 16]> = (0..8).map(|k| row(500, k)).collect();
    let a = [matrix(&rows[..8], false), matrix(&rows[8..], false)];
    let b = [matrix(&right, true)];
    let c = [[u64::from(0.5f32.to_bits()); 32]; 4];
    let sums = m16n8k8_f16(&a.each_ref(), &b.each_ref(), &c.each_ref());
    for (lane, g, t) in (0..32).map(|lane| (lane, lane / 4, lane % 4)) {
        for (i, (row, col)) in
            [(g, 2 * t), (g, 2 * t + 1), (g + 8, 2 * t), (g + 8, 2 * t + 1)].into_iter().enumerate()
        {
            let want: f64 = (0..8).map(|k| value(row * 8 + k) * value(500 + k * 8 + col)).sum::<f64>() + 0.5;
            assert_eq!(f32::from_bits(sums[i][lane] as u32), want as f32);
        }
    }
}

#[test]
fn a_product_by_fragments_is_the_product() {
    let value = |i: usize| f64::from((i * 37 % 64) as u32) - 32.0;
    let (mut a, mut b) = ([[0; 32]; 4], [[0; 32]; 2]);
    let bits = |x: f64| u64::from((x as f32).to_bits());
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        for (i, (row, k)) in [(g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)].into_iter().enumerate() {
            a[i][lane] = bits(value(row * 8 + k));
        }
        for (i, k) in [t, t + 4].into_iter().enumerate() {
            b[i][lane] = bits(value(500 + k * 8 + g));
        }
    }
    let c = [[bits(0.5); 32]; 4];
    let sums = m16n8k8_tf32(&a.each_ref(), &b.each_ref(), &c.each_ref()).unwrap();
    for (lane, g, t) in (0..32).map(|lane| (lane, lane / 4, lane % 4)) {
        for (i, (row, col)) in
            [(g, 2 * t), (g, 2 * t + 1), (g + 8, 2 * t), (g + 8, 2 * t + 1)].into_iter().enumerate()
        {
            let want: f64 = (0..8).map(|k| value(row * 8 + k) * value(500 + k * 8 + col)).sum::<f64>() + 0.5;
            assert_eq!(f32::from_bits(sums[i][lane] as u32), want as f32);
        }
    }
    let rough = [[bits(1.0) + 1; 32]; 4];
    assert!(m16n8k8_tf32(&rough.each_ref(), &b.each_ref(), &c.each_ref()).is_err());
}
