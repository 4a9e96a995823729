//! Handles: serial numbers of the objects that callers hold. They look like pointers but are never followed, so that a
//! handle that was destroyed, is of another kind or was never given out is found out and does no harm.
#![forbid(unsafe_code)]

use core::ptr;
use std::any::Any;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::status::{Failure, Result, TRIPLET_INVALID_HANDLE};

/// What a handle stands for.
pub(crate) trait Object: Any + Send + Sync {
    /// The opaque type that C sees.
    type Handle;
    const KIND: Kind;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Model = 1,
    Session = 2,
    Image = 3,
    Reply = 4,
    #[cfg(feature = "finetune")]
    Align = 5,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Session => "session",
            Kind::Image => "image",
            Kind::Reply => "reply",
            #[cfg(feature = "finetune")]
            Kind::Align => "run",
        }
    }

    fn of(value: usize) -> Option<Kind> {
        let kinds = [
            Kind::Model,
            Kind::Session,
            Kind::Image,
            Kind::Reply,
            #[cfg(feature = "finetune")]
            Kind::Align,
        ];
        kinds.into_iter().find(|&kind| value % SPACING == kind as usize)
    }
}

/// Handles are `MARK + serial * SPACING + kind`.
const SPACING: usize = 16;

/// On 64-bit machines handles are no addresses at all: following one faults.
const MARK: usize = if usize::BITS == 64 { 0x7452 << (usize::BITS - 16) } else { 0 };

/// Serial numbers that fit beside the mark.
const SERIALS: usize =
    if usize::BITS == 64 { (1 << (usize::BITS - 20)) - 1 } else { usize::MAX / SPACING - 1 };

/// Objects by the value of their handle.
struct Registry {
    last: usize,
    live: BTreeMap<usize, Arc<dyn Any + Send + Sync>>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { last: 0, live: BTreeMap::new() });

/// No call into the host or the model happens under the lock.
fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new handle.
pub(crate) fn insert<T: Object>(object: T) -> *mut T::Handle {
    let object: Arc<dyn Any + Send + Sync> = Arc::new(object);
    let mut registry = registry();
    loop {
        // A serial number comes back only after all of them, and never while it is in use.
        registry.last = registry.last % SERIALS + 1;
        let value = MARK | (registry.last * SPACING + T::KIND as usize);
        if let Entry::Vacant(entry) = registry.live.entry(value) {
            entry.insert(object);
            return ptr::without_provenance_mut(value);
        }
    }
}

/// What the handle stands for.
pub(crate) fn get<T: Object>(handle: *const T::Handle) -> Result<Arc<T>> {
    let registry = registry();
    let object = registry.live.get(&handle.addr()).cloned();
    object.and_then(|object| object.downcast().ok()).ok_or_else(|| unknown::<T>(handle.addr(), registry.last))
}

/// Takes the handle away. What it stood for goes with the last call that uses it.
pub(crate) fn remove<T: Object>(handle: *const T::Handle) -> Result<Arc<T>> {
    let object = get::<T>(handle)?;
    registry().live.remove(&handle.addr());
    Ok(object)
}

/// Handles that were given out and not destroyed.
pub(crate) fn live() -> usize {
    registry().live.len()
}

fn unknown<T: Object>(value: usize, last: usize) -> Failure {
    let name = T::KIND.name();
    let serial = (value & !MARK) / SPACING;
    let given = value & MARK == MARK && (1..=last).contains(&serial);
    let message = match Kind::of(value).filter(|_| given) {
        _ if value == 0 => format!("{name} is NULL"),
        Some(kind) if kind != T::KIND => format!("{name} is the handle of another kind: {}", kind.name()),
        Some(_) => format!("{name} was destroyed"),
        None => format!("{name} is no handle of this library"),
    };
    Failure::new(TRIPLET_INVALID_HANDLE, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Model;
    struct Reply;
    enum Opaque {}

    impl Object for Model {
        type Handle = Opaque;
        const KIND: Kind = Kind::Model;
    }

    impl Object for Reply {
        type Handle = Opaque;
        const KIND: Kind = Kind::Reply;
    }

    #[test]
    fn bad_handles_are_told_apart() {
        let message = |handle: *const Opaque| get::<Model>(handle).err().map(|failure| failure.message);
        let model = insert(Model);
        assert_eq!(message(model), None);
        assert_eq!(message(insert(Reply)).unwrap(), "model is the handle of another kind: reply");
        assert_eq!(message(ptr::null()).unwrap(), "model is NULL");
        let local = 0u64;
        assert_eq!(message((&raw const local).cast()).unwrap(), "model is no handle of this library");
        let future = model.addr() + (SPACING << 30);
        assert_eq!(message(ptr::without_provenance(future)).unwrap(), "model is no handle of this library");
        assert!(remove::<Model>(model).is_ok());
        assert_eq!(message(model).unwrap(), "model was destroyed");
        assert!(remove::<Model>(model).is_err());
        assert_ne!(insert(Model), model, "handles are not given out again");
    }
}
