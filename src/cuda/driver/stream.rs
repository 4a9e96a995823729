//! Streams: what is given to one runs in order, while the host goes on.

use alloc::format;
use core::ffi::c_void;
use core::ptr;

use cust::sys::{CUstream, CUstream_flags_enum};

use super::context::Context;
use super::memory::{DeviceMemory, DevicePointer, HostMemory};
use super::module::Function;
use crate::error::{Error, Result};

/// A stream.
pub struct Stream {
    context: Context,
    raw: CUstream,
}

// SAFETY: the driver's functions may be called from any thread, and the handle is valid on all of them.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

/// Most parameters of a kernel.
pub const MAX_ARGUMENTS: usize = 24;

/// Arguments as the driver reads them: eight bytes each, of which a narrower parameter takes the first.
pub(super) struct Arguments {
    values: [u64; MAX_ARGUMENTS],
    pointers: [*mut c_void; MAX_ARGUMENTS],
}

impl Arguments {
    /// # Errors
    /// [`Error::Shape`] for more than [`MAX_ARGUMENTS`].
    pub(super) fn new(given: &[u64]) -> Result<Arguments> {
        let mut values = [0; MAX_ARGUMENTS];
        let Some(room) = values.get_mut(..given.len()) else {
            let reason = format!("{} arguments of at most {MAX_ARGUMENTS}", given.len());
            return Err(Error::Shape { operand: "launch", reason });
        };
        room.copy_from_slice(given);
        Ok(Arguments { values, pointers: [ptr::null_mut(); MAX_ARGUMENTS] })
    }

    /// Where each argument is. Right until this moves.
    pub(super) fn pointers(&mut self) -> *mut *mut c_void {
        for (pointer, value) in self.pointers.iter_mut().zip(&mut self.values) {
            *pointer = ptr::from_mut(value).cast();
        }
        self.pointers.as_mut_ptr()
    }
}

impl Context {
    /// A stream of its own, which does not wait for the default stream.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn stream(&self) -> Result<Stream> {
        let _current = self.enter()?;
        let mut raw = ptr::null_mut();
        let flags = CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: `raw` can be written.
        self.check("cuStreamCreate", unsafe { (self.calls().stream_create)(&mut raw, flags) })?;
        Ok(Stream { context: self.clone(), raw })
    }
}

impl Stream {
    /// The stream's context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Waits for all that the stream was given.
    ///
    /// # Errors
    /// [`Error::Device`], also for what failed on the way.
    pub fn synchronize(&self) -> Result<()> {
        let _current = self.context.enter()?;
        // SAFETY: the stream is there.
        let code = unsafe { (self.context.calls().stream_synchronize)(self.raw) };
        self.context.check("cuStreamSynchronize", code)
    }

    /// Copies the first `bytes` of `from` to the device. Until that is done `from` belongs to the device.
    ///
    /// # Errors
    /// [`Error::Shape`] where either has fewer bytes; [`Error::Device`].
    pub fn upload(&self, from: &mut HostMemory, to: &DeviceMemory, at: usize, bytes: usize) -> Result<()> {
        self.ensure("upload", at.checked_add(bytes), to.bytes())?;
        self.ensure("upload", Some(bytes), from.len())?;
        from.bytes_mut()?;
        let _current = self.context.enter()?;
        let to = to.pointer().offset(at as u64);
        // SAFETY: both have the bytes; `from` waits for the event before anyone else touches it.
        let code =
            unsafe { (self.context.calls().memcpy_htod_async)(to.0, from.start().cast(), bytes, self.raw) };
        self.context.check("cuMemcpyHtoDAsync", code)?;
        self.lend(from)
    }

    /// Copies from the device to the first `bytes` of `to`. Until that is done `to` belongs to the device.
    ///
    /// # Errors
    /// As [`Stream::upload`].
    pub fn download(&self, from: &DeviceMemory, at: usize, to: &mut HostMemory, bytes: usize) -> Result<()> {
        self.ensure("download", at.checked_add(bytes), from.bytes())?;
        self.ensure("download", Some(bytes), to.len())?;
        to.bytes_mut()?;
        let _current = self.context.enter()?;
        let from = from.pointer().offset(at as u64);
        // SAFETY: as in `upload`.
        let code =
            unsafe { (self.context.calls().memcpy_dtoh_async)(to.start().cast(), from.0, bytes, self.raw) };
        self.context.check("cuMemcpyDtoHAsync", code)?;
        self.lend(to)
    }

    /// Sets `bytes` from `start` on to `value`. That they are the caller's is the caller's affair.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn fill(&self, start: DevicePointer, bytes: usize, value: u8) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let _current = self.context.enter()?;
        // SAFETY: the driver checks the address.
        let code = unsafe { (self.context.calls().memset_d8_async)(start.0, value, bytes, self.raw) };
        self.context.check("cuMemsetD8Async", code)
    }

    /// Starts a kernel: `grid` blocks of `block` threads with `shared` bytes of dynamic shared memory. Each argument is eight
    /// bytes, of which a narrower parameter takes the first.
    ///
    /// What the kernel reads and writes is the kernel's and its launcher's affair: the launcher gives it pointers to memory
    /// that is large enough for the sizes that it gives.
    ///
    /// # Errors
    /// [`Error::Shape`] for more than [`MAX_ARGUMENTS`]; [`Error::Device`].
    pub fn launch(
        &self,
        function: &Function,
        [grid, block]: [[u32; 3]; 2],
        shared: u32,
        arguments: &[u64],
    ) -> Result<()> {
        let mut arguments = Arguments::new(arguments)?;
        let _current = self.context.enter()?;
        // SAFETY: the function is of this context and its module is there; every parameter has eight bytes, which the
        // driver copies before it returns.
        let code = unsafe {
            (self.context.calls().launch_kernel)(
                function.raw(),
                grid[0],
                grid[1],
                grid[2],
                block[0],
                block[1],
                block[2],
                shared,
                self.raw,
                arguments.pointers(),
                ptr::null_mut(),
            )
        };
        let describe = || format!("{} with grid {grid:?}, block {block:?}, {shared} bytes", function.name());
        self.context.check_with("cuLaunchKernel", code, describe)
    }

    pub(super) fn raw(&self) -> CUstream {
        self.raw
    }

    /// Marks host memory as the device's up to here.
    fn lend(&self, memory: &mut HostMemory) -> Result<()> {
        match self.event() {
            Ok(event) => {
                memory.busy = Some(event);
                Ok(())
            }
            Err(error) => {
                // Without an event the copy is waited for here.
                self.synchronize()?;
                Err(error)
            }
        }
    }

    fn ensure(&self, operand: &'static str, needed: Option<usize>, there: usize) -> Result<()> {
        if needed.is_some_and(|needed| needed <= there) {
            return Ok(());
        }
        Err(Error::Shape { operand, reason: format!("{needed:?} of {there}") })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _current = self.context.enter_to_release();
        // SAFETY: created once and destroyed here; what it was given still runs to its end.
        unsafe { (self.context.calls().stream_destroy)(self.raw) };
    }
}
