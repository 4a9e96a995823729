//! The CUDA driver: the only unsafe code of the GPU backend, and the only place that names `cust`.
//!
//! - Every function of the driver is looked up when a [`Driver`] is opened (`calls.rs`), so that one program runs with and
//!   without a driver: where there is none, opening it is an error like any other.
//! - Every call's result is a number; what is not 0 becomes [`Error::Device`] with the call's name, or [`Error::Memory`].
//! - Handles give back what they hold when they are dropped, and keep alive what they need: a context its driver, memory
//!   and modules their context.
//! - The context is current on a thread only while one of our calls runs there; what was current before comes back.
//! - After an error that ends the context ([`Error::Device`] `lost`) every further call answers the same without asking the
//!   driver.

mod calls;
mod context;
mod event;
mod graph;
mod memory;
mod module;
mod stream;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::ffi::{CStr, c_char, c_void};
use core::ptr;
use std::sync::OnceLock;

pub use context::{Context, DeviceInfo};
pub use event::Event;
pub use graph::{Graph, GraphBuilder};
pub use memory::{DeviceMemory, DevicePointer, HostMemory};
pub use module::{Function, Module};
pub use stream::{MAX_ARGUMENTS, Stream};

use crate::error::{Error, Result};
use calls::{Calls, Code};

/// The oldest driver that works, as `cuDriverGetVersion` counts, and in words.
const OLDEST: i32 = 10020;
const NEEDED: &str = "a driver of CUDA 10.2 or newer is needed";

#[cfg(windows)]
const LIBRARY: &str = "nvcuda.dll";
#[cfg(not(windows))]
const LIBRARY: &str = "libcuda.so.1";

/// The driver of this machine, initialised. Clones share it.
#[derive(Clone)]
pub struct Driver {
    calls: Arc<Calls>,
}

impl Driver {
    /// The driver of this machine. It is looked for once in a process and never let go.
    ///
    /// # Errors
    /// [`Error::Device`] where there is no driver, no GPU that it knows, or where it is too old.
    pub fn open() -> Result<Driver> {
        static OPENED: OnceLock<Result<Driver>> = OnceLock::new();
        OPENED.get_or_init(Driver::load).clone()
    }

    fn load() -> Result<Driver> {
        // SAFETY: the system's own library; what it does when it is loaded is the driver's business.
        let library = unsafe { libloading::Library::new(LIBRARY) }.map_err(|error| Error::Device {
            call: LIBRARY,
            reason: format!("there is no NVIDIA driver here: {error}"),
            lost: false,
        })?;
        let find = |name: &CStr| {
            // SAFETY: nothing is called here.
            let symbol = unsafe { library.get::<*const c_void>(name.to_bytes_with_nul()) };
            symbol.map_or(ptr::null(), |symbol| *symbol)
        };
        // SAFETY: the functions are the driver's, and `library` is never let go.
        let driver = unsafe { Driver::with_functions(&find) };
        core::mem::forget(library);
        driver
    }

    /// A driver whose functions `find` gives by name, null where there is none: for tests.
    ///
    /// # Errors
    /// As [`Driver::open`].
    ///
    /// # Safety
    /// What `find` gives behaves as the CUDA driver's function of that name, and stays as long as the program.
    pub unsafe fn with_functions(find: &dyn Fn(&CStr) -> *const c_void) -> Result<Driver> {
        // SAFETY: the caller's promise.
        let calls = Arc::new(unsafe { Calls::find(find)? });
        let driver = Driver { calls };
        // SAFETY: no preconditions.
        driver.check("cuInit", unsafe { (driver.calls.init)(0) })?;
        let version = driver.version()?;
        if version < OLDEST {
            let (major, minor) = (version / 1000, version % 1000 / 10);
            let reason = format!("this driver is of CUDA {major}.{minor}; {NEEDED}");
            return Err(Error::Device { call: "cuDriverGetVersion", reason, lost: false });
        }
        Ok(driver)
    }

    /// The CUDA version of the driver: 1000 times the major and 10 times the minor number.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn version(&self) -> Result<i32> {
        let mut version = 0;
        // SAFETY: `version` can be written.
        self.check("cuDriverGetVersion", unsafe { (self.calls.driver_get_version)(&mut version) })?;
        Ok(version)
    }

    /// Number of GPUs.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn devices(&self) -> Result<usize> {
        let mut count = 0;
        // SAFETY: `count` can be written.
        self.check("cuDeviceGetCount", unsafe { (self.calls.device_get_count)(&mut count) })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// The result of a call.
    fn check(&self, call: &'static str, code: Code) -> Result<()> {
        if code == 0 { Ok(()) } else { Err(self.error(call, code, "")) }
    }

    /// What a call's number means, with `detail` after it.
    fn error(&self, call: &'static str, code: Code, detail: &str) -> Error {
        let mut reason = match self.name(code) {
            Some(name) => format!("{name} ({code})"),
            None => format!("error {code}"),
        };
        if let Some(hint) = hint(code) {
            reason = format!("{reason}: {hint}");
        }
        if !detail.is_empty() {
            reason = format!("{reason}: {detail}");
        }
        Error::Device { call, reason, lost: is_lost(code) }
    }

    /// The driver's name of an error.
    fn name(&self, code: Code) -> Option<String> {
        let mut name: *const c_char = ptr::null();
        // SAFETY: `name` can be written.
        let got = unsafe { (self.calls.get_error_name)(code, &mut name) };
        if got != 0 || name.is_null() {
            return None;
        }
        // SAFETY: the driver gives a C string that stays.
        Some(unsafe { CStr::from_ptr(name) }.to_string_lossy().to_string())
    }
}

/// Errors after which nothing more can be had from the context in this process: the device is gone, or a kernel broke.
fn is_lost(code: Code) -> bool {
    matches!(code, 4 | 46 | 214 | 220 | 226 | 700 | 702 | 709 | 710 | 714..=719 | 721 | 999)
}

/// Out of memory of the device.
fn is_memory(code: Code) -> bool {
    code == 2
}

/// What a user can do about an error whose name does not say it.
fn hint(code: Code) -> Option<&'static str> {
    match code {
        3 | 999 => Some(
            "the driver does not come up; is libnvidia-ptxjitcompiler there, the device in the container?",
        ),
        34 => Some("the toolkit's stub was loaded instead of a driver"),
        100 => Some("the driver sees no GPU"),
        101 => Some("there is no GPU of this number"),
        218 => Some("the driver's compiler refused the kernel"),
        221 => Some("libnvidia-ptxjitcompiler is missing"),
        222 => Some("the driver is too old for this kernel"),
        803 => Some("the driver's library and its kernel module are of different versions"),
        _ => None,
    }
}
