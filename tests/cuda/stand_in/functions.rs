//! The driver's functions.

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_uint, c_void};
use std::ptr;

use cust::sys::{CUDA_KERNEL_NODE_PARAMS, CUDA_MEMSET_NODE_PARAMS};

use super::state::{
    INVALID_CONTEXT, INVALID_PTX, INVALID_VALUE, Launch, NOT_FOUND, OUT_OF_MEMORY, StandIn, Work,
};

const CONTEXT: u64 = 0xC0;

/// The function of a name; null for what the stand-in lacks.
pub fn function(name: &CStr) -> *const c_void {
    let name = name.to_str().unwrap();
    if StandIn::with(|all| all.settings.missing.contains(&name)) {
        return ptr::null();
    }
    match name {
        "cuGetErrorName" => error_name as *const c_void,
        "cuInit" => init as *const c_void,
        "cuDriverGetVersion" => version as *const c_void,
        "cuDeviceGetCount" => device_count as *const c_void,
        "cuDeviceGet" => device_get as *const c_void,
        "cuDeviceGetName" => device_name as *const c_void,
        "cuDeviceGetAttribute" => device_attribute as *const c_void,
        "cuDeviceTotalMem_v2" => total_memory as *const c_void,
        "cuDevicePrimaryCtxRetain" => retain as *const c_void,
        "cuDevicePrimaryCtxRelease_v2" | "cuDevicePrimaryCtxRelease" => release as *const c_void,
        "cuCtxPushCurrent_v2" => push as *const c_void,
        "cuCtxPopCurrent_v2" => pop as *const c_void,
        "cuMemGetInfo_v2" => memory_info as *const c_void,
        "cuMemAlloc_v2" => allocate as *const c_void,
        "cuMemFree_v2" => free as *const c_void,
        "cuMemHostAlloc" => host_allocate as *const c_void,
        "cuMemFreeHost" => host_free as *const c_void,
        "cuMemHostGetDevicePointer_v2" => host_pointer as *const c_void,
        "cuMemcpyHtoDAsync_v2" => upload as *const c_void,
        "cuMemcpyDtoHAsync_v2" => download as *const c_void,
        "cuMemsetD8Async" => fill as *const c_void,
        "cuStreamCreate" => stream_create as *const c_void,
        "cuStreamDestroy_v2" => stream_destroy as *const c_void,
        "cuStreamSynchronize" => stream_synchronize as *const c_void,
        "cuEventCreate" => event_create as *const c_void,
        "cuEventRecord" => event_record as *const c_void,
        "cuEventSynchronize" => event_synchronize as *const c_void,
        "cuEventElapsedTime" => event_elapsed as *const c_void,
        "cuEventDestroy_v2" => event_destroy as *const c_void,
        "cuModuleLoadDataEx" => module_load as *const c_void,
        "cuModuleUnload" => module_unload as *const c_void,
        "cuModuleGetFunction" => module_function as *const c_void,
        "cuFuncSetAttribute" => function_attribute as *const c_void,
        "cuLaunchKernel" => launch as *const c_void,
        "cuGraphCreate" => graph_create as *const c_void,
        "cuGraphAddKernelNode" => add_kernel_node as *const c_void,
        "cuGraphAddMemsetNode" => add_memset_node as *const c_void,
        "cuGraphInstantiateWithFlags" => instantiate as *const c_void,
        "cuGraphInstantiate_v2" | "cuGraphInstantiate" => instantiate_with_log as *const c_void,
        "cuGraphExecKernelNodeSetParams" => set_kernel_node as *const c_void,
        "cuGraphLaunch" => graph_launch as *const c_void,
        "cuGraphExecDestroy" => instance_destroy as *const c_void,
        "cuGraphDestroy" => graph_destroy as *const c_void,
        _ => ptr::null(),
    }
}

/// A call that needs no context.
fn call(name: &'static str, work: impl FnOnce(&mut StandIn) -> c_int) -> c_int {
    StandIn::with(|all| match all.called(name) {
        Some(code) => code,
        None => work(all),
    })
}

/// A call that needs a current context.
fn inside(name: &'static str, work: impl FnOnce(&mut StandIn) -> c_int) -> c_int {
    call(name, |all| match all.current.last() {
        Some(&CONTEXT) => work(all),
        _ => all.wrong(format!("{name} without a context"), INVALID_CONTEXT),
    })
}

/// A call that gives something back: what was held goes, whatever the call says.
fn giving_back(name: &'static str, work: impl FnOnce(&mut StandIn) -> bool) -> c_int {
    StandIn::with(|all| {
        let code = all.called(name);
        let held = work(all);
        match (code, held) {
            (Some(code), _) => code,
            (None, true) => 0,
            (None, false) => all.wrong(format!("{name} of what is not held"), INVALID_VALUE),
        }
    })
}

/// Writes a result.
fn put<T>(to: *mut T, value: T) -> c_int {
    assert!(!to.is_null());
    // SAFETY: the caller of a driver's function gives places that can be written.
    unsafe { to.write(value) };
    0
}

extern "C" fn error_name(code: c_int, name: *mut *const c_char) -> c_int {
    // Not counted: nothing is asked of the device.
    let known: &CStr = match code {
        1 => c"CUDA_ERROR_INVALID_VALUE",
        2 => c"CUDA_ERROR_OUT_OF_MEMORY",
        201 => c"CUDA_ERROR_INVALID_CONTEXT",
        218 => c"CUDA_ERROR_INVALID_PTX",
        500 => c"CUDA_ERROR_NOT_FOUND",
        700 => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        719 => c"CUDA_ERROR_LAUNCH_FAILED",
        _ => return INVALID_VALUE,
    };
    put(name, known.as_ptr())
}

extern "C" fn init(_flags: c_uint) -> c_int {
    call("cuInit", |_| 0)
}

extern "C" fn version(out: *mut c_int) -> c_int {
    call("cuDriverGetVersion", |all| put(out, all.settings.version))
}

extern "C" fn device_count(out: *mut c_int) -> c_int {
    call("cuDeviceGetCount", |all| put(out, all.settings.devices))
}

extern "C" fn device_get(out: *mut c_int, ordinal: c_int) -> c_int {
    call("cuDeviceGet", |all| if ordinal < all.settings.devices { put(out, ordinal) } else { 101 })
}

extern "C" fn device_name(out: *mut c_char, len: c_int, _device: c_int) -> c_int {
    call("cuDeviceGetName", |_| {
        let name = c"Stand-in".to_bytes_with_nul();
        assert!(name.len() <= len as usize);
        for (i, &byte) in name.iter().enumerate() {
            // SAFETY: `len` characters can be written.
            unsafe { out.add(i).write(byte as c_char) };
        }
        0
    })
}

extern "C" fn device_attribute(out: *mut c_int, attribute: c_int, _device: c_int) -> c_int {
    call("cuDeviceGetAttribute", |all| match attribute {
        16 => put(out, 132),
        18 => put(out, all.settings.integrated.into()),
        75 => put(out, all.settings.compute.0),
        76 => put(out, all.settings.compute.1),
        97 => put(out, 227 << 10),
        _ => all.wrong(format!("attribute {attribute}"), INVALID_VALUE),
    })
}

extern "C" fn total_memory(out: *mut usize, _device: c_int) -> c_int {
    call("cuDeviceTotalMem", |all| put(out, all.settings.memory))
}

extern "C" fn retain(out: *mut u64, _device: c_int) -> c_int {
    call("cuDevicePrimaryCtxRetain", |all| {
        all.retained += 1;
        put(out, CONTEXT)
    })
}

extern "C" fn release(_device: c_int) -> c_int {
    giving_back("cuDevicePrimaryCtxRelease", |all| {
        let held = all.retained > 0;
        all.retained = all.retained.saturating_sub(1);
        held
    })
}

extern "C" fn push(context: u64) -> c_int {
    call("cuCtxPushCurrent", |all| {
        if all.retained == 0 || context != CONTEXT {
            return all.wrong("a context that is not held", INVALID_CONTEXT);
        }
        all.current.push(context);
        0
    })
}

extern "C" fn pop(out: *mut u64) -> c_int {
    giving_back("cuCtxPopCurrent", |all| {
        let popped = all.current.pop();
        put(out, popped.unwrap_or(0));
        popped.is_some()
    })
}

extern "C" fn memory_info(free: *mut usize, total: *mut usize) -> c_int {
    inside("cuMemGetInfo", |all| {
        let used: usize = all.device.values().map(Vec::len).sum();
        put(free, all.settings.memory - used);
        put(total, all.settings.memory)
    })
}

extern "C" fn allocate(out: *mut u64, bytes: usize) -> c_int {
    inside("cuMemAlloc", |all| {
        let used: usize = all.device.values().map(Vec::len).sum();
        if bytes == 0 {
            return all.wrong("no bytes", INVALID_VALUE);
        }
        if bytes > all.settings.memory - used {
            return OUT_OF_MEMORY;
        }
        let start = all.fresh(bytes);
        all.device.insert(start, vec![all.anything(); bytes]);
        put(out, start)
    })
}

extern "C" fn free(start: u64) -> c_int {
    giving_back("cuMemFree", |all| all.device.remove(&start).is_some())
}

extern "C" fn host_allocate(out: *mut *mut c_void, bytes: usize, flags: c_uint) -> c_int {
    inside("cuMemHostAlloc", |all| {
        assert_eq!(flags, 2, "mapped");
        let mut memory = vec![u64::from_le_bytes([all.anything(); 8]); bytes.div_ceil(8)].into_boxed_slice();
        let start = memory.as_mut_ptr();
        all.host.insert(start as u64, memory);
        put(out, start.cast())
    })
}

extern "C" fn host_free(start: *mut c_void) -> c_int {
    giving_back("cuMemFreeHost", |all| all.host.remove(&(start as u64)).is_some())
}

extern "C" fn host_pointer(out: *mut u64, start: *mut c_void, _flags: c_uint) -> c_int {
    inside("cuMemHostGetDevicePointer", |all| match all.host.contains_key(&(start as u64)) {
        true => put(out, start as u64),
        false => all.wrong("host memory that is not held", INVALID_VALUE),
    })
}

extern "C" fn upload(to: u64, from: *const c_void, bytes: usize, stream: u64) -> c_int {
    inside("cuMemcpyHtoDAsync", |all| {
        if !all.streams.contains(&stream) {
            return all.wrong("a copy in no stream", INVALID_VALUE);
        }
        // SAFETY: the caller of a driver's function gives bytes that can be read.
        let from = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) };
        match all.bytes(to, bytes) {
            Some(memory) => memory.copy_from_slice(from),
            None => return all.wrong("a copy beyond an allocation", INVALID_VALUE),
        }
        0
    })
}

extern "C" fn download(to: *mut c_void, from: u64, bytes: usize, stream: u64) -> c_int {
    inside("cuMemcpyDtoHAsync", |all| {
        if !all.streams.contains(&stream) {
            return all.wrong("a copy in no stream", INVALID_VALUE);
        }
        // SAFETY: the caller of a driver's function gives bytes that can be written.
        let to = unsafe { std::slice::from_raw_parts_mut(to.cast::<u8>(), bytes) };
        match all.bytes(from, bytes) {
            Some(memory) => to.copy_from_slice(memory),
            None => return all.wrong("a copy beyond an allocation", INVALID_VALUE),
        }
        all.downloads.push(bytes);
        0
    })
}

extern "C" fn fill(start: u64, value: c_uchar, bytes: usize, stream: u64) -> c_int {
    inside("cuMemsetD8Async", |all| {
        if !all.streams.contains(&stream) {
            return all.wrong("no stream", INVALID_VALUE);
        }
        all.run(Work::Fill(start, bytes, value))
    })
}

extern "C" fn stream_create(out: *mut u64, _flags: c_uint) -> c_int {
    inside("cuStreamCreate", |all| {
        let stream = all.fresh(0);
        all.streams.insert(stream);
        put(out, stream)
    })
}

extern "C" fn stream_destroy(stream: u64) -> c_int {
    giving_back("cuStreamDestroy", |all| all.streams.remove(&stream))
}

extern "C" fn stream_synchronize(stream: u64) -> c_int {
    inside("cuStreamSynchronize", |all| match all.streams.contains(&stream) {
        true => 0,
        false => all.wrong("no stream", INVALID_VALUE),
    })
}

extern "C" fn event_create(out: *mut u64, _flags: c_uint) -> c_int {
    inside("cuEventCreate", |all| {
        let event = all.fresh(0);
        all.events.insert(event);
        put(out, event)
    })
}

extern "C" fn event_record(event: u64, stream: u64) -> c_int {
    inside("cuEventRecord", |all| match all.events.contains(&event) && all.streams.contains(&stream) {
        true => 0,
        false => all.wrong("no event or stream", INVALID_VALUE),
    })
}

extern "C" fn event_synchronize(event: u64) -> c_int {
    inside("cuEventSynchronize", |all| match all.events.contains(&event) {
        true => 0,
        false => all.wrong("no event", INVALID_VALUE),
    })
}

extern "C" fn event_elapsed(out: *mut f32, start: u64, end: u64) -> c_int {
    inside("cuEventElapsedTime", |all| match all.events.contains(&start) && all.events.contains(&end) {
        true => put(out, 1.5),
        false => all.wrong("no events", INVALID_VALUE),
    })
}

extern "C" fn event_destroy(event: u64) -> c_int {
    giving_back("cuEventDestroy", |all| all.events.remove(&event))
}

extern "C" fn module_load(
    out: *mut u64,
    image: *const c_char,
    count: c_uint,
    options: *const c_int,
    values: *const *mut c_void,
) -> c_int {
    // SAFETY: a C string, and as many options and values as it says.
    let (text, options, values) = unsafe {
        (
            CStr::from_ptr(image).to_str().unwrap(),
            std::slice::from_raw_parts(options, count as usize),
            std::slice::from_raw_parts(values, count as usize),
        )
    };
    let value = |wanted: c_int| options.iter().position(|&option| option == wanted).map(|at| values[at]);
    let say = |log: &CStr| {
        if let (Some(buffer), Some(size)) = (value(5), value(6)) {
            let bytes = log.to_bytes_with_nul();
            assert!(bytes.len() <= size.addr());
            // SAFETY: the buffer has that size.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast::<u8>(), bytes.len()) };
        }
    };
    let code = inside("cuModuleLoadDataEx", |all| {
        if all.settings.refused.iter().any(|part| text.contains(part)) {
            return INVALID_PTX;
        }
        let module = all.fresh(0);
        all.modules.insert(module, text.into());
        put(out, module)
    });
    if code != 0 {
        say(c"ptxas fatal: refused\nline 2\n");
    }
    code
}

extern "C" fn module_unload(module: u64) -> c_int {
    giving_back("cuModuleUnload", |all| {
        all.functions.retain(|_, (of, _)| *of != module);
        all.modules.remove(&module).is_some()
    })
}

extern "C" fn module_function(out: *mut u64, module: u64, name: *const c_char) -> c_int {
    // SAFETY: a C string.
    let name = CString::from(unsafe { CStr::from_ptr(name) });
    inside("cuModuleGetFunction", |all| {
        let Some(text) = all.modules.get(&module) else {
            return all.wrong("no module", INVALID_VALUE);
        };
        if !text.contains(&format!(".entry {}", name.to_str().unwrap())) {
            return NOT_FOUND;
        }
        let function = all.fresh(0);
        all.functions.insert(function, (module, name));
        put(out, function)
    })
}

extern "C" fn function_attribute(function: u64, attribute: c_int, value: c_int) -> c_int {
    inside("cuFuncSetAttribute", |all| {
        match all.functions.contains_key(&function) && attribute == 8 && value <= 227 << 10 {
            true => 0,
            false => INVALID_VALUE,
        }
    })
}

#[allow(clippy::too_many_arguments)]
extern "C" fn launch(
    function: u64,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    stream: u64,
    parameters: *const *const u64,
    extra: *const *const c_void,
) -> c_int {
    let shape = [[grid_x, grid_y, grid_z], [block_x, block_y, block_z]];
    inside("cuLaunchKernel", |all| {
        if !all.streams.contains(&stream) {
            return all.wrong("a launch in no stream", INVALID_VALUE);
        }
        match kernel(all, function, shape, shared, parameters, extra) {
            Some(launch) => all.run(Work::Launch(launch)),
            None => INVALID_VALUE,
        }
    })
}

/// A launch, where the driver takes it.
fn kernel(
    all: &mut StandIn,
    function: u64,
    [grid, block]: [[u32; 3]; 2],
    shared: u32,
    parameters: *const *const u64,
    extra: *const *const c_void,
) -> Option<Launch> {
    assert!(extra.is_null());
    let Some((module, entry)) = all.functions.get(&function) else {
        all.wrong("no function", INVALID_VALUE);
        return None;
    };
    let Some(ptx) = all.modules.get(module).cloned() else {
        all.wrong("a function of a module that is gone", INVALID_VALUE);
        return None;
    };
    let entry = entry.to_str().unwrap().to_owned();
    let threads: u64 = block.iter().map(|&side| u64::from(side)).product();
    let sides = grid[0] > 0 && (1..65536).contains(&grid[1]) && (1..65536).contains(&grid[2]);
    if !sides || threads == 0 || threads > 1024 {
        all.wrong(format!("{entry}: grid {grid:?}, block {block:?}"), INVALID_VALUE);
        return None;
    }
    let count = parameter_count(&ptx, &entry);
    // SAFETY: as many parameters as the kernel has, each with eight bytes.
    let parameters = (0..count).map(|i| unsafe { **parameters.add(i) }).collect();
    Some(Launch { ptx, entry, grid, block, shared, parameters })
}

/// Number of `.param` between an entry's parentheses.
fn parameter_count(ptx: &str, entry: &str) -> usize {
    let text = ptx.split(&format!(".entry {entry}")).nth(1).unwrap_or("");
    let text = text.split(')').next().unwrap_or("");
    text.matches(".param").count()
}

extern "C" fn graph_create(out: *mut u64, flags: c_uint) -> c_int {
    inside("cuGraphCreate", |all| {
        assert_eq!(flags, 0);
        let graph = all.fresh(0);
        all.graphs.insert(graph, Vec::new());
        put(out, graph)
    })
}

/// Adds a node to a graph; it must come after the last one alone.
fn add(all: &mut StandIn, out: *mut u64, graph: u64, after: *const u64, count: usize, work: Work) -> c_int {
    let node = all.fresh(0);
    let Some(nodes) = all.graphs.get_mut(&graph) else {
        return all.wrong("no graph", INVALID_VALUE);
    };
    let last = nodes.last().map(|(node, _)| *node);
    // SAFETY: the caller of a driver's function gives as many nodes.
    let after: Vec<u64> = (0..count).map(|i| unsafe { *after.add(i) }).collect();
    if after != Vec::from_iter(last) {
        return all.wrong("nodes that are not one after the other", INVALID_VALUE);
    }
    nodes.push((node, work));
    put(out, node)
}

/// Reads a kernel's node.
fn node_launch(all: &mut StandIn, node: *const CUDA_KERNEL_NODE_PARAMS) -> Option<Launch> {
    // SAFETY: the caller of a driver's function gives what can be read.
    let node = unsafe { &*node };
    let grid = [node.gridDimX, node.gridDimY, node.gridDimZ];
    let block = [node.blockDimX, node.blockDimY, node.blockDimZ];
    let (parameters, extra) = (node.kernelParams.cast_const().cast(), node.extra.cast_const().cast());
    kernel(all, node.func as u64, [grid, block], node.sharedMemBytes, parameters, extra)
}

extern "C" fn add_kernel_node(
    out: *mut u64,
    graph: u64,
    after: *const u64,
    count: usize,
    node: *const CUDA_KERNEL_NODE_PARAMS,
) -> c_int {
    inside("cuGraphAddKernelNode", |all| match node_launch(all, node) {
        Some(launch) => add(all, out, graph, after, count, Work::Launch(launch)),
        None => INVALID_VALUE,
    })
}

extern "C" fn add_memset_node(
    out: *mut u64,
    graph: u64,
    after: *const u64,
    count: usize,
    node: *const CUDA_MEMSET_NODE_PARAMS,
    context: u64,
) -> c_int {
    inside("cuGraphAddMemsetNode", |all| {
        // SAFETY: the caller of a driver's function gives what can be read.
        let node = unsafe { *node };
        if context != CONTEXT || node.elementSize != 1 || node.height != 1 || node.value > 255 {
            return all.wrong("a fill that is not one of bytes", INVALID_VALUE);
        }
        add(all, out, graph, after, count, Work::Fill(node.dst, node.width, node.value as u8))
    })
}

extern "C" fn instantiate(out: *mut u64, graph: u64, _flags: u64) -> c_int {
    inside("cuGraphInstantiateWithFlags", |all| ready(all, out, graph))
}

extern "C" fn instantiate_with_log(
    out: *mut u64,
    graph: u64,
    node: *mut u64,
    log: *mut c_char,
    len: usize,
) -> c_int {
    inside("cuGraphInstantiate", |all| {
        assert!(!node.is_null() && !log.is_null() && len > 0);
        ready(all, out, graph)
    })
}

fn ready(all: &mut StandIn, out: *mut u64, graph: u64) -> c_int {
    let Some(nodes) = all.graphs.get(&graph).cloned() else {
        return all.wrong("no graph", INVALID_VALUE);
    };
    let instance = all.fresh(0);
    all.instances.insert(instance, (graph, nodes));
    put(out, instance)
}

extern "C" fn set_kernel_node(instance: u64, node: u64, to: *const CUDA_KERNEL_NODE_PARAMS) -> c_int {
    inside("cuGraphExecKernelNodeSetParams", |all| {
        let Some(launch) = node_launch(all, to) else { return INVALID_VALUE };
        let graphs = &all.graphs;
        let found = all.instances.get_mut(&instance).filter(|(graph, _)| graphs.contains_key(graph));
        let place = found.and_then(|(_, nodes)| nodes.iter_mut().find(|(other, _)| *other == node));
        match place {
            Some((_, Work::Launch(held))) if held.entry == launch.entry && held.ptx == launch.ptx => {
                *held = launch;
                0
            }
            _ => all.wrong("no node of this kernel", INVALID_VALUE),
        }
    })
}

extern "C" fn graph_launch(instance: u64, stream: u64) -> c_int {
    inside("cuGraphLaunch", |all| {
        let found = all.instances.get(&instance).filter(|_| all.streams.contains(&stream));
        let Some((_, nodes)) = found.cloned() else {
            return all.wrong("no graph or stream", INVALID_VALUE);
        };
        all.from_graphs += nodes.len();
        nodes.into_iter().map(|(_, work)| all.run(work)).find(|&code| code != 0).unwrap_or(0)
    })
}

extern "C" fn instance_destroy(instance: u64) -> c_int {
    giving_back("cuGraphExecDestroy", |all| all.instances.remove(&instance).is_some())
}

extern "C" fn graph_destroy(graph: u64) -> c_int {
    giving_back("cuGraphDestroy", |all| all.graphs.remove(&graph).is_some())
}
