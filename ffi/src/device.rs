//! Where a model computes: models, sessions and pictures of any device under one roof.

use core::ffi::c_void;

#[cfg(feature = "cuda")]
use triplet::Cuda;
use triplet::arena::Arena;
use triplet::backend::Backend;
use triplet::config::ModelDir;
use triplet::cpu::Cpu;
use triplet::device::{Device, Opened};
use triplet::image::ImageView;
use triplet::reply::Reply;
use triplet::session::{Control, EncodedImage, Question, SessionOptions};
use triplet::{Model, Session};

use crate::arena::Lease;
use crate::status::{Failure, Result};

/// A model on the device that its options name.
pub(crate) enum AnyModel {
    Cpu(Model),
    #[cfg(feature = "cuda")]
    Cuda(Model<Cuda>),
}

/// A session of such a model.
pub(crate) enum AnySession {
    Cpu(Session),
    #[cfg(feature = "cuda")]
    Cuda(Session<Cuda>),
}

/// A picture that such a model has looked at.
pub(crate) enum AnyImage {
    Cpu(EncodedImage<Cpu>),
    #[cfg(feature = "cuda")]
    Cuda(EncodedImage<Cuda>),
}

/// The device of a name in the options, NULL standing for the CPU, and what is said of it.
pub(crate) fn open(name: Option<&str>, cpu: Cpu) -> Result<(Opened, String)> {
    let opened = name.map_or(Ok(Device::Cpu), str::parse)?.open(cpu)?;
    let said = opened.to_string();
    Ok((opened, said))
}

impl AnyModel {
    pub(crate) fn load(opened: Opened, dir: ModelDir) -> Result<AnyModel> {
        match opened {
            #[cfg(feature = "cuda")]
            Opened::Cuda(cuda) => Ok(AnyModel::Cuda(Model::from_dir(cuda, dir)?)),
            Opened::Cpu { cpu, .. } => Ok(AnyModel::Cpu(Model::from_dir(cpu, dir)?)),
            _ => Err(Failure::argument("device", "is of a kind that this interface does not know")),
        }
    }

    /// The model where it computes on the CPU, whose memory is the caller's to measure and to lend.
    pub(crate) fn on_cpu(&self) -> Result<&Model> {
        match self {
            AnyModel::Cpu(model) => Ok(model),
            #[cfg(feature = "cuda")]
            AnyModel::Cuda(_) => Err(Failure::argument(
                "memory",
                "is measured and lent only where a model computes on the CPU",
            )),
        }
    }

    /// Threads that the model computes on.
    pub(crate) fn threads(&self) -> usize {
        match self {
            AnyModel::Cpu(model) => model.backend().threads(),
            #[cfg(feature = "cuda")]
            AnyModel::Cuda(_) => 1,
        }
    }

    pub(crate) fn heads(&self) -> &[triplet::trp::UnitHead] {
        match self {
            AnyModel::Cpu(model) => model.heads(),
            #[cfg(feature = "cuda")]
            AnyModel::Cuda(model) => model.heads(),
        }
    }

    pub(crate) fn vocabulary(&self) -> &triplet::text::Vocabulary {
        match self {
            AnyModel::Cpu(model) => model.vocabulary(),
            #[cfg(feature = "cuda")]
            AnyModel::Cuda(model) => model.vocabulary(),
        }
    }

    pub(crate) fn warnings(&self) -> &[String] {
        match self {
            AnyModel::Cpu(model) => model.warnings(),
            #[cfg(feature = "cuda")]
            AnyModel::Cuda(model) => model.warnings(),
        }
    }

    /// A session in memory that the caller lends or the backend's own where `memory` is NULL.
    ///
    /// # Safety
    /// As [`Lease::take`].
    pub(crate) unsafe fn session(
        &self,
        options: SessionOptions,
        memory: *mut c_void,
        size: usize,
    ) -> Result<(AnySession, Lease)> {
        #[cfg(feature = "cuda")]
        if let (AnyModel::Cuda(model), true) = (self, memory.is_null() && size == 0) {
            let session = model.session_on(model.backend().clone(), options)?;
            return Ok((AnySession::Cuda(session), Lease::none()));
        }
        let model = self.on_cpu()?;
        // SAFETY: the caller's promise.
        let (backend, lease) = unsafe { Lease::take(model, memory, size) }?;
        Ok((AnySession::Cpu(model.session_on(backend, options)?), lease))
    }

    /// Looks at a picture, in memory as that of a session.
    ///
    /// # Safety
    /// As [`Lease::take`].
    pub(crate) unsafe fn encode(
        &self,
        image: &ImageView,
        memory: *mut c_void,
        size: usize,
    ) -> Result<(AnyImage, Lease)> {
        #[cfg(feature = "cuda")]
        if let (AnyModel::Cuda(model), true) = (self, memory.is_null() && size == 0) {
            return Ok((AnyImage::Cuda(model.encode(image)?), Lease::none()));
        }
        let model = self.on_cpu()?;
        // SAFETY: the caller's promise.
        let (backend, lease) = unsafe { Lease::take(model, memory, size) }?;
        Ok((AnyImage::Cpu(model.encode_on(&backend, image)?), lease))
    }
}

impl AnyImage {
    pub(crate) fn width(&self) -> usize {
        match self {
            AnyImage::Cpu(image) => image.width(),
            #[cfg(feature = "cuda")]
            AnyImage::Cuda(image) => image.width(),
        }
    }

    pub(crate) fn height(&self) -> usize {
        match self {
            AnyImage::Cpu(image) => image.height(),
            #[cfg(feature = "cuda")]
            AnyImage::Cuda(image) => image.height(),
        }
    }
}

impl AnySession {
    /// Where the maps of replies lie for which no memory was lent: buffers that came free are used again.
    pub(crate) fn maps(&self) -> Arena {
        match self {
            AnySession::Cpu(session) => session.model().backend().arena().clone(),
            #[cfg(feature = "cuda")]
            AnySession::Cuda(session) => session.model().backend().arena().clone(),
        }
    }

    pub(crate) fn ask(
        &mut self,
        image: &AnyImage,
        question: &Question,
        control: &mut Control,
        reply: &mut Reply,
    ) -> Result<()> {
        match (self, image) {
            (AnySession::Cpu(session), AnyImage::Cpu(image)) => {
                Ok(session.ask_into(image, question, control, reply)?)
            }
            #[cfg(feature = "cuda")]
            (AnySession::Cuda(session), AnyImage::Cuda(image)) => {
                Ok(session.ask_into(image, question, control, reply)?)
            }
            #[cfg(feature = "cuda")]
            _ => Err(other_model()),
        }
    }

    pub(crate) fn decode_tokens(
        &mut self,
        image: &AnyImage,
        question: &Question,
        ids: &[u32],
        reply: &mut Reply,
    ) -> Result<()> {
        match (self, image) {
            (AnySession::Cpu(session), AnyImage::Cpu(image)) => {
                *reply = session.decode_tokens(image, question, ids)?;
            }
            #[cfg(feature = "cuda")]
            (AnySession::Cuda(session), AnyImage::Cuda(image)) => {
                *reply = session.decode_tokens(image, question, ids)?;
            }
            #[cfg(feature = "cuda")]
            _ => return Err(other_model()),
        }
        Ok(())
    }
}

/// What is said of a picture that a model on another device has looked at.
#[cfg(feature = "cuda")]
fn other_model() -> Failure {
    Failure::argument("image", "was encoded by another model")
}
