//! Graphs: launches that are put together once and started as one as often as wanted, with other arguments where need be.
//!
//! They are built node by node, each after the one before it, so that every node is known by its place. Nothing is captured:
//! a capture would give the nodes in no certain order, and drivers before CUDA 11 have less of it.

use alloc::format;
use alloc::vec::Vec;
use core::{ptr, slice};

use cust::sys::{CUDA_KERNEL_NODE_PARAMS, CUDA_MEMSET_NODE_PARAMS, CUgraph, CUgraphExec, CUgraphNode};

use super::calls::{GraphCalls, Instantiate};
use super::context::Context;
use super::memory::DevicePointer;
use super::module::Function;
use super::stream::{Arguments, Stream};
use crate::error::{Error, Result};

/// Launches on their way to a [`Graph`].
pub struct GraphBuilder {
    context: Context,
    raw: CUgraph,
    nodes: Vec<CUgraphNode>,
}

/// Launches with their arguments, ready to start.
pub struct Graph {
    /// Its nodes are those of `raw`, which therefore stays.
    built: GraphBuilder,
    raw: CUgraphExec,
}

// SAFETY: the driver's functions may be called from any thread, and the handles are valid on all of them; one thread at a time
// launches or changes a graph, since changing takes it mutably and launching the stream's order.
unsafe impl Send for GraphBuilder {}
// SAFETY: as above.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

impl Context {
    /// Why there are no graphs, where the driver has none.
    pub fn no_graphs(&self) -> Option<Error> {
        self.graph_calls().err()
    }

    fn graph_calls(&self) -> Result<&GraphCalls> {
        self.calls().graphs.as_ref().ok_or_else(|| Error::Device {
            call: "cuGraphCreate",
            reason: "the driver lacks functions for graphs".into(),
            lost: false,
        })
    }

    /// A graph without launches.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn graph(&self) -> Result<GraphBuilder> {
        let calls = self.graph_calls()?;
        let _current = self.enter()?;
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` can be written.
        self.check("cuGraphCreate", unsafe { (calls.graph_create)(&mut raw, 0) })?;
        Ok(GraphBuilder { context: self.clone(), raw, nodes: Vec::new() })
    }
}

impl GraphBuilder {
    /// Puts a launch behind all others; as [`Stream::launch`].
    ///
    /// # Errors
    /// As [`Stream::launch`].
    pub fn launch(
        &mut self,
        function: &Function,
        shape: [[u32; 3]; 2],
        shared: u32,
        arguments: &[u64],
    ) -> Result<()> {
        let mut arguments = Arguments::new(arguments)?;
        let parameters = parameters(function, shape, shared, &mut arguments);
        self.add("cuGraphAddKernelNode", |calls, graph, node, after| {
            // SAFETY: the function is of this context and its module is there; every parameter has eight bytes, which the
            // driver copies before it returns; `node` can be written; `after` are nodes of this graph.
            unsafe { (calls.add_kernel_node)(node, graph, after.as_ptr(), after.len(), &parameters) }
        })
    }

    /// Puts behind all others that `bytes` from `start` on become `value`.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn fill(&mut self, start: DevicePointer, bytes: usize, value: u8) -> Result<()> {
        let context = self.context.raw();
        let parameters = CUDA_MEMSET_NODE_PARAMS {
            dst: start.0,
            pitch: bytes,
            value: value.into(),
            elementSize: 1,
            width: bytes,
            height: 1,
        };
        self.add("cuGraphAddMemsetNode", |calls, graph, node, after| {
            // SAFETY: as in `launch`; the driver checks the address.
            unsafe { (calls.add_memset_node)(node, graph, after.as_ptr(), after.len(), &parameters, context) }
        })
    }

    /// Adds a node after the last one.
    fn add(
        &mut self,
        call: &'static str,
        add: impl FnOnce(&GraphCalls, CUgraph, *mut CUgraphNode, &[CUgraphNode]) -> i32,
    ) -> Result<()> {
        let calls = self.context.graph_calls()?;
        let _current = self.context.enter()?;
        let mut node = ptr::null_mut();
        let after = self.nodes.last().map_or(&[][..], slice::from_ref);
        let code = add(calls, self.raw, &mut node, after);
        self.context.check(call, code)?;
        self.nodes.push(node);
        Ok(())
    }

    /// The graph, ready to start.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn finish(self) -> Result<Graph> {
        let raw = self.instantiated()?;
        Ok(Graph { raw, built: self })
    }

    fn instantiated(&self) -> Result<CUgraphExec> {
        let calls = self.context.graph_calls()?;
        let _current = self.context.enter()?;
        let mut raw = ptr::null_mut();
        let (call, code) = match calls.instantiate {
            Instantiate::WithFlags(instantiate) => {
                // SAFETY: a graph that is there; `raw` can be written.
                ("cuGraphInstantiateWithFlags", unsafe { instantiate(&mut raw, self.raw, 0) })
            }
            Instantiate::WithLog(instantiate) => {
                let (mut node, mut log) = (ptr::null_mut(), [0; 256]);
                // SAFETY: as above; `node` and all of `log` can be written.
                let code = unsafe { instantiate(&mut raw, self.raw, &mut node, log.as_mut_ptr(), log.len()) };
                ("cuGraphInstantiate", code)
            }
        };
        self.context.check(call, code)?;
        Ok(raw)
    }
}

/// What a kernel's node is told.
fn parameters(
    function: &Function,
    [grid, block]: [[u32; 3]; 2],
    shared: u32,
    arguments: &mut Arguments,
) -> CUDA_KERNEL_NODE_PARAMS {
    CUDA_KERNEL_NODE_PARAMS {
        func: function.raw(),
        gridDimX: grid[0],
        gridDimY: grid[1],
        gridDimZ: grid[2],
        blockDimX: block[0],
        blockDimY: block[1],
        blockDimZ: block[2],
        sharedMemBytes: shared,
        kernelParams: arguments.pointers(),
        extra: ptr::null_mut(),
    }
}

impl Graph {
    /// Gives the launch at a place, counted from 0, other arguments; the kernel and everything else of it stay what they were. What
    /// was already started keeps its arguments.
    ///
    /// # Errors
    /// [`Error::Shape`] for a place that does not exist; as [`Stream::launch`].
    pub fn set_launch(
        &mut self,
        place: usize,
        function: &Function,
        shape: [[u32; 3]; 2],
        shared: u32,
        arguments: &[u64],
    ) -> Result<()> {
        let context = &self.built.context;
        let calls = context.graph_calls()?;
        let Some(&node) = self.built.nodes.get(place) else {
            let reason = format!("launch {place} of {}", self.built.nodes.len());
            return Err(Error::Shape { operand: "graph", reason });
        };
        let mut arguments = Arguments::new(arguments)?;
        let parameters = parameters(function, shape, shared, &mut arguments);
        let _current = context.enter()?;
        // SAFETY: the node is of the graph that this was made of; otherwise as in `GraphBuilder::launch`.
        let code = unsafe { (calls.set_kernel_node)(self.raw, node, &parameters) };
        context.check("cuGraphExecKernelNodeSetParams", code)
    }
}

impl Stream {
    /// Starts all launches of a graph in this stream.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn launch_graph(&self, graph: &Graph) -> Result<()> {
        let context = self.context();
        let calls = context.graph_calls()?;
        let _current = context.enter()?;
        // SAFETY: both are there and of one context.
        let code = unsafe { (calls.graph_launch)(graph.raw, self.raw()) };
        context.check("cuGraphLaunch", code)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let Ok(calls) = self.built.context.graph_calls() else { return };
        let _current = self.built.context.enter_to_release();
        // SAFETY: instantiated once and destroyed here.
        unsafe { (calls.graph_exec_destroy)(self.raw) };
    }
}

impl Drop for GraphBuilder {
    fn drop(&mut self) {
        let Ok(calls) = self.context.graph_calls() else { return };
        let _current = self.context.enter_to_release();
        // SAFETY: created once and destroyed here.
        unsafe { (calls.graph_destroy)(self.raw) };
    }
}
