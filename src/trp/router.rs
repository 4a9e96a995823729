//! Which head decodes which `<REF>`.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;

use crate::trp::answer::Answer;
use crate::trp::flags::Flags;
use crate::trp::task::Unit;

/// The head that serves a unit (`unit_heads` of `config.json`) and its number of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitHead {
    /// The unit.
    pub unit: Unit,
    /// Name of the head: its key under `visual_decoder`.
    pub head: String,
    /// The head's `num_queries`.
    pub num_queries: usize,
}

/// One `<REF>`: where it stands in the answer and in the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Index into [`Answer::triplets`].
    pub triplet: usize,
    /// Index into that triplet's references.
    pub reference: usize,
    /// Place of the `<REF>` token in the parsed ids.
    pub position: usize,
}

/// One head and the `<REF>`s that fill its slots; entry `i` goes to slot `i`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Name of the head.
    pub head: String,
    /// At most `num_queries` entries, in order of appearance; never empty.
    pub slots: Vec<Slot>,
}

/// Where all targets of an answer go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// The heads that are needed, in the order of `heads`.
    pub heads: Vec<Route>,
    /// Targets without unit, without a head, or beyond the head's slots; the flags of their triplets say which.
    pub unrouted: Vec<Slot>,
}

/// Gives every head the `<REF>`s of the units that it serves, in order of appearance from slot 0, and sets
/// [`Flags::NO_HEAD`] and [`Flags::TOO_MANY_REFERENCES`] where they apply. Units that share a head share its slots.
pub fn route(answer: &mut Answer, heads: &[UnitHead]) -> Routes {
    let mut router = Router::default();
    router.route(answer, heads);
    router.routes
}

/// Routes answers, with memory that it keeps from one to the next.
#[derive(Default)]
pub(crate) struct Router {
    /// Those of the last answer.
    pub(crate) routes: Routes,
    spare: Vec<Route>,
}

impl Router {
    /// As [`route`].
    pub(crate) fn route(&mut self, answer: &mut Answer, heads: &[UnitHead]) {
        let Router { routes, spare } = self;
        routes.unrouted.clear();
        spare.extend(routes.heads.drain(..).rev());
        for head in heads {
            // The first entry with the head's name collects for all units that share it.
            if routes.heads.iter().any(|route| route.head == head.head) {
                continue;
            }
            let mut route = spare.pop().unwrap_or_else(|| Route { head: String::new(), slots: Vec::new() });
            route.head.clone_from(&head.head);
            route.slots.clear();
            routes.heads.push(route);
        }
        for (index, triplet) in answer.triplets.iter_mut().enumerate() {
            let served = triplet.unit.and_then(|unit| heads.iter().find(|head| head.unit == unit));
            let mut served = served.and_then(|head| {
                let route = routes.heads.iter_mut().find(|route| route.head == head.head)?;
                Some((&mut route.slots, head.num_queries))
            });
            for (reference, target) in triplet.references.iter().enumerate() {
                let slot = Slot { triplet: index, reference, position: target.position };
                match &mut served {
                    Some((slots, most)) if slots.len() < *most => slots.push(slot),
                    Some(_) => {
                        triplet.flags |= Flags::TOO_MANY_REFERENCES;
                        routes.unrouted.push(slot);
                    }
                    None => {
                        if triplet.unit.is_some() {
                            triplet.flags |= Flags::NO_HEAD;
                        }
                        routes.unrouted.push(slot);
                    }
                }
            }
            answer.flags |= triplet.flags;
        }
        spare.extend(routes.heads.extract_if(.., |route| route.slots.is_empty()));
    }
}
