//! The learning rate: warm-up by a line, then half a cosine, as timm's scheduler by updates.
#![forbid(unsafe_code)]

use alloc::string::ToString;

use crate::error::{Error, Result};

/// Learning rates of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The largest rate.
    pub rate: f64,
    /// The rate at the end.
    pub last: f64,
    /// The rate of the first update where there is a warm-up.
    pub first: f64,
    /// Updates of the warm-up; they count as updates of the cosine.
    pub warmup: u64,
    /// Updates in all.
    pub updates: u64,
}

impl Schedule {
    /// Half a cosine from `rate` to a tenth of it, without a warm-up: the published recipe.
    pub const fn cosine(rate: f64, updates: u64) -> Schedule {
        Schedule { rate, last: rate / 10.0, first: rate / 10.0, warmup: 0, updates }
    }

    /// # Errors
    /// [`Error::Input`] naming the field.
    pub(super) fn check(&self) -> Result<()> {
        let rates =
            [("schedule.rate", self.rate), ("schedule.last", self.last), ("schedule.first", self.first)];
        for (field, rate) in rates {
            if !(rate >= 0.0 && rate.is_finite()) {
                return Err(Error::Input { field, reason: "must be finite and not negative".to_string() });
            }
        }
        if self.updates == 0 {
            return Err(Error::Input { field: "schedule.updates", reason: "must be above 0".to_string() });
        }
        Ok(())
    }

    /// The rate of update `update`, counted from 0; [`Schedule::last`] beyond the end.
    pub fn at(&self, update: u64) -> f64 {
        if update < self.warmup {
            return self.first + update as f64 * (self.rate - self.first) / self.warmup as f64;
        }
        if update >= self.updates {
            return self.last;
        }
        let angle = core::f64::consts::PI * update as f64 / self.updates as f64;
        self.last + 0.5 * (self.rate - self.last) * (1.0 + libm::cos(angle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_and_comes_down() {
        let schedule = Schedule { rate: 1.0, last: 0.1, first: 0.2, warmup: 4, updates: 20 };
        assert!(schedule.at(0) == 0.2 && (schedule.at(2) - 0.6).abs() < 1e-12);
        assert!((schedule.at(10) - 0.55).abs() < 1e-12);
        assert_eq!(schedule.at(20), 0.1);
        assert_eq!(schedule.at(1000), 0.1);
        assert!((4..20).all(|update| schedule.at(update) > schedule.at(update + 1)));
        assert!((Schedule::cosine(3e-4, 10).at(0) - 3e-4).abs() < 1e-15);
    }

    #[test]
    fn nonsense_is_refused() {
        let good = Schedule::cosine(1.0, 5);
        assert!(good.check().is_ok());
        assert!(Schedule { updates: 0, ..good }.check().is_err());
        assert!(Schedule { rate: f64::NAN, ..good }.check().is_err());
        assert!(Schedule { first: -1.0, ..good }.check().is_err());
    }
}
