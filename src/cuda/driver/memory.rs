//! Memory of the device, and memory of the host that it reads and writes itself.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::slice;

use cust::sys::{CU_MEMHOSTALLOC_DEVICEMAP, CUdeviceptr};

use super::context::Context;
use super::event::Event;
use crate::error::Result;

/// An address in the device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DevicePointer(pub(super) CUdeviceptr);

impl DevicePointer {
    /// The pointer of no memory, for parameters that are left out and for empty operands.
    pub const NULL: DevicePointer = DevicePointer(0);

    /// The address `bytes` further on.
    pub fn offset(self, bytes: u64) -> DevicePointer {
        DevicePointer(self.0.wrapping_add(bytes))
    }

    /// The address as a number.
    pub fn address(self) -> u64 {
        self.0
    }
}

/// Memory of a device, uninitialised.
pub struct DeviceMemory {
    context: Context,
    start: CUdeviceptr,
    bytes: usize,
}

impl Context {
    /// `bytes` of device memory, at least 1; it begins at a multiple of 256.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) for `what`, or [`Error::Device`](crate::Error::Device).
    pub fn allocate(&self, what: &'static str, bytes: usize) -> Result<DeviceMemory> {
        let _current = self.enter()?;
        let mut start = 0;
        // SAFETY: `start` can be written.
        let code = unsafe { (self.calls().mem_alloc)(&mut start, bytes.max(1)) };
        self.check_memory("cuMemAlloc", code, what, bytes)?;
        Ok(DeviceMemory { context: self.clone(), start, bytes })
    }

    /// `bytes` of the host's memory that the device reads and writes without a copy in between.
    ///
    /// # Errors
    /// As [`Context::allocate`].
    pub fn allocate_host(&self, what: &'static str, bytes: usize) -> Result<HostMemory> {
        let _current = self.enter()?;
        let mut start: *mut c_void = ptr::null_mut();
        // SAFETY: `start` can be written.
        let code =
            unsafe { (self.calls().mem_host_alloc)(&mut start, bytes.max(1), CU_MEMHOSTALLOC_DEVICEMAP) };
        self.check_memory("cuMemHostAlloc", code, what, bytes)?;
        let Some(start) = NonNull::new(start.cast::<u8>()) else {
            return Err(self.driver().error("cuMemHostAlloc", 2, "gave no memory"));
        };
        // SAFETY: `bytes` were allocated. Cleared, they are initialised.
        unsafe { start.write_bytes(0, bytes.max(1)) };
        Ok(HostMemory { context: self.clone(), start, bytes, busy: None })
    }
}

impl DeviceMemory {
    /// Where it begins.
    pub fn pointer(&self) -> DevicePointer {
        DevicePointer(self.start)
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        let _current = self.context.enter_to_release();
        // SAFETY: allocated once and freed here; the driver waits for what uses it.
        unsafe { (self.context.calls().mem_free)(self.start) };
    }
}

/// Memory of the host, pinned: the device copies to and from it by itself, or reads it in place.
///
/// While a copy runs the memory belongs to the device; looking at it waits.
pub struct HostMemory {
    context: Context,
    start: NonNull<u8>,
    bytes: usize,
    /// Recorded after the last copy that uses the memory.
    pub(super) busy: Option<Event>,
}

// SAFETY: an allocation of its own; it is read through `&` and written through `&mut` only, and the device's copies are
// waited for first.
unsafe impl Send for HostMemory {}
// SAFETY: as above.
unsafe impl Sync for HostMemory {}

impl HostMemory {
    /// The bytes, once no copy uses them.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device).
    pub fn bytes_mut(&mut self) -> Result<&mut [u8]> {
        if let Some(busy) = self.busy.take() {
            busy.synchronize()?;
        }
        // SAFETY: `bytes` initialised bytes that the device has finished with, borrowed for writing.
        Ok(unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) })
    }

    /// Its size.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The address by which kernels reach it.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device).
    pub fn device_pointer(&self) -> Result<DevicePointer> {
        let _current = self.context.enter()?;
        let mut pointer = 0;
        // SAFETY: allocated with the flag for it; `pointer` can be written.
        let code = unsafe {
            (self.context.calls().mem_host_get_device_pointer)(&mut pointer, self.start.as_ptr().cast(), 0)
        };
        self.context.check("cuMemHostGetDevicePointer", code)?;
        Ok(DevicePointer(pointer))
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        if let Some(busy) = self.busy.take() {
            // A copy that failed no longer runs.
            let _ = busy.synchronize();
        }
        let _current = self.context.enter_to_release();
        // SAFETY: allocated once and freed here; no copy uses it.
        unsafe { (self.context.calls().mem_free_host)(self.start.as_ptr().cast()) };
    }
}
