//! Where a model computes, chosen when the program runs: `auto`, `cpu` or `cuda:N`.
//!
//! Model code is generic over its backend, and a program that leaves the choice to its user names it once, at its edge:
//!
//! ```no_run
//! use triplet::backend::Backend;
//! use triplet::device::{Device, OnBackend};
//! use triplet::{Cpu, Model, Result};
//!
//! struct Count;
//!
//! impl OnBackend for Count {
//!     type Out = Result<usize>;
//!
//!     fn run<B: Backend>(self, backend: B) -> Result<usize> {
//!         Ok(Model::open_on(backend, "examples/tabletop/model")?.heads().len())
//!     }
//! }
//!
//! let device: Device = "auto".parse()?;
//! let opened = device.open(Cpu::new())?;
//! eprintln!("computing on {opened}");
//! println!("{} kinds of targets", opened.run(Count)?);
//! # Ok::<(), triplet::Error>(())
//! ```
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use crate::backend::Backend;
use crate::cpu::Cpu;
#[cfg(feature = "cuda")]
use crate::cuda::Cuda;
#[cfg(feature = "cuda")]
use crate::cuda::driver::Driver;
use crate::error::{Error, Result};

/// A choice of backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The first GPU that works, or the CPU where none does.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU of this number, from 0, as the driver counts.
    Cuda(usize),
}

/// What a choice came to.
#[derive(Clone)]
#[non_exhaustive]
pub enum Opened {
    /// The CPU.
    Cpu {
        /// The backend.
        cpu: Cpu,
        /// Why it is no GPU, where a GPU would have been taken.
        because: Option<Error>,
    },
    /// A GPU.
    #[cfg(feature = "cuda")]
    Cuda(Cuda),
}

/// What a program does on whatever backend was chosen.
pub trait OnBackend {
    /// What comes of it.
    type Out;

    /// Does it.
    fn run<B: Backend>(self, backend: B) -> Self::Out;
}

impl Device {
    /// Opens the device; `cpu` is the CPU's backend, for where it comes to that. The driver is looked for only where a GPU
    /// may be taken.
    ///
    /// # Errors
    /// Of a GPU that was asked for by number alone: [`Error::Input`] `device` where there is no such GPU or this build is
    /// without the feature `cuda`, [`Error::Device`] where there is no driver or it refuses. [`Device::Auto`] and
    /// [`Device::Cpu`] always open.
    pub fn open(self, cpu: Cpu) -> Result<Opened> {
        #[cfg(feature = "cuda")]
        return self.open_with(cpu, Driver::open);
        #[cfg(not(feature = "cuda"))]
        {
            let without = |name: Device| wrong(format!("{name}: this build is without the feature cuda"));
            match self {
                Device::Cpu => Ok(Opened::Cpu { cpu, because: None }),
                Device::Auto => Ok(Opened::Cpu { cpu, because: Some(without(Device::Cuda(0))) }),
                Device::Cuda(_) => Err(without(self)),
            }
        }
    }

    /// As [`Device::open`], with the driver that `driver` gives.
    ///
    /// # Errors
    /// As [`Device::open`].
    #[cfg(feature = "cuda")]
    pub fn open_with(self, cpu: Cpu, driver: impl FnOnce() -> Result<Driver>) -> Result<Opened> {
        match self {
            Device::Cpu => Ok(Opened::Cpu { cpu, because: None }),
            Device::Cuda(ordinal) => Ok(Opened::Cuda(Cuda::with_driver(&driver()?, ordinal)?)),
            Device::Auto => match driver().and_then(|driver| first(&driver)) {
                Ok(cuda) => Ok(Opened::Cuda(cuda)),
                Err(error) => Ok(Opened::Cpu { cpu, because: Some(error) }),
            },
        }
    }
}

/// The first GPU that works; the error is that of the first that does not.
#[cfg(feature = "cuda")]
fn first(driver: &Driver) -> Result<Cuda> {
    let mut refused = None;
    for ordinal in 0..driver.devices()? {
        match Cuda::with_driver(driver, ordinal) {
            Ok(cuda) => return Ok(cuda),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| wrong("the driver knows no GPU".into())))
}

impl Opened {
    /// The device by the name that chooses it: `cpu`, `cuda:0`.
    pub fn device(&self) -> Device {
        match self {
            Opened::Cpu { .. } => Device::Cpu,
            #[cfg(feature = "cuda")]
            Opened::Cuda(cuda) => Device::Cuda(cuda.info().ordinal),
        }
    }

    /// Does `work` on the device.
    pub fn run<W: OnBackend>(self, work: W) -> W::Out {
        match self {
            Opened::Cpu { cpu, .. } => work.run(cpu),
            #[cfg(feature = "cuda")]
            Opened::Cuda(cuda) => work.run(cuda),
        }
    }
}

impl fmt::Display for Opened {
    /// For example `cuda:0 (NVIDIA H100 80GB HBM3)`, or `cpu (no GPU: ` and the reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Opened::Cpu { because: None, .. } => f.write_str("cpu"),
            Opened::Cpu { because: Some(error), .. } => write!(f, "cpu (no GPU: {error})"),
            #[cfg(feature = "cuda")]
            Opened::Cuda(cuda) => write!(f, "{} ({})", self.device(), cuda.info().name),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// `auto`, `cpu`, `cuda` (the first one) or `cuda:N`.
    fn from_str(text: &str) -> Result<Device> {
        match (text, text.strip_prefix("cuda:")) {
            ("auto", _) => Ok(Device::Auto),
            ("cpu", _) => Ok(Device::Cpu),
            ("cuda", _) => Ok(Device::Cuda(0)),
            (_, Some(number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => number
                .parse()
                .map(Device::Cuda)
                .map_err(|_| wrong(format!("{text}: {number:?} is not the number of a GPU"))),
            _ => Err(wrong(format!("{text:?} is none of auto, cpu, cuda:0, cuda:1, ..."))),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

fn wrong(reason: String) -> Error {
    Error::Input { field: "device", reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    struct Answer;

    impl OnBackend for Answer {
        type Out = u32;

        fn run<B: Backend>(self, _backend: B) -> u32 {
            42
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for device in [Device::Auto, Device::Cpu, Device::Cuda(0), Device::Cuda(12)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        let huge = "cuda:99999999999999999999999";
        for text in ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:+1", "cuda:1x", "cuda: 1", "auto ", huge] {
            let error = text.parse::<Device>().unwrap_err();
            assert!(matches!(error, Error::Input { field: "device", .. }), "{text}: {error}");
        }
    }

    #[test]
    fn the_cpu_is_always_there_and_a_missing_gpu_is_an_error() {
        for device in [Device::Auto, Device::Cpu] {
            let opened = device.open(Cpu::with_threads(1)).unwrap();
            assert_eq!(opened.device() == Device::Cpu, opened.to_string().starts_with("cpu"));
            assert_eq!(opened.run(Answer), 42);
        }
        assert_eq!(Device::Cpu.open(Cpu::with_threads(1)).unwrap().to_string(), "cpu");
        let error = Device::Cuda(77).open(Cpu::with_threads(1)).err().unwrap();
        assert!(matches!(error, Error::Input { field: "device", .. } | Error::Device { .. }), "{error}");
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn without_a_driver_auto_is_the_cpu_and_says_why() {
        let none = || Err(Error::Device { call: "dlopen", reason: "no driver".into(), lost: false });
        let opened = Device::Auto.open_with(Cpu::with_threads(1), none).unwrap();
        assert_eq!(opened.device(), Device::Cpu);
        assert!(opened.to_string().starts_with("cpu (no GPU: ") && opened.to_string().contains("no driver"));
        assert!(Device::Cuda(0).open_with(Cpu::with_threads(1), none).is_err());
        assert_eq!(
            Device::Cpu.open_with(Cpu::with_threads(1), || panic!("is not asked")).unwrap().to_string(),
            "cpu"
        );
    }
}
