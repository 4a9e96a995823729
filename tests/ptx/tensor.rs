//! Products of tensor cores by the layout of their fragments. With g = lane / 4 and t = lane mod 4 a lane of an m16n8k8 product
//! of tf32 holds of the left matrix (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4), of the right one (t, g), (t + 4, g) and of the
//! sums (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1).

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
