//! The frozen teacher: what the original model makes of pictures with some of their patches set to 0.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::images::{Images, masked};
use super::masks::Masks;
use crate::backend::{Backend, Matrix, Train};
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::vision::{PoolKind, Vit, VitConfig};
use crate::weights::Loader;

/// A vision transformer without its last blocks, its final norm kept.
pub struct Teacher<B: Backend> {
    vit: Vit<B>,
    /// Whether the target is the pooled vector rather than all tokens.
    pooled: bool,
    factor: f32,
}

impl<B: Train> Teacher<B> {
    /// Loads `config` without its last `skip_blocks` blocks. With `prefix_only` the target is the pooled vector, compared
    /// with the prediction at the prefix token.
    ///
    /// # Errors
    /// [`Error::Input`] naming the field where the two options do not go together or the model has no single prefix token;
    /// [`Error::Tensor`].
    pub fn load(
        loader: &Loader<B>,
        config: &VitConfig,
        skip_blocks: usize,
        prefix_only: bool,
    ) -> Result<Teacher<B>> {
        let Some(layers) = config.layers.checked_sub(skip_blocks) else {
            let reason = format!("is {skip_blocks}, but the teacher has {} blocks", config.layers);
            return Err(Error::Input { field: "skip_blocks", reason });
        };
        if prefix_only && (skip_blocks != 0 || config.prefix() != 1 || config.pool == PoolKind::None) {
            let reason = "needs skip_blocks 0, one prefix token and a pooled vector".to_string();
            return Err(Error::Input { field: "prefix_only", reason });
        }
        let mut config = VitConfig { layers, ..config.clone() };
        if !prefix_only {
            config = VitConfig { pool: PoolKind::None, pool_norm: false, ..config };
        }
        Ok(Teacher { vit: Vit::load(loader, &config)?, pooled: prefix_only, factor: 1.0 })
    }

    /// Factor on the targets.
    pub fn factor(&self) -> f32 {
        self.factor
    }

    /// Sets the factor on the targets.
    pub(super) fn set_factor(&mut self, factor: f32) {
        self.factor = factor;
    }

    /// The targets of every mask, those of a picture together: `[pictures * masks * tokens, width]`. Without masks, those of
    /// the whole pictures.
    ///
    /// # Errors
    /// [`Error::Input`] where pictures and masks do not fit the model; [`Error::NonFinite`].
    pub fn targets(&self, backend: &B, images: Images, masks: Option<&Masks>) -> Result<Matrix<B>> {
        let config = self.vit.config();
        images.check(config)?;
        let parts = match masks {
            None => backend
                .side_by_side(images.iter().collect(), |backend, picture| self.target(backend, picture))?,
            Some(masks) => {
                let per_image = masks.per_image();
                let pictures = images.iter().flat_map(|picture| core::iter::repeat_n(picture, per_image));
                let items: Vec<_> = pictures.zip(masks.rows()).collect();
                backend.side_by_side(items, |backend, (picture, mask)| {
                    self.target(backend, &masked(picture, images.side(), config.patch_size, mask))
                })?
            }
        };
        let rows = parts.iter().try_fold(Size::new(0), |rows, part| rows.plus(part.rows()))?.get();
        let mut out = backend.zeros(rows, config.hidden_size)?;
        let mut first = 0;
        for part in parts {
            backend.copy(part.view(), &mut out, first, 0)?;
            first += part.rows();
        }
        Ok(out)
    }

    fn target(&self, backend: &B, picture: &[f32]) -> Result<Matrix<B>> {
        let pixels = backend.upload(picture.len() / 3, 3, picture)?;
        let output = self.vit.forward(backend, pixels.view())?;
        let target = match (self.pooled, output.pooled) {
            (true, Some(pooled)) => pooled,
            _ => output.normed,
        };
        if self.factor == 1.0 {
            return Ok(target);
        }
        let rows: Vec<usize> = (0..target.rows()).collect();
        backend.gather_scaled(target.view(), &rows, &alloc::vec![self.factor; rows.len()])
    }
}

/// Variance of numbers that come in parts: one scalar over everything.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Variance {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Variance {
    /// Takes more numbers (Chan, Golub, LeVeque: two passes inside a part, parts merged exactly).
    pub(super) fn add(&mut self, numbers: &[f32]) {
        let count = numbers.len() as f64;
        if numbers.is_empty() {
            return;
        }
        let mean = numbers.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let squares = numbers.iter().map(|&x| (f64::from(x) - mean) * (f64::from(x) - mean)).sum::<f64>();
        let (total, apart) = (self.count + count, mean - self.mean);
        self.squares += squares + apart * apart * self.count * count / total;
        self.mean += apart * count / total;
        self.count = total;
    }

    /// Without Bessel's correction; 0 without numbers.
    pub(super) fn get(&self) -> f64 {
        if self.count > 0.0 { self.squares / self.count } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variance_of_parts_is_that_of_the_whole() {
        let numbers = crate::reference::large_mean(1000, 1);
        let mut parts = Variance::default();
        for part in numbers.chunks(170) {
            parts.add(part);
        }
        parts.add(&[]);
        let mean = numbers.iter().map(|&x| f64::from(x)).sum::<f64>() / 1000.0;
        let want = numbers.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / 1000.0;
        assert!((parts.get() - want).abs() < 1e-9 * want);
        assert_eq!(Variance::default().get(), 0.0);
    }
}
