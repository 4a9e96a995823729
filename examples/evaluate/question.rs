//! What is asked and what is answered, as plain data.
//!
//! Replies of the model and answers of the prior take the same form, so that one set of measures serves both.

/// A picture with everything that is true of it. Maps are row-major, `width * height` long.
pub struct Picture {
    /// The seed it was rendered from.
    pub seed: u64,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// RGB, three bytes a pixel.
    pub rgb: Vec<u8>,
    /// 0 for the background, else the id of the object that is seen there.
    pub instance: Vec<u8>,
    /// Metres along the optical axis; NaN where undefined.
    pub depth: Vec<f32>,
    /// The objects; `Object::id` is 1 and up.
    pub objects: Vec<Object>,
}

/// One object of a picture.
pub struct Object {
    /// Its value in the instance map.
    pub id: u8,
    /// Tight box of its visible pixels, `[x0, y0, x1, y1]`, in pixels, far edges exclusive.
    pub bounds: [f32; 4],
    /// Visible enough to be asked for.
    pub target: bool,
    /// `[x, y, visibility]` of the 17 COCO joints in pixels; empty for anything but the mannequin.
    pub joints: Vec<[f32; 3]>,
}

impl Picture {
    /// The object of the given id.
    pub fn object(&self, id: u8) -> Option<&Object> {
        self.objects.iter().find(|object| object.id == id)
    }

    /// How many objects are visible enough to be asked for.
    pub fn targets(&self) -> usize {
        self.objects.iter().filter(|object| object.target).count()
    }

    /// The visible pixels of the object of the given id.
    pub fn mask(&self, id: u8) -> Vec<bool> {
        self.instance.iter().map(|&value| value == id).collect()
    }
}

/// What is measured of one question about a picture: its task and its true answer.
pub struct Question {
    /// Task name, such as `grounding_detection`.
    pub task: String,
    /// Whether it is answered in words only.
    pub in_words: bool,
    /// The true triplets; none for words only, and none when the thing asked for is absent.
    pub truth: Vec<Truth>,
    /// The true sentence, with the markup of its triplets.
    pub answer: String,
}

impl Question {
    /// Whether it asks for a thing that is not in the picture.
    pub fn is_absent(&self) -> bool {
        !self.in_words && self.truth.is_empty()
    }
}

/// One true triplet.
pub struct Truth {
    /// Its concept.
    pub phrase: String,
    /// Its decoding type.
    pub unit: String,
    /// The object of every target; 0 is the whole picture.
    pub instances: Vec<u8>,
}

/// An answer to a question: the model's, with or without teacher forcing, or the prior's.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The sentence, markup included.
    pub text: String,
    /// The triplets in the order of the sentence.
    pub triplets: Vec<Claimed>,
}

/// One triplet of an answer.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Its concept.
    pub phrase: String,
    /// Its decoding type.
    pub unit: String,
    /// Its targets.
    pub targets: Vec<Guess>,
}

/// One target of an answer.
#[derive(Clone, Debug)]
pub struct Guess {
    /// How sure the answer is of it, in 0..=1; NaN when the words were given.
    pub score: f32,
    /// What was decoded.
    pub target: Target,
}

impl Guess {
    /// A target whose words were given.
    pub fn given(target: Target) -> Guess {
        Guess { score: f32::NAN, target }
    }
}

/// One decoded target in pixels of the picture.
#[derive(Clone, Debug)]
pub enum Target {
    /// `[x0, y0, x1, y1]`.
    Box([f32; 4]),
    /// Row-major, of the picture's size.
    Mask(Vec<bool>),
    /// `[x, y]` of the 17 COCO joints.
    Joints(Vec<[f32; 2]>),
    /// Row-major metres, of the picture's size.
    Depth(Vec<f32>),
    /// Claimed in words, but not decoded.
    Missing,
}
