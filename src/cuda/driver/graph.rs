//! Graphs: launches that are recorded once and started together as often as wanted.

use core::ptr;

use cust::sys::{CUgraph, CUgraphExec};

use super::calls::GraphCalls;
use super::context::Context;
use super::stream::Stream;
use crate::error::{Error, Result};

/// Only launches of this thread are recorded, and other threads may do as they like meanwhile:
/// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`.
const THREAD_LOCAL: i32 = cust::sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL as i32;

/// Launches with their arguments, ready to start.
pub struct Graph {
    context: Context,
    raw: CUgraphExec,
}

// SAFETY: the driver's functions may be called from any thread, and the handle is valid on all of them; one thread at a time
// launches it, since that takes the stream's order.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

impl Context {
    /// Whether the driver has graphs.
    pub fn has_graphs(&self) -> bool {
        self.calls().graphs.is_some()
    }

    fn graph_calls(&self) -> Result<&GraphCalls> {
        self.calls().graphs.as_ref().ok_or_else(|| Error::Device {
            call: "cuGraphInstantiateWithFlags",
            reason: "the driver is older than CUDA 11.4 and has no graphs".into(),
            lost: false,
        })
    }
}

impl Stream {
    /// Records what `launches` gives to the stream instead of starting it. It may launch kernels and nothing else: no
    /// copies of the host's memory, no memory, no waiting.
    ///
    /// # Errors
    /// Those of `launches`; [`Error::Device`].
    pub fn record(&self, launches: impl FnOnce() -> Result<()>) -> Result<Graph> {
        let context = self.context();
        let calls = context.graph_calls()?;
        let _current = context.enter()?;
        // SAFETY: the stream is there.
        let code = unsafe { (calls.stream_begin_capture)(self.raw(), THREAD_LOCAL) };
        context.check("cuStreamBeginCapture", code)?;
        let launched = launches();
        // Ended in any case, or the stream would be of no more use.
        let mut graph: CUgraph = ptr::null_mut();
        // SAFETY: the capture was begun; `graph` can be written.
        let code = unsafe { (calls.stream_end_capture)(self.raw(), &mut graph) };
        let ended = context.check("cuStreamEndCapture", code);
        let made = launched.and(ended).and_then(|()| {
            let mut raw = ptr::null_mut();
            // SAFETY: a graph that was just captured; `raw` can be written.
            let code = unsafe { (calls.graph_instantiate)(&mut raw, graph, 0) };
            context.check("cuGraphInstantiateWithFlags", code)?;
            Ok(Graph { context: context.clone(), raw })
        });
        if !graph.is_null() {
            // SAFETY: captured once and destroyed here; what was instantiated does not need it.
            unsafe { (calls.graph_destroy)(graph) };
        }
        made
    }

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
        let Ok(calls) = self.context.graph_calls() else { return };
        let _current = self.context.enter_to_release();
        // SAFETY: instantiated once and destroyed here.
        unsafe { (calls.graph_exec_destroy)(self.raw) };
    }
}
