//! The one error type: every variant names the place (field, tensor, module, limit) that a user has to look at.
#![forbid(unsafe_code)]

use alloc::string::String;
use core::fmt;

/// `Result` with the library's [`Error`].
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// What went wrong, with the name of what to look at.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    Io {
        /// The path as the caller gave it.
        path: String,
        /// The operating system's reason.
        reason: String,
    },
    /// A file is not what its format says (safetensors header, JSON, tokenizer).
    Format {
        /// The file, or the name of the bytes.
        file: String,
        /// What is wrong and where.
        reason: String,
    },
    /// A field of `config.json` is missing, has the wrong type or a value out of range.
    Config {
        /// Dotted path of the field, for example `llm.num_attention_heads`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor is missing, misshapen, of an unsupported type or not finite.
    Tensor {
        /// Full name of the tensor in the weights file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Operands of an operation do not fit each other: a defect of the calling code, never of data.
    Shape {
        /// Operation and operand, for example `linear.x`.
        operand: &'static str,
        /// Which sizes met.
        reason: String,
    },
    /// An argument of a public call is invalid (image, prompt, question, option).
    Input {
        /// Name of the argument or field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A stated limit is exceeded.
    Limit {
        /// The limit's name, for example `llm.max_position_embeddings`.
        limit: &'static str,
        /// Its value.
        max: u64,
        /// What was asked for.
        got: u64,
    },
    /// A module produced a NaN or an infinity.
    NonFinite {
        /// Name of the module, for example `visual_decoder.box`.
        module: String,
    },
    /// Planned decoding cannot meet this item of the plan.
    Plan {
        /// Index of the item, from 0.
        item: usize,
        /// Why it cannot be met.
        reason: String,
    },
    /// The model has no module that the request needs.
    Missing {
        /// Key of the module in `config.json`, for example `visual_decoder.depth`.
        module: String,
    },
    /// Memory could not be had.
    Memory {
        /// What it was for, for example `linear` or `kv_cache`.
        what: &'static str,
        /// Bytes that were asked for.
        bytes: u64,
        /// Bytes that were left of memory of a fixed size; `None` where the system refused.
        left: Option<u64>,
    },
    /// A GPU or its driver refused.
    Device {
        /// The driver's call, for example `cuMemAlloc`, or what was looked for.
        call: &'static str,
        /// What the driver said.
        reason: String,
        /// Whether nothing more can be had from the device in this process: what is on it is gone, and the work can only be
        /// taken up elsewhere.
        lost: bool,
    },
}

impl Error {
    /// Whether a device is lost to this process with everything on it: the model has to be opened on another one, see
    /// [`ModelDir`](crate::config::ModelDir), pictures to be encoded and sessions to be begun there.
    pub fn is_lost(&self) -> bool {
        matches!(self, Error::Device { lost: true, .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { path, reason } => write!(f, "{path}: {reason}"),
            Error::Format { file, reason } => write!(f, "{file}: {reason}"),
            Error::Config { field, reason } => write!(f, "config.json: {field}: {reason}"),
            Error::Tensor { name, reason } => write!(f, "tensor {name}: {reason}"),
            Error::Shape { operand, reason } => write!(f, "{operand}: {reason}"),
            Error::Input { field, reason } => write!(f, "{field}: {reason}"),
            Error::Limit { limit, max, got } => write!(f, "{limit} is {max}, but {got} was asked for"),
            Error::NonFinite { module } => write!(f, "{module}: produced a value that is not finite"),
            Error::Plan { item, reason } => write!(f, "plan item {item}: {reason}"),
            Error::Missing { module } => write!(f, "the model has no {module}"),
            Error::Memory { what, bytes, left: Some(left) } => {
                write!(f, "out of memory: {what} needs {bytes} bytes, but {left} are left")
            }
            Error::Device { call, reason, lost } => {
                let after = if *lost { "; the device is lost to this process" } else { "" };
                write!(f, "{call}: {reason}{after}")
            }
            Error::Memory { what, bytes, left: None } => {
                write!(f, "out of memory: {what} needs {bytes} bytes, which could not be had")
            }
        }
    }
}

impl core::error::Error for Error {}
