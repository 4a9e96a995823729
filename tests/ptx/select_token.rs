//! select_token against the sampler of the host.

use triplet::language::{Sampler, Sampling};
use triplet::reference::uniform;

use super::launch::{Arg, Kernels};
use super::memory::Memory;
use Arg::{Address, Double, Number, Single};

/// The random numbers of a seed, as the host's sampler draws them (SplitMix64).
fn random(seed: u64, draw: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(draw + 1));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn run(
    kernels: &Kernels,
    logits: &[f32],
    mask: Option<&[u32]>,
    sampling: Sampling,
    uniform: f64,
) -> Result<[u32; 2], String> {
    let memory = Memory::new();
    let out = memory.room(8, 0);
    let args = [
        Address(out),
        Address(memory.matrix(logits, logits.len(), logits.len(), 4)),
        Address(mask.map_or(0, |mask| memory.words(mask))),
        Number(logits.len()),
        Number(sampling.top_k),
        Single(sampling.temperature),
        Single(sampling.top_p),
        Double(uniform),
    ];
    kernels.launch("select_token", [1, 1, 1], 1024, 0, &args, &memory)?;
    let out = memory.read(out, 2)?;
    Ok([out[0], out[1]])
}

/// Words of 64 bits as pairs, with the ids for which `allowed` is true.
fn words(n: usize, allowed: impl Fn(u32) -> bool) -> Vec<u32> {
    let mut words = vec![0; n.div_ceil(64) * 2];
    for id in (0..n as u32).filter(|&id| allowed(id)) {
        words[id as usize / 32] |= 1 << (id % 32);
    }
    words
}

/// Greedy and drawn, with and without a mask, ties, zeros of both signs, logits that are not finite.
pub fn select_token(kernels: &Kernels) -> Result<(), String> {
    let drawn = |temperature, top_k, top_p| Sampling { temperature, top_k, top_p, seed: 9 };
    let samplings = [
        Sampling::GREEDY,
        Sampling::reference(3),
        drawn(1.0, 5, 1.0),
        drawn(2.0, 64, 0.5),
        drawn(0.7, 1, 0.3),
        drawn(3.0, 40, 1.0),
    ];
    for n in [1, 70, 2050] {
        let mut logits: Vec<f32> = uniform(n, 51).iter().map(|x| 4.0 * x).collect();
        if n > 30 {
            (logits[7], logits[30]) = (5.0, 5.0);
        }
        if n > 2000 {
            // Where the second round of threads begins.
            logits[1024] = 6.0;
        }
        for (i, sampling) in samplings.into_iter().enumerate().take(if n > 2000 { 3 } else { 6 }) {
            for every in [1, 3] {
                let allowed = |id: u32| every == 1 || id.is_multiple_of(every);
                let mask = (every != 1).then(|| words(n, allowed));
                let mut sampler = Sampler::new(sampling).map_err(|error| error.to_string())?;
                for draw in 0..if i == 0 || n > 2000 { 1 } else { 3 } {
                    let want = sampler.choose(&logits, allowed).map_err(|error| error.to_string())?;
                    let got = run(kernels, &logits, mask.as_deref(), sampling, random(sampling.seed, draw))?;
                    if got != [want.unwrap_or(u32::MAX), 0] {
                        return Err(format!(
                            "select_token {n} {sampling:?} draw {draw}: {got:?}, not {want:?}"
                        ));
                    }
                }
            }
        }
    }
    // A random number just before and just behind the border between two candidates: the weights are good to 1e-9.
    for logits in [[0.3f32, -1.2, 2.0, 0.9, -5.0], [-1.3, -3.2, -0.1, -0.9, -5.0]] {
        let mut order = [0, 1, 2, 3, 4];
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let weights =
            order.map(|id: usize| ((f64::from(logits[id]) - f64::from(logits[2])) / f64::from(1.7f32)).exp());
        let total: f64 = weights.iter().sum();
        let mut before = 0.0;
        for (i, weight) in weights.iter().enumerate().take(4) {
            before += weight / total;
            for (uniform, want) in [(before - 1e-9, order[i]), (before + 1e-9, order[i + 1])] {
                let got = run(kernels, &logits, None, drawn(1.7, 5, 1.0), uniform)?;
                if got != [want as u32, 0] {
                    return Err(format!("select_token: {uniform} draws {got:?}, not {want}"));
                }
            }
        }
    }
    let zeros = [-1.0, -0.0, 0.0, -3.0];
    if run(kernels, &zeros, None, Sampling::GREEDY, 0.0)? != [1, 0] {
        return Err("select_token: zeros of both signs are not equal".into());
    }
    if run(kernels, &[0.0, 1.0], None, Sampling::GREEDY, 0.0)? != [1, 0] {
        return Err("select_token: 0 counts as more than 1".into());
    }
    let negative = [-3.0, -1.0, -2.0];
    if run(kernels, &negative, None, drawn(0.01, 2, 1.0), 0.5)? != [1, 0] {
        return Err("select_token: the largest of negative logits is not drawn".into());
    }
    if run(kernels, &negative, Some(&[0, 0]), Sampling::GREEDY, 0.0)? != [u32::MAX, 0] {
        return Err("select_token: chooses where nothing is allowed".into());
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        if run(kernels, &[0.0, bad, 1.0], Some(&[5, 0]), Sampling::GREEDY, 0.0)?[1] != 1 {
            return Err(format!("select_token: {bad} is not reported"));
        }
    }
    Ok(())
}

/// `log_probability` of logits of one and of several rounds of threads, the largest in any of them; of an id beyond the last the
/// last counts.
pub fn log_probability(kernels: &Kernels) -> Result<(), String> {
    for (n, id, raised) in
        [(1, 0, 0), (3, 2, 1), (70, 69, 33), (70, 700, 33), (1024, 5, 1023), (2050, 1500, 2049)]
    {
        let mut logits: Vec<f32> = uniform(n, 52).iter().map(|x| 4.0 * x - 3.0).collect();
        logits[raised] += 6.0;
        let memory = Memory::new();
        let out = memory.room(8, 0);
        let args = [
            Address(out),
            Address(memory.matrix(&logits, n, n, 4)),
            Address(memory.words(&[id as u32])),
            Number(n),
        ];
        kernels.launch("log_probability", [1, 1, 1], 1024, 0, &args, &memory)?;
        let [below, sum] =
            [0, 1].map(|i| memory.read(out, 2).map(|words| f64::from(f32::from_bits(words[i]))));
        let (below, sum) = (below?, sum?);
        let largest = logits.iter().fold(f64::MIN, |most, &x| most.max(x.into()));
        let want_sum: f64 = logits.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
        if below != f64::from((f64::from(logits[id.min(n - 1)]) - largest) as f32) {
            return Err(format!("log_probability {n}: {below} below the largest"));
        }
        let off = (sum / want_sum - 1.0).abs();
        if off.is_nan() || off > 1e-6 {
            return Err(format!("log_probability {n}: the sum is {sum}, not {want_sum}"));
        }
    }
    Ok(())
}

#[test]
fn tokens() {
    select_token(&Kernels::new(8)).unwrap();
    log_probability(&Kernels::new(8)).unwrap();
    log_probability(&Kernels::new(108)).unwrap();
}
