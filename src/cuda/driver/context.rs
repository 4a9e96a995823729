//! A device and its context.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::ffi::{CStr, c_char, c_int};
use core::marker::PhantomData;
use core::ptr;
use std::sync::OnceLock;

use cust::sys::CUdevice_attribute_enum as Attribute;
use cust::sys::{CUcontext, CUdevice};

use super::calls::{Calls, Code};
use super::{Driver, is_lost, is_memory};
use crate::error::{Error, Result};

/// What is known of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its number, from 0.
    pub ordinal: usize,
    /// Its name, for example `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Compute capability: 10 times the major and the minor number, 90 for an H100.
    pub compute: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Most bytes of shared memory of a block, asked for by `cuFuncSetAttribute` where they are over 48 KiB.
    pub shared_memory: u32,
    /// Whether device and host share their memory (Jetson).
    pub integrated: bool,
}

/// The primary context of a device, which is shared with everyone else in the process who uses it. Clones share the hold on
/// it.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    driver: Driver,
    device: CUdevice,
    raw: CUcontext,
    info: DeviceInfo,
    /// The error that ended the context.
    lost: OnceLock<Error>,
}

// SAFETY: the driver's functions may be called from any thread, and the handles are valid on all of them.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Driver {
    /// The context of device `ordinal`.
    ///
    /// # Errors
    /// [`Error::Input`] `device` where there is no such device; [`Error::Device`].
    pub fn context(&self, ordinal: usize) -> Result<Context> {
        let count = self.devices()?;
        let number = c_int::try_from(ordinal).ok().filter(|_| ordinal < count).ok_or_else(|| {
            let reason = alloc::format!("there is no cuda:{ordinal}; the driver knows {count} GPUs");
            Error::Input { field: "device", reason }
        })?;
        let calls: &Calls = &self.calls;
        let mut device = 0;
        // SAFETY: `device` can be written.
        self.check("cuDeviceGet", unsafe { (calls.device_get)(&mut device, number) })?;
        let info = self.info(ordinal, device)?;
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` can be written; the device is one.
        let code = unsafe { (calls.primary_ctx_retain)(&mut raw, device) };
        self.check("cuDevicePrimaryCtxRetain", code)?;
        let inner = Inner { driver: self.clone(), device, raw, info, lost: OnceLock::new() };
        Ok(Context { inner: Arc::new(inner) })
    }

    fn info(&self, ordinal: usize, device: CUdevice) -> Result<DeviceInfo> {
        let mut name: [c_char; 256] = [0; 256];
        // SAFETY: 255 characters can be written, and the last stays 0.
        let code = unsafe { (self.calls.device_get_name)(name.as_mut_ptr(), 255, device) };
        self.check("cuDeviceGetName", code)?;
        // SAFETY: a 0 ends it.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().to_string();
        let mut memory = 0usize;
        // SAFETY: `memory` can be written.
        let code = unsafe { (self.calls.device_total_mem)(&mut memory, device) };
        self.check("cuDeviceTotalMem", code)?;
        let attribute = |attribute: Attribute| {
            let mut value = 0;
            // SAFETY: `value` can be written.
            let code = unsafe { (self.calls.device_get_attribute)(&mut value, attribute as c_int, device) };
            self.check("cuDeviceGetAttribute", code)?;
            Ok(u32::try_from(value).unwrap_or(0))
        };
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        Ok(DeviceInfo {
            ordinal,
            name,
            compute: major.saturating_mul(10).saturating_add(minor),
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            memory: memory as u64,
            shared_memory: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            integrated: attribute(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)? != 0,
        })
    }
}

impl Context {
    /// The driver.
    pub fn driver(&self) -> &Driver {
        &self.inner.driver
    }

    /// What is known of the device.
    pub fn info(&self) -> &DeviceInfo {
        &self.inner.info
    }

    /// The error that ended the context, where one did.
    pub fn lost(&self) -> Option<&Error> {
        self.inner.lost.get()
    }

    /// Bytes of device memory that are free, as the driver says.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn free_memory(&self) -> Result<u64> {
        let _current = self.enter()?;
        let (mut free, mut total) = (0usize, 0usize);
        // SAFETY: both can be written.
        self.check("cuMemGetInfo", unsafe { (self.calls().mem_get_info)(&mut free, &mut total) })?;
        Ok(free as u64)
    }

    pub(super) fn calls(&self) -> &Calls {
        &self.inner.driver.calls
    }

    pub(super) fn raw(&self) -> CUcontext {
        self.inner.raw
    }

    /// Makes the context current on this thread until the guard is dropped.
    pub(super) fn enter(&self) -> Result<Current<'_>> {
        if let Some(lost) = self.lost() {
            return Err(lost.clone());
        }
        // SAFETY: the context is retained.
        let code = unsafe { (self.calls().ctx_push_current)(self.inner.raw) };
        self.check("cuCtxPushCurrent", code)?;
        Ok(Current { context: self, _thread: PhantomData })
    }

    /// As [`Context::enter`] for giving something back: a context that is lost is entered as well, since what is held on the
    /// host's side must go.
    pub(super) fn enter_to_release(&self) -> Option<Current<'_>> {
        // SAFETY: the context is retained.
        let code = unsafe { (self.calls().ctx_push_current)(self.inner.raw) };
        (code == 0).then_some(Current { context: self, _thread: PhantomData })
    }

    /// The result of a call.
    pub(super) fn check(&self, call: &'static str, code: Code) -> Result<()> {
        self.check_with(call, code, String::new)
    }

    /// As [`Context::check`] with more to say where the call failed.
    pub(super) fn check_with(
        &self,
        call: &'static str,
        code: Code,
        detail: impl FnOnce() -> String,
    ) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let error = self.inner.driver.error(call, code, &detail());
        if is_lost(code) {
            let _ = self.inner.lost.set(error.clone());
        }
        Err(error)
    }

    /// The result of a call that asked for memory.
    pub(super) fn check_memory(
        &self,
        call: &'static str,
        code: Code,
        what: &'static str,
        bytes: usize,
    ) -> Result<()> {
        if is_memory(code) {
            return Err(Error::Memory { what, bytes: bytes as u64, left: None });
        }
        self.check(call, code)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: retained once, and nothing of the context is left.
        unsafe { (self.driver.calls.primary_ctx_release)(self.device) };
    }
}

/// The context is current on this thread.
pub(super) struct Current<'a> {
    context: &'a Context,
    /// Not for other threads.
    _thread: PhantomData<*const ()>,
}

impl Drop for Current<'_> {
    fn drop(&mut self) {
        let mut popped = ptr::null_mut();
        // SAFETY: `popped` can be written; what was pushed is on top.
        unsafe { (self.context.calls().ctx_pop_current)(&mut popped) };
    }
}
