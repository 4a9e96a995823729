//! The driver's functions, each looked up by name.
//!
//! Types come from `cust`, functions do not: its declarations would tie every program to a library that is there only with
//! a driver, and its result type is an enumeration that newer drivers leave. Here a result is the number that the driver
//! gave.

use alloc::format;
use core::ffi::{CStr, c_char, c_int, c_uchar, c_uint, c_void};
use core::mem;

use cust::sys::{
    CUDA_KERNEL_NODE_PARAMS, CUDA_MEMSET_NODE_PARAMS, CUcontext, CUdevice, CUdeviceptr, CUevent, CUfunction,
    CUgraph, CUgraphExec, CUgraphNode, CUmodule, CUstream,
};

use crate::error::{Error, Result};

/// What a driver's call gives: 0, or the number of an error.
pub(super) type Code = c_int;

/// Finds a function of the driver by name; null where there is none.
pub(super) type Find<'a> = &'a dyn Fn(&CStr) -> *const c_void;

/// The functions in use.
pub(super) struct Calls {
    pub(super) get_error_name: unsafe extern "C" fn(Code, *mut *const c_char) -> Code,
    pub(super) init: unsafe extern "C" fn(c_uint) -> Code,
    pub(super) driver_get_version: unsafe extern "C" fn(*mut c_int) -> Code,
    pub(super) device_get_count: unsafe extern "C" fn(*mut c_int) -> Code,
    pub(super) device_get: unsafe extern "C" fn(*mut CUdevice, c_int) -> Code,
    pub(super) device_get_name: unsafe extern "C" fn(*mut c_char, c_int, CUdevice) -> Code,
    pub(super) device_get_attribute: unsafe extern "C" fn(*mut c_int, c_int, CUdevice) -> Code,
    pub(super) device_total_mem: unsafe extern "C" fn(*mut usize, CUdevice) -> Code,
    pub(super) primary_ctx_retain: unsafe extern "C" fn(*mut CUcontext, CUdevice) -> Code,
    pub(super) primary_ctx_release: unsafe extern "C" fn(CUdevice) -> Code,
    pub(super) ctx_push_current: unsafe extern "C" fn(CUcontext) -> Code,
    pub(super) ctx_pop_current: unsafe extern "C" fn(*mut CUcontext) -> Code,
    pub(super) mem_get_info: unsafe extern "C" fn(*mut usize, *mut usize) -> Code,
    pub(super) mem_alloc: unsafe extern "C" fn(*mut CUdeviceptr, usize) -> Code,
    pub(super) mem_free: unsafe extern "C" fn(CUdeviceptr) -> Code,
    pub(super) mem_host_alloc: unsafe extern "C" fn(*mut *mut c_void, usize, c_uint) -> Code,
    pub(super) mem_free_host: unsafe extern "C" fn(*mut c_void) -> Code,
    pub(super) mem_host_get_device_pointer:
        unsafe extern "C" fn(*mut CUdeviceptr, *mut c_void, c_uint) -> Code,
    pub(super) memcpy_htod_async: unsafe extern "C" fn(CUdeviceptr, *const c_void, usize, CUstream) -> Code,
    pub(super) memcpy_dtoh_async: unsafe extern "C" fn(*mut c_void, CUdeviceptr, usize, CUstream) -> Code,
    pub(super) memset_d8_async: unsafe extern "C" fn(CUdeviceptr, c_uchar, usize, CUstream) -> Code,
    pub(super) stream_create: unsafe extern "C" fn(*mut CUstream, c_uint) -> Code,
    pub(super) stream_destroy: unsafe extern "C" fn(CUstream) -> Code,
    pub(super) stream_synchronize: unsafe extern "C" fn(CUstream) -> Code,
    pub(super) event_create: unsafe extern "C" fn(*mut CUevent, c_uint) -> Code,
    pub(super) event_record: unsafe extern "C" fn(CUevent, CUstream) -> Code,
    pub(super) event_synchronize: unsafe extern "C" fn(CUevent) -> Code,
    pub(super) event_elapsed_time: unsafe extern "C" fn(*mut f32, CUevent, CUevent) -> Code,
    pub(super) event_destroy: unsafe extern "C" fn(CUevent) -> Code,
    pub(super) module_load_data_ex:
        unsafe extern "C" fn(*mut CUmodule, *const c_void, c_uint, *mut c_int, *mut *mut c_void) -> Code,
    pub(super) module_unload: unsafe extern "C" fn(CUmodule) -> Code,
    pub(super) module_get_function: unsafe extern "C" fn(*mut CUfunction, CUmodule, *const c_char) -> Code,
    pub(super) func_set_attribute: unsafe extern "C" fn(CUfunction, c_int, c_int) -> Code,
    pub(super) launch_kernel: unsafe extern "C" fn(
        CUfunction,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        CUstream,
        *mut *mut c_void,
        *mut *mut c_void,
    ) -> Code,
    /// `None` where the driver lacks one of them.
    pub(super) graphs: Option<GraphCalls>,
}

/// Graphs: sequences of launches that are started at once. All of them are in drivers of CUDA 10.2.
pub(super) struct GraphCalls {
    pub(super) graph_create: unsafe extern "C" fn(*mut CUgraph, c_uint) -> Code,
    pub(super) add_kernel_node: unsafe extern "C" fn(
        *mut CUgraphNode,
        CUgraph,
        *const CUgraphNode,
        usize,
        *const CUDA_KERNEL_NODE_PARAMS,
    ) -> Code,
    pub(super) add_memset_node: unsafe extern "C" fn(
        *mut CUgraphNode,
        CUgraph,
        *const CUgraphNode,
        usize,
        *const CUDA_MEMSET_NODE_PARAMS,
        CUcontext,
    ) -> Code,
    pub(super) instantiate: Instantiate,
    pub(super) set_kernel_node:
        unsafe extern "C" fn(CUgraphExec, CUgraphNode, *const CUDA_KERNEL_NODE_PARAMS) -> Code,
    pub(super) graph_launch: unsafe extern "C" fn(CUgraphExec, CUstream) -> Code,
    pub(super) graph_exec_destroy: unsafe extern "C" fn(CUgraphExec) -> Code,
    pub(super) graph_destroy: unsafe extern "C" fn(CUgraph) -> Code,
}

/// How a graph is made ready to start.
pub(super) enum Instantiate {
    /// From CUDA 11.4 on.
    WithFlags(unsafe extern "C" fn(*mut CUgraphExec, CUgraph, u64) -> Code),
    /// Before that: with a place for the node that is wrong, and for words about it.
    WithLog(unsafe extern "C" fn(*mut CUgraphExec, CUgraph, *mut CUgraphNode, *mut c_char, usize) -> Code),
}

impl Calls {
    /// Looks every function up.
    ///
    /// # Errors
    /// [`Error::Device`] naming the first that is missing.
    ///
    /// # Safety
    /// What `find` finds is the driver's function of that name, and stays.
    pub(super) unsafe fn find(find: Find) -> Result<Calls> {
        // SAFETY: the types are those of the driver's header, and the caller promises that the functions are its.
        unsafe {
            Ok(Calls {
                get_error_name: function(find, c"cuGetErrorName")?,
                init: function(find, c"cuInit")?,
                driver_get_version: function(find, c"cuDriverGetVersion")?,
                device_get_count: function(find, c"cuDeviceGetCount")?,
                device_get: function(find, c"cuDeviceGet")?,
                device_get_name: function(find, c"cuDeviceGetName")?,
                device_get_attribute: function(find, c"cuDeviceGetAttribute")?,
                device_total_mem: function(find, c"cuDeviceTotalMem_v2")?,
                primary_ctx_retain: function(find, c"cuDevicePrimaryCtxRetain")?,
                // Its name before CUDA 11.
                primary_ctx_release: function(find, c"cuDevicePrimaryCtxRelease_v2")
                    .or_else(|_| function(find, c"cuDevicePrimaryCtxRelease"))?,
                ctx_push_current: function(find, c"cuCtxPushCurrent_v2")?,
                ctx_pop_current: function(find, c"cuCtxPopCurrent_v2")?,
                mem_get_info: function(find, c"cuMemGetInfo_v2")?,
                mem_alloc: function(find, c"cuMemAlloc_v2")?,
                mem_free: function(find, c"cuMemFree_v2")?,
                mem_host_alloc: function(find, c"cuMemHostAlloc")?,
                mem_free_host: function(find, c"cuMemFreeHost")?,
                mem_host_get_device_pointer: function(find, c"cuMemHostGetDevicePointer_v2")?,
                memcpy_htod_async: function(find, c"cuMemcpyHtoDAsync_v2")?,
                memcpy_dtoh_async: function(find, c"cuMemcpyDtoHAsync_v2")?,
                memset_d8_async: function(find, c"cuMemsetD8Async")?,
                stream_create: function(find, c"cuStreamCreate")?,
                stream_destroy: function(find, c"cuStreamDestroy_v2")?,
                stream_synchronize: function(find, c"cuStreamSynchronize")?,
                event_create: function(find, c"cuEventCreate")?,
                event_record: function(find, c"cuEventRecord")?,
                event_synchronize: function(find, c"cuEventSynchronize")?,
                event_elapsed_time: function(find, c"cuEventElapsedTime")?,
                event_destroy: function(find, c"cuEventDestroy_v2")?,
                module_load_data_ex: function(find, c"cuModuleLoadDataEx")?,
                module_unload: function(find, c"cuModuleUnload")?,
                module_get_function: function(find, c"cuModuleGetFunction")?,
                func_set_attribute: function(find, c"cuFuncSetAttribute")?,
                launch_kernel: function(find, c"cuLaunchKernel")?,
                graphs: GraphCalls::find(find).ok(),
            })
        }
    }
}

impl GraphCalls {
    /// # Safety
    /// As [`Calls::find`].
    unsafe fn find(find: Find) -> Result<GraphCalls> {
        // SAFETY: as in `Calls::find`.
        unsafe {
            let instantiate = match function(find, c"cuGraphInstantiateWithFlags") {
                Ok(found) => Instantiate::WithFlags(found),
                Err(_) => Instantiate::WithLog(
                    function(find, c"cuGraphInstantiate_v2")
                        .or_else(|_| function(find, c"cuGraphInstantiate"))?,
                ),
            };
            Ok(GraphCalls {
                graph_create: function(find, c"cuGraphCreate")?,
                add_kernel_node: function(find, c"cuGraphAddKernelNode")?,
                add_memset_node: function(find, c"cuGraphAddMemsetNode")?,
                instantiate,
                set_kernel_node: function(find, c"cuGraphExecKernelNodeSetParams")?,
                graph_launch: function(find, c"cuGraphLaunch")?,
                graph_exec_destroy: function(find, c"cuGraphExecDestroy")?,
                graph_destroy: function(find, c"cuGraphDestroy")?,
            })
        }
    }
}

/// The function of a name as a pointer of type `F`.
///
/// # Safety
/// `F` is a pointer to a function, and its type is that of the driver's function.
unsafe fn function<F: Copy>(find: Find, name: &'static CStr) -> Result<F> {
    const { assert!(size_of::<F>() == size_of::<*const c_void>()) };
    let found = find(name);
    if found.is_null() {
        let call = name.to_str().unwrap_or("a function");
        let reason = format!("the driver has no such function; {}", super::NEEDED);
        return Err(Error::Device { call, reason, lost: false });
    }
    // SAFETY: a function is there, and pointers to functions are as large as those to data; the type is the caller's promise.
    Ok(unsafe { mem::transmute_copy(&found) })
}
