//! Choosing a token from logits: the parameters of [`Backend::select_token`], and its definition on the host.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::{Backend, View, check};
use crate::error::Result;
use crate::sort::keep_first_by;
use crate::trp::log_probability;

/// Parameters of [`Backend::select_token`].
pub struct SelectToken<'a> {
    /// The ids that may be chosen, 64 a word, the smallest lowest; an id beyond the words may not.
    pub allowed: &'a [u64],
    /// Divides the logits; 0 takes the likeliest token, the lowest id among equals.
    pub temperature: f32,
    /// Draws among the `top_k` likeliest tokens; 0 is for all.
    pub top_k: usize,
    /// Draws among the likeliest tokens whose probabilities, after temperature and top-k, reach `top_p`.
    pub top_p: f32,
    /// The random number of this draw, in [0, 1).
    pub uniform: f64,
    /// Scratch that a caller keeps from draw to draw.
    pub candidates: &'a mut Vec<(u32, f32)>,
}

/// What [`Backend::select_token`] gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Selected {
    /// A token.
    Token {
        /// Its id.
        id: u32,
        /// Its natural log-softmax among all logits at temperature 1.
        log_probability: f32,
    },
    /// No token is allowed.
    Nothing,
    /// A logit is NaN or infinite.
    NotFinite,
}

/// [`Backend::select_token`] on the host: brings the logits there.
///
/// # Errors
/// As [`Backend::select_token`].
pub(crate) fn on_host<B: Backend>(
    backend: &B,
    logits: View<B>,
    select: &mut SelectToken,
) -> Result<Selected> {
    check::select_token(logits)?;
    let mut host = backend.arena().take("logits", logits.cols())?;
    backend.download_to(logits, &mut host)?;
    if backend.arena().is_measuring() {
        return Ok(Selected::Nothing);
    }
    if !all_finite(&host) {
        return Ok(Selected::NotFinite);
    }
    let word = |id: u32| select.allowed.get(id as usize / 64).copied().unwrap_or(0);
    let allowed = |id: u32| word(id) >> (id % 64) & 1 == 1;
    let draw = Draw { temperature: select.temperature, top_k: select.top_k, top_p: select.top_p };
    Ok(match choose(&host, allowed, draw, || select.uniform, select.candidates) {
        Some(id) => Selected::Token { id, log_probability: log_probability(&host, id) },
        None => Selected::Nothing,
    })
}

pub(crate) fn all_finite(logits: &[f32]) -> bool {
    logits.iter().all(|logit| logit.is_finite())
}

/// How a token is drawn, as in [`SelectToken`].
#[derive(Clone, Copy)]
pub(crate) struct Draw {
    pub(crate) temperature: f32,
    pub(crate) top_k: usize,
    pub(crate) top_p: f32,
}

/// Chooses among the ids for which `allowed` is true; `None` where there is none. `uniform` is asked once where a token is
/// drawn.
pub(crate) fn choose(
    logits: &[f32],
    allowed: impl Fn(u32) -> bool,
    draw: Draw,
    uniform: impl FnOnce() -> f64,
    candidates: &mut Vec<(u32, f32)>,
) -> Option<u32> {
    let ids = (0..logits.len() as u32).zip(logits.iter().copied()).filter(|&(id, _)| allowed(id));
    if draw.temperature == 0.0 {
        return ids.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(id, _)| id);
    }
    candidates.clear();
    candidates.extend(ids);
    let likeliest_first = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let count = if draw.top_k > 0 { draw.top_k } else { candidates.len() };
    keep_first_by(candidates, count, likeliest_first);
    let largest = candidates.first()?.1;
    let temperature = f64::from(draw.temperature);
    let weight = |logit: f32| libm::exp((f64::from(logit) - f64::from(largest)) / temperature);
    let total: f64 = candidates.iter().map(|&(_, logit)| weight(logit)).sum();
    let mut kept = 0.0;
    let mut count = 0;
    for &(_, logit) in candidates.iter() {
        if count > 0 && kept >= f64::from(draw.top_p) * total {
            break;
        }
        kept += weight(logit);
        count += 1;
    }
    let mut left = uniform() * kept;
    let kept = candidates.get(..count)?;
    for &(id, logit) in kept {
        left -= weight(logit);
        if left < 0.0 {
            return Some(id);
        }
    }
    kept.last().map(|&(id, _)| id)
}
