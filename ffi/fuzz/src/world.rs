//! What the random host has: handles, pictures, models; and how it passes things by address.

use core::ptr;
use std::error::Error;
use std::path::Path;

use triplet_c::image::{triplet_image, triplet_image_destroy};
use triplet_c::model::{triplet_live_handles, triplet_model, triplet_model_destroy};
use triplet_c::reply::{triplet_reply, triplet_reply_destroy};
use triplet_c::session::{triplet_session, triplet_session_destroy};
use triplet_c::status::triplet_status;

use crate::models::Models;
use crate::pool::Pool;
use crate::random::Random;

/// Size of the picture.
pub const WIDTH: usize = 40;
pub const HEIGHT: usize = 28;

/// The state of the host.
pub struct World {
    pub random: Random,
    pub files: Models,
    /// `WIDTH` x `HEIGHT` pixels of four channels.
    pub picture: Vec<u8>,
    pub models: Pool<triplet_model>,
    pub sessions: Pool<triplet_session>,
    pub images: Pool<triplet_image>,
    pub replies: Pool<triplet_reply>,
    /// Models that were loaded.
    pub loaded: u64,
    /// Numbers of the models that nothing is wrong with.
    pub fine: Vec<u64>,
    /// Calls that callbacks made during the last call.
    pub nested: Vec<(&'static str, triplet_status)>,
    /// Ids of an answer.
    pub answer: Vec<u32>,
}

impl World {
    /// A host without handles. `model` is the directory of the tiny model.
    pub fn new(seed: u64, model: &Path) -> Result<World, Box<dyn Error>> {
        Ok(World {
            random: Random::new(seed),
            files: Models::new(model)?,
            picture: (0..WIDTH * HEIGHT * 4).map(|index| (index * 7 % 251) as u8).collect(),
            models: Pool::new(6),
            sessions: Pool::new(12),
            images: Pool::new(12),
            replies: Pool::new(24),
            loaded: 0,
            fine: Vec::new(),
            nested: Vec::new(),
            answer: vec![5, 6, 7],
        })
    }

    /// The address of something, sometimes NULL or not aligned.
    pub fn place<T>(&mut self, address: *mut T) -> *mut T {
        match self.random.below(50) {
            0 => ptr::null_mut(),
            1 if align_of::<T>() > 1 => address.wrapping_byte_add(1),
            _ => address,
        }
    }

    /// A model, most often one that nothing is wrong with, and its number.
    pub fn model(&mut self) -> (*mut triplet_model, u64) {
        let fine =
            self.random.chance(65).then(|| self.models.live.iter().find(|m| self.fine.contains(&m.model)));
        match fine.flatten() {
            Some(live) => (live.handle, live.model),
            None => {
                let handle = self.models.any(&mut self.random);
                (handle, self.models.model_of(handle))
            }
        }
    }

    /// A session and an image, most often of one model.
    pub fn pair(&mut self) -> (*mut triplet_session, *mut triplet_image) {
        let session = self.sessions.any(&mut self.random);
        let model = self.sessions.model_of(session);
        if model != 0
            && self.random.chance(95)
            && let Some(image) = self.images.of_model(model, &mut self.random)
        {
            return (session, image);
        }
        (session, self.images.any(&mut self.random))
    }

    /// Destroys what is left and asserts that nothing is left then.
    pub fn end(mut self) {
        // Models go before what was made of them, which must not need them any more.
        self.models.clear(triplet_model_destroy);
        self.replies.clear(triplet_reply_destroy);
        self.images.clear(triplet_image_destroy);
        self.sessions.clear(triplet_session_destroy);
        assert_eq!(triplet_live_handles(), 0, "handles are left");
    }
}
