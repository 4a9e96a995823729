//! Questions, sensible and not.

use core::ffi::CStr;
use core::ptr;

use triplet_c::ask::*;
use triplet_c::prompt::*;
use triplet_c::session::*;
use triplet_c::status::{TRIPLET_OK, triplet_status};
use triplet_c::target::*;

use crate::arenas::lent_to_replies;
use crate::host::{CallBack, call_back};
use crate::padded::Padded;
use crate::world::{HEIGHT, WIDTH, World};

const QUESTIONS: [&CStr; 4] =
    [c"What is this?", c"Find the ball.", c"Where is the red mug?", c"D\xc3\xa9tecte tout."];

/// A question with everything that it points to.
struct Asked {
    options: Padded<triplet_ask_options>,
    prompts: Vec<triplet_prompt>,
    plan: Vec<triplet_plan_item>,
    points: Vec<triplet_point>,
    ids: Vec<i32>,
}

impl World {
    /// Options that nothing is wrong with.
    fn sensible(&mut self) -> triplet_ask_options {
        let random = &mut self.random;
        let (memory, memory_size) = lent_to_replies(random);
        triplet_ask_options {
            memory,
            memory_size,
            task: random.below(10) as triplet_task,
            question: random.pick(&QUESTIONS).as_ptr(),
            max_new_tokens: random.pick(&[1, 4, 8, 8, 12]),
            vd_cot: random.below(2) as i32,
            guide: random.pick(&[0, 1, 1, 1, 2]),
            temperature: random.pick(&[0.0, 0.0, 1.0]),
            top_p: random.pick(&[1.0, 0.9]),
            top_k: random.pick(&[0, 5]),
            seed: random.bits(),
            mask_threshold: random.pick(&[0.5, 0.3]),
            time_limit_ms: random.pick(&[0, 0, 3_600_000]),
            ..Default::default()
        }
    }

    fn asked(&mut self) -> Asked {
        let options = self.sensible();
        let mut asked = Asked {
            options: Padded::options(options, &mut self.random),
            prompts: Vec::new(),
            plan: Vec::new(),
            points: Vec::new(),
            ids: Vec::new(),
        };
        let random = &mut self.random;
        if random.chance(20) {
            let item = |unit: &CStr, count: usize| triplet_plan_item {
                name: c"ball".as_ptr(),
                unit: unit.as_ptr(),
                count,
            };
            let unit = random.pick(&[c"box", c"mask", c"keypoint", c"depth"]);
            asked.plan = vec![item(unit, 1)];
            match random.below(20) {
                0 => asked.plan.push(item(c"cup", 1)),
                1 => asked.plan.push(item(unit, 99)),
                2 => asked.plan[0].name = c"\xff".as_ptr(),
                3 => asked.plan[0].unit = ptr::null(),
                4..8 => asked.plan.push(item(c"box", 2)),
                _ => {}
            }
            asked.options.value.max_new_tokens = 60;
            asked.options.value.units =
                TRIPLET_UNIT_BOX | TRIPLET_UNIT_MASK | TRIPLET_UNIT_KEYPOINT | TRIPLET_UNIT_DEPTH;
            asked.options.value.guide = TRIPLET_GUIDE_PLANNED;
        }
        if random.chance(12) {
            asked.options.value.question = c"At [VPT]?".as_ptr();
            asked.points = (0..random.pick(&[0, 1, 3, 5000]))
                .map(|at| triplet_point { x: at as f32 % WIDTH as f32, y: 3.0 })
                .collect();
            let edge = random.pick(&[20.0, 20.0, 20.0, -1.0, f32::NAN, 900.0]);
            let mut prompt = triplet_prompt {
                kind: random.pick(&[0, 1, 1, 2, 3, 9]),
                width: random.pick(&[0.0, 2.0, -1.0]),
                area: [3.0, 2.0, edge, 20.0].into(),
                points: asked.points.as_ptr(),
                point_count: asked.points.len(),
                ..Default::default()
            };
            if random.chance(80) {
                (prompt.mask, prompt.mask_size) = (self.picture.as_ptr(), WIDTH * HEIGHT);
            }
            asked.prompts = vec![prompt; if random.chance(3) { 65 } else { 1 }];
        }
        if random.chance(5) {
            asked.ids = vec![TRIPLET_PROMPT_ID_IMAGE, 4, 9, 12];
            let more = [TRIPLET_PROMPT_ID_IMAGE, TRIPLET_PROMPT_ID_VISUAL_PROMPT, 7, -1, 1_000_000];
            asked.ids.push(random.pick(&more));
            asked.options.value.question = ptr::null();
        }
        asked
    }

    /// Spoils one field.
    fn spoil(&mut self, options: &mut triplet_ask_options) {
        let random = &mut self.random;
        match random.below(16) {
            0 => options.task = random.pick(&[-1, 10, i32::MAX]),
            1 => options.question = random.pick(&[c"", c"\xff", c"<REF>", c"[VPT] and [VPT]"]).as_ptr(),
            2 => options.question = ptr::null(),
            3 => options.elements = random.bits() as u32,
            4 => options.units = random.bits() as u32,
            5 => (options.prompts, options.prompt_count) = (ptr::without_provenance(1), 1),
            6 => options.prompt_count = random.pick(&[1, usize::MAX]),
            7 => options.guide = random.pick(&[-1, 3]),
            8 => (options.plan, options.plan_count) = (ptr::without_provenance(2), usize::MAX),
            9 => options.temperature = random.pick(&[f32::NAN, -1.0, f32::INFINITY]),
            10 => options.top_p = random.pick(&[0.0, 1.5, f32::NAN]),
            11 => options.max_new_tokens = 0,
            12 => options.mask_threshold = f32::NEG_INFINITY,
            13 => (options.prompt_ids, options.prompt_id_count) = (ptr::without_provenance(4), usize::MAX),
            14 => (options.plan, options.plan_count) = (ptr::null(), 1),
            _ => options.vd_cot = i32::MIN,
        }
    }

    /// Asks, or has an answer that is given decoded.
    fn answer(&mut self, given: bool) -> Option<triplet_status> {
        if self.replies.is_full() {
            return None;
        }
        let (session, image) = self.pair();
        let mut asked = self.asked();
        let options = &mut asked.options.value;
        if !asked.prompts.is_empty() {
            (options.prompts, options.prompt_count) = (asked.prompts.as_ptr(), asked.prompts.len());
        }
        if !asked.plan.is_empty() {
            (options.plan, options.plan_count) = (asked.plan.as_ptr(), asked.plan.len());
        }
        if !asked.ids.is_empty() {
            (options.prompt_ids, options.prompt_id_count) = (asked.ids.as_ptr(), asked.ids.len());
        }
        if self.random.chance(15) {
            self.spoil(options);
        }
        let stop_at = if self.random.chance(30) { 1 + self.random.below(4) } else { 0 };
        let mut back = CallBack { session, image, stop_at, events: 0, calls: Vec::new() };
        if self.random.chance(5) {
            options.on_event = Some(call_back);
            options.user_data = (&raw mut back).cast();
        }
        options.struct_size = Padded::<triplet_ask_options>::size(&mut self.random);
        let options = self.place(&raw mut asked.options).cast::<triplet_ask_options>();
        let ids = match self.random.below(10) {
            0 => vec![1_000_000],
            1 => Vec::new(),
            2 => (0..6).map(|_| self.random.below(340) as u32).collect(),
            _ => self.answer.clone(),
        };
        let null = self.random.chance(1);
        let model = self.sessions.model_of(session);
        let status = self.replies.create(model, |reply| {
            let reply = if null {
                // SAFETY: the pool's place for the handle.
                unsafe { reply.write(ptr::null_mut()) };
                ptr::null_mut()
            } else {
                reply
            };
            // SAFETY: options, ids and what they point to are there or refused before they are read; a place for the
            // handle or none.
            unsafe {
                if given {
                    triplet_session_decode_tokens(session, image, options, ids.as_ptr(), ids.len(), reply)
                } else {
                    triplet_session_ask(session, image, options, reply)
                }
            }
        });
        assert!(status != TRIPLET_OK || self.images.model_of(image) == model, "an image of another model");
        self.nested = back.calls;
        Some(status)
    }

    pub fn ask(&mut self) -> Option<triplet_status> {
        self.answer(false)
    }

    pub fn decode_tokens(&mut self) -> Option<triplet_status> {
        self.answer(true)
    }
}
