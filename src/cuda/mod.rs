//! The CUDA backend: every operation of [`Backend`](crate::backend::Backend) on one NVIDIA GPU.
//!
//! How it is put together:
//! - `driver/` is the driver: all unsafe code, and all that is known of `cust`.
//! - The kernels are PTX (`cuda/*.ptx`), part of this library as text and compiled by the driver for the device at hand
//!   ([`Kernel`], [`Signature`], `kernels.rs`). A kernel that has a faster variant for newer devices uses it unless the
//!   driver refuses it or it gives wrong results on the device (`self_test.rs`); then the next simpler one serves.
//! - An operation is a file with a launcher: sizes and parameters from checked operands (`operand.rs`), nothing else.
//! - Memory comes from a pool (`pool.rs`) that keeps what it has: after the first frame of a shape nothing is allocated.
//! - Launches wait in a queue (`queue.rs`) until something is read back or enough are there; a run of kernels that comes
//!   again, a frame or a step of an answer, is started as one graph.
//!
//! What a device loses: after [`Error::Device`] with `lost` nothing on it can be used again. The program goes on by opening the model on another backend, the CPU for one.
#![deny(unsafe_code)]

mod activate;
mod add;
mod attention;
mod backend;
mod constants;
mod conv2d;
mod copy;
#[allow(unsafe_code)]
pub mod driver;
mod embedding;
mod group_norm;
mod is_finite;
mod kernel;
mod kernels;
mod layer_norm;
mod linear;
mod linear_group;
mod linear_runs;
mod mask_pixels;
mod matmul;
mod operand;
mod pool;
mod prepare;
mod quantised;
mod queue;
mod resize;
mod rms_norm;
mod rope;
mod select_token;
mod self_test;
mod signature;
mod transfer;

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::{Mutex, OnceLock};

pub use kernel::Kernel;
pub use pool::Block;
pub use signature::{Argument, Parameter, Signature};
pub use transfer::OnUpload;

use crate::error::{Error, Result};
use crate::weights::{Dtype, Scheme};
use constants::Constants;
use driver::{DeviceInfo, Driver, Stream};
use kernels::Kernels;
use pool::Pool;
use queue::{Item, Launch, Queue};
use transfer::Transfer;

/// The CUDA backend. Cheap to clone; clones share the device's memory, kernels and stream.
#[derive(Clone)]
pub struct Cuda {
    shared: Arc<Shared>,
    poison: bool,
    tensor_cores: bool,
}

/// A tensor of the weights file, or a quantised matrix, in the device's memory.
#[derive(Clone)]
pub struct Stored {
    block: Arc<Block>,
    /// Type of the elements; of the scales where the elements are integers.
    dtype: Dtype,
    /// Where the elements are integers.
    integers: Option<Integers>,
    /// What products of warp groups read instead, once it was asked for; nothing where memory for it was lacking.
    laid_out: Arc<OnceLock<Option<Arc<Block>>>>,
}

/// How the integers of a [`Stored`] are meant.
#[derive(Clone)]
struct Integers {
    scheme: Scheme,
    /// `[n, k]`
    sizes: [usize; 2],
    scales: Arc<Block>,
}

/// What clones share. Fields go in this order: what runs is waited for before what it uses goes.
struct Shared {
    queue: Mutex<Queue>,
    transfer: Mutex<Transfer>,
    constants: Mutex<Constants>,
    /// Blocks that no launch that waits uses.
    early: Mutex<Vec<Block>>,
    /// Memory of matrices and of what else comes and goes.
    pool: Arc<Pool>,
    /// Memory of weights.
    weights: Arc<Pool>,
    kernels: Kernels,
    stream: Stream,
}

impl Cuda {
    /// The GPU of a number, from 0, with this machine's driver.
    ///
    /// # Errors
    /// [`Error::Device`] where there is no driver or it refuses; [`Error::Input`] `device` where there is no such GPU.
    pub fn open(ordinal: usize) -> Result<Cuda> {
        Cuda::with_driver(&Driver::open()?, ordinal)
    }

    /// The GPU of a number with a driver of the caller's choice.
    ///
    /// # Errors
    /// As [`Cuda::open`].
    pub fn with_driver(driver: &Driver, ordinal: usize) -> Result<Cuda> {
        let cuda = Cuda::without_self_test(driver, ordinal)?;
        self_test::choose(&cuda)?;
        Ok(cuda)
    }

    /// As [`Cuda::with_driver`], trusting that kernels give what they should: for tests over drivers that compute nothing.
    ///
    /// # Errors
    /// As [`Cuda::open`].
    pub fn without_self_test(driver: &Driver, ordinal: usize) -> Result<Cuda> {
        let context = driver.context(ordinal)?;
        let stream = context.stream()?;
        let kernels = Kernels::load(&context)?;
        let mapped = context.info().integrated;
        let shared = Shared {
            queue: Mutex::new(Queue::new(context.no_graphs())),
            transfer: Mutex::new(Transfer::new(&context)?),
            constants: Mutex::new(Constants::default()),
            early: Mutex::default(),
            pool: Arc::new(Pool::new(&context, false)),
            weights: Arc::new(Pool::new(&context, mapped)),
            kernels,
            stream,
        };
        Ok(Cuda { shared: Arc::new(shared), poison: false, tensor_cores: true })
    }

    /// What is known of the device.
    pub fn info(&self) -> &DeviceInfo {
        self.shared.stream.context().info()
    }

    /// The variant of a kernel that serves, by its file's name, for example `linear_sm80`.
    /// Nothing where the device is without the kernel.
    pub fn variant(&self, kernel: Kernel) -> &'static str {
        self.shared.kernels.variant(kernel).unwrap_or("")
    }

    /// The same device without its tensor cores. Sums on them are made in another order: with them a row's bits are the same
    /// in every product of more than four rows, without them in every product.
    pub fn without_tensor_cores(&self) -> Cuda {
        Cuda { tensor_cores: false, ..self.clone() }
    }

    /// Whether a kernel that needs tensor cores is to be used.
    fn uses(&self, kernel: Kernel) -> bool {
        self.tensor_cores && self.shared.kernels.variant(kernel).is_some()
    }

    /// For tests: matrices start as NaN, so that an element left unwritten shows.
    pub fn poisoned(&self) -> Cuda {
        Cuda { poison: true, ..self.clone() }
    }

    /// Has `told` told how many bytes of weights have gone to the device since it was opened: after every tensor and at least
    /// every 2 MiB, on the thread that loads.
    pub fn on_upload(&self, told: OnUpload) {
        self.shared.transfer().on_upload(told);
    }

    /// Bytes of device memory that the backend holds, used or not: weights, and the rest.
    pub fn held_bytes(&self) -> [u64; 2] {
        [self.shared.weights.held_bytes(), self.shared.pool.held_bytes()]
    }

    /// Why launches go to the device one by one: the driver lacks graphs, or refused one with this error. `None` while runs that
    /// come again are started as graphs.
    pub fn no_graphs(&self) -> Option<Error> {
        self.shared.queue().no_graphs().cloned()
    }

    /// Waits until everything is computed.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn synchronize(&self) -> Result<()> {
        self.flush()?;
        self.shared.stream.synchronize()
    }

    /// Puts a launch behind all others.
    fn launch(
        &self,
        kernel: Kernel,
        shape: [[u32; 3]; 2],
        shared: u32,
        arguments: &[Argument],
    ) -> Result<()> {
        kernel.signature().check(arguments)?;
        self.push(Item::Launch(Launch::new(kernel, shape, shared, arguments)))
    }

    fn push(&self, item: Item) -> Result<()> {
        self.shared.queue().push(item, &self.shared.kernels, &self.shared.stream)
    }

    /// Starts what waits in the queue.
    fn flush(&self) -> Result<()> {
        self.shared.queue().flush(&self.shared.kernels, &self.shared.stream)
    }
}

impl Drop for Shared {
    /// Blocks of constants go back to the pool, and nothing is pulled from under a kernel that runs.
    fn drop(&mut self) {
        // What fails here has nobody to be told.
        let _ = self.stream.synchronize();
    }
}
