//! Handles: serial numbers of the objects that callers hold. They look like pointers but are never followed, so that a
//! handle that was destroyed, is of another kind or was never given out is found out and does no harm.
#![forbid(unsafe_code)]

use core::ops::Deref;
use core::ptr;
use std::any::Any;
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

/// Where an object lies; the next one of its kind may take its place.
struct Place<T>(Option<T>);

type AnyPlace = Arc<dyn Any + Send + Sync>;

/// Objects by the value of their handle, in ascending order.
struct Registry {
    last: usize,
    live: Vec<(usize, AnyPlace)>,
    /// Empty places, at most [`IDLE`].
    idle: Vec<AnyPlace>,
}

/// Places that are kept.
const IDLE: usize = 32;

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { last: 0, live: Vec::new(), idle: Vec::new() });

impl Registry {
    fn find(&self, value: usize) -> core::result::Result<usize, usize> {
        self.live.binary_search_by_key(&value, |&(value, _)| value)
    }

    /// An empty place, of an object that is gone where there is one.
    fn place<T: Object>(&mut self) -> Arc<Place<T>> {
        let found = self.idle.iter().position(|place| place.is::<Place<T>>());
        let found = found.map(|index| self.idle.swap_remove(index).downcast());
        found.and_then(core::result::Result::ok).unwrap_or_else(|| Arc::new(Place(None)))
    }
}

/// What a handle stands for, for as long as a call needs it.
pub(crate) struct Held<T: Object>(Arc<Place<T>>);

impl<T: Object> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0.0 {
            Some(object) => object,
            None => unreachable!("what is live is in its place"),
        }
    }
}

/// No call into the host or the model happens under the lock.
fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new handle.
pub(crate) fn insert<T: Object>(object: T) -> *mut T::Handle {
    let mut registry = registry();
    let mut place = registry.place::<T>();
    match Arc::get_mut(&mut place) {
        Some(empty) => empty.0 = Some(object),
        None => place = Arc::new(Place(Some(object))),
    }
    loop {
        // A serial number comes back only after all of them, and never while it is in use.
        registry.last = registry.last % SERIALS + 1;
        let value = MARK | (registry.last * SPACING + T::KIND as usize);
        if let Err(index) = registry.find(value) {
            registry.live.insert(index, (value, place));
            return ptr::without_provenance_mut(value);
        }
    }
}

/// What the handle stands for.
pub(crate) fn get<T: Object>(handle: *const T::Handle) -> Result<Held<T>> {
    let registry = registry();
    let place = registry.find(handle.addr()).ok().and_then(|index| registry.live.get(index));
    let place = place.and_then(|(_, place)| place.clone().downcast().ok());
    place.map(Held).ok_or_else(|| unknown::<T>(handle.addr(), registry.last))
}

/// Takes the handle away. What it stood for goes with the last call that uses it.
pub(crate) fn remove<T: Object>(handle: *const T::Handle) -> Result<()> {
    let Held(mut place) = get::<T>(handle)?;
    let mut registry = registry();
    if let Ok(index) = registry.find(handle.addr()) {
        registry.live.remove(index);
    }
    drop(registry);
    // Where another call uses the object, it goes with that call, and its place too.
    if let Some(object) = Arc::get_mut(&mut place).and_then(|place| place.0.take()) {
        drop(object);
        let mut registry = self::registry();
        if registry.idle.len() < IDLE {
            registry.idle.push(place);
        }
    }
    Ok(())
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

    #[test]
    fn an_object_in_use_outlives_its_handle() {
        struct Counted(Arc<()>);
        impl Object for Counted {
            type Handle = Opaque;
            const KIND: Kind = Kind::Image;
        }
        let alive = Arc::new(());
        let first = insert(Counted(alive.clone()));
        let held = get::<Counted>(first).unwrap();
        assert!(remove::<Counted>(first).is_ok());
        assert_eq!(Arc::strong_count(&held.0.0.as_ref().unwrap().0), 2, "a call uses it");
        drop(held);
        assert_eq!(Arc::strong_count(&alive), 1);
        for _ in 0..3 {
            let next = insert(Counted(alive.clone()));
            assert_eq!(Arc::strong_count(&alive), 2);
            assert!(remove::<Counted>(next).is_ok() && get::<Counted>(next).is_err());
            assert_eq!(Arc::strong_count(&alive), 1, "gone with its handle");
        }
    }
}
