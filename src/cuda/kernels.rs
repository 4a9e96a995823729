//! Kernels on a device: compiled by its driver, each in the fastest variant that the driver takes.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec::Vec;
use std::sync::{PoisonError, RwLock};

use super::driver::{Context, Function};
use super::kernel::{Kernel, Text};
use crate::error::{Error, Result};

/// Every kernel, ready to launch.
pub(super) struct Kernels {
    context: Context,
    /// In the order of [`Kernel::ALL`]; `None` for one that the device is without.
    loaded: Vec<RwLock<Option<Loaded>>>,
}

/// A kernel, and the variants that are left should it turn out wrong.
struct Loaded {
    function: Function,
    name: &'static str,
    left: Vec<Text>,
}

impl Kernels {
    /// Compiles every kernel.
    ///
    /// # Errors
    /// [`Error::Device`] with what the driver's compiler says of the simplest variant of a kernel.
    pub(super) fn load(context: &Context) -> Result<Kernels> {
        let compute = context.info().compute;
        let load = |kernel: Kernel| {
            let texts = kernel.texts().iter().copied().filter(|text| text.suits(compute)).collect();
            compile(context, kernel, texts).map(RwLock::new)
        };
        let loaded = Kernel::ALL.into_iter().map(load).collect::<Result<Vec<_>>>()?;
        Ok(Kernels { context: context.clone(), loaded })
    }

    /// Replaces a kernel by its next simpler variant, or by none where the device may be without it; false where that cannot be.
    ///
    /// # Errors
    /// As [`Kernels::load`].
    pub(super) fn step_down(&self, kernel: Kernel) -> Result<bool> {
        let Some(loaded) = self.loaded.get(kernel as usize) else { return Ok(false) };
        let mut loaded = loaded.write().unwrap_or_else(PoisonError::into_inner);
        let left = loaded.as_mut().map(|loaded| core::mem::take(&mut loaded.left)).unwrap_or_default();
        if left.is_empty() && !kernel.is_optional() {
            return Ok(false);
        }
        *loaded = compile(&self.context, kernel, left)?;
        Ok(true)
    }

    /// Hands a kernel to `work`.
    ///
    /// # Errors
    /// Those of `work`.
    pub(super) fn with<T>(&self, kernel: Kernel, work: impl FnOnce(&Function) -> Result<T>) -> Result<T> {
        let missing = || Error::Shape { operand: "kernel", reason: format!("{kernel:?} is not loaded") };
        let loaded = self.loaded.get(kernel as usize).ok_or_else(missing)?;
        let loaded = loaded.read().unwrap_or_else(PoisonError::into_inner);
        work(&loaded.as_ref().ok_or_else(missing)?.function)
    }

    /// Name of the variant in use; `None` where the device is without the kernel.
    pub(super) fn variant(&self, kernel: Kernel) -> Option<&'static str> {
        let loaded = self.loaded.get(kernel as usize)?.read().unwrap_or_else(PoisonError::into_inner);
        loaded.as_ref().map(|loaded| loaded.name)
    }
}

/// The first of `texts` that the driver takes; `None` where it takes none and need not.
fn compile(context: &Context, kernel: Kernel, texts: Vec<Text>) -> Result<Option<Loaded>> {
    let mut refused = None;
    let mut texts = texts.into_iter();
    while let Some(text) = texts.next() {
        let module = context.module(&format!("{}.ptx", text.name), &text.whole());
        match module.and_then(|module| module.function(&text.entry(), kernel.shared())) {
            Ok(function) => {
                return Ok(Some(Loaded { function, name: text.name, left: texts.collect() }));
            }
            Err(error @ Error::Device { lost: true, .. }) => return Err(error),
            Err(error) => refused = Some(error),
        }
    }
    if kernel.is_optional() {
        return Ok(None);
    }
    Err(refused.unwrap_or_else(|| Error::Device {
        call: "cuModuleLoadDataEx",
        reason: format!("{kernel:?} has no variant for this device"),
        lost: false,
    }))
}
