//! What is asked.

use core::ffi::{c_char, c_void};
use core::time::Duration;
use core::{mem, ptr};

use triplet::arena::Arena;
use triplet::language::Sampling;
use triplet::session::{Prompt, Question};
use triplet::trp::{GuideMode, Plan, PlanItem, PromptItem, Task, TaskCommand};

use crate::event::triplet_event_fn;
use crate::guard::guard;
use crate::memory::{self, Versioned};
use crate::prompt::{triplet_prompt, visual_prompt};
use crate::status::{Failure, Result, triplet_status};
use crate::target::{
    TRIPLET_TASK_VQA, add_elements, add_units, task, triplet_element, triplet_plan_item, triplet_task,
    triplet_unit,
};

/// How an answer is kept well-formed.
pub type triplet_guide = i32;
/// Not at all.
pub const TRIPLET_GUIDE_OFF: triplet_guide = 0;
/// Delimiters, units that have a head, indices, no more targets than the head has slots.
pub const TRIPLET_GUIDE_STRUCTURAL: triplet_guide = 1;
/// Exactly the items of `plan` in order, with free text between; without `plan`, of the plan that the model writes first.
pub const TRIPLET_GUIDE_PLANNED: triplet_guide = 2;

/// Stands for the picture in `prompt_ids`.
pub const TRIPLET_PROMPT_ID_IMAGE: i32 = -200;
/// Stands for the next visual prompt in `prompt_ids`.
pub const TRIPLET_PROMPT_ID_VISUAL_PROMPT: i32 = -300;

/// What is asked and how. Fill it with `triplet_ask_options_init`. All it points to is read during the call only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_ask_options {
    /// sizeof(triplet_ask_options).
    pub struct_size: u32,
    /// What is asked for; TRIPLET_TASK_VQA is any question in words.
    pub task: triplet_task,
    /// The question in UTF-8, one `[VPT]` for each visual prompt.
    pub question: *const c_char,
    /// What the answer is made of, as bits; 0 for what is usual for the task.
    pub elements: triplet_element,
    /// What targets are decoded to, as bits; 0 for what is usual for the task.
    pub units: triplet_unit,
    /// Visual prompts in the order of the `[VPT]` of the question; at most 64.
    pub prompts: *const triplet_prompt,
    /// Their number.
    pub prompt_count: usize,
    /// Instead of `question`, the whole prompt as the language model reads it: token ids,
    /// TRIPLET_PROMPT_ID_IMAGE, TRIPLET_PROMPT_ID_VISUAL_PROMPT. NULL unless that is wanted.
    pub prompt_ids: *const i32,
    /// Their number.
    pub prompt_id_count: usize,
    /// How the answer is kept well-formed.
    pub guide: triplet_guide,
    /// Not 0: the answer begins with its plan (VD-CoT). Without guidance the model decides.
    pub vd_cot: i32,
    /// For TRIPLET_GUIDE_PLANNED; NULL otherwise.
    pub plan: *const triplet_plan_item,
    /// Items of `plan`.
    pub plan_count: usize,
    /// 0 takes the likeliest token; more draws, the more freely the larger it is.
    pub temperature: f32,
    /// Draws among the likeliest tokens that together reach this probability, above 0 and at most 1.
    pub top_p: f32,
    /// Start of the random sequence; the same seed gives the same answer.
    pub seed: u64,
    /// Draws among this many likeliest tokens; 0 for all.
    pub top_k: u32,
    /// Most tokens of the answer, the end-of-text token included.
    pub max_new_tokens: u32,
    /// A pixel belongs to a mask where its probability is above this.
    pub mask_threshold: f32,
    /// Milliseconds for reading the prompt and writing the answer, 0 for no limit; what is complete by then is decoded, which
    /// comes on top. Looked at when `triplet_session_cancel` is.
    pub time_limit_ms: u32,
    /// Told every token and every triplet; may be NULL.
    pub on_event: triplet_event_fn,
    /// Passed to `on_event`.
    pub user_data: *mut c_void,
    /// Memory for the masks and depth maps of the reply, `reply` bytes of triplet_memory that begin at a multiple of
    /// TRIPLET_MEMORY_ALIGNMENT: the library's alone until the reply is destroyed and no call that was given it runs any
    /// more. An answer for which it does not suffice is TRIPLET_OUT_OF_MEMORY. NULL for memory of the allocator.
    pub memory: *mut c_void,
    /// Bytes of `memory`.
    pub memory_size: usize,
}

impl Default for triplet_ask_options {
    fn default() -> triplet_ask_options {
        triplet_ask_options {
            struct_size: size_of::<triplet_ask_options>() as u32,
            task: TRIPLET_TASK_VQA,
            question: ptr::null(),
            elements: 0,
            units: 0,
            prompts: ptr::null(),
            prompt_count: 0,
            prompt_ids: ptr::null(),
            prompt_id_count: 0,
            guide: TRIPLET_GUIDE_STRUCTURAL,
            vd_cot: 1,
            plan: ptr::null(),
            plan_count: 0,
            temperature: 0.0,
            top_p: 1.0,
            seed: 0,
            top_k: 0,
            max_new_tokens: 512,
            mask_threshold: 0.5,
            time_limit_ms: 0,
            on_event: None,
            user_data: ptr::null_mut(),
            memory: ptr::null_mut(),
            memory_size: 0,
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, numbers and pointers.
unsafe impl Versioned for triplet_ask_options {}

/// Fills options with the defaults: any question in words, its plan first, structurally guided, the likeliest tokens, at
/// most 512. `struct_size` is sizeof(triplet_ask_options).
///
/// Any thread. TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `struct_size` bytes can be written to `options`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_ask_options_init(
    options: *mut triplet_ask_options,
    struct_size: usize,
) -> triplet_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { memory::init("options", options, struct_size) })
}

/// What a session keeps of its last question, so that the next one needs no other memory for it.
pub(crate) struct Words {
    command: TaskCommand,
    text: String,
    items: Vec<PromptItem>,
    plan: Plan,
    /// Lines of longer plans.
    spare: Vec<PlanItem>,
}

impl Words {
    pub(crate) fn new() -> Words {
        let command = TaskCommand { task: Task::Vqa, elements: Vec::new(), units: Vec::new() };
        let (text, items, spare) = (String::new(), Vec::new(), Vec::new());
        Words { command, text, items, plan: Plan::default(), spare }
    }

    /// Takes back what a question was made of.
    pub(crate) fn keep(&mut self, question: Question) {
        self.command = question.command;
        match question.prompt {
            Prompt::Text(text) => self.text = text,
            Prompt::Items(items) => self.items = items,
        }
        if let GuideMode::Planned(Some(plan)) = question.guide {
            self.plan = plan;
        }
    }
}

/// The question as the library knows it, made of `words`; the maps of its reply are taken from `maps`.
///
/// # Safety
/// What the options point to is valid during `'a`.
pub(crate) unsafe fn question<'a>(
    options: &triplet_ask_options,
    words: &mut Words,
    maps: Arena,
) -> Result<Question<'a>> {
    let task = task(options.task)?;
    let TaskCommand { mut elements, mut units, .. } =
        mem::replace(&mut words.command, TaskCommand { task, elements: Vec::new(), units: Vec::new() });
    elements.clear();
    units.clear();
    match options.elements {
        0 => elements.extend_from_slice(task.elements()),
        bits => add_elements(bits, &mut elements)?,
    }
    match options.units {
        0 => units.extend(task.unit()),
        bits => add_units(bits, &mut units)?,
    }
    // SAFETY: the caller's promise.
    let (prompt, prompts, plan) = unsafe {
        let prompts = memory::slice("prompts", options.prompts, options.prompt_count)?;
        let prompts = prompts.iter().map(|prompt| visual_prompt(prompt)).collect::<Result<_>>()?;
        (prompt(options, words)?, prompts, plan(options, words)?)
    };
    let guide = match (options.guide, plan) {
        (TRIPLET_GUIDE_OFF, None) => GuideMode::Off,
        (TRIPLET_GUIDE_STRUCTURAL, None) => GuideMode::Structural,
        (TRIPLET_GUIDE_PLANNED, plan) => GuideMode::Planned(plan),
        (TRIPLET_GUIDE_OFF | TRIPLET_GUIDE_STRUCTURAL, Some(_)) => {
            return Err(Failure::argument("plan", "is given, but guide is not TRIPLET_GUIDE_PLANNED"));
        }
        (other, _) => return Err(Failure::argument("guide", format!("{other} is none"))),
    };
    if !options.mask_threshold.is_finite() {
        return Err(Failure::argument("mask_threshold", "is not finite"));
    }
    Ok(Question {
        prompt,
        command: TaskCommand { task, elements, units },
        prompts,
        vd_cot: options.vd_cot != 0,
        guide,
        sampling: Sampling {
            temperature: options.temperature,
            top_k: options.top_k as usize,
            top_p: options.top_p,
            seed: options.seed,
        },
        max_new_tokens: options.max_new_tokens as usize,
        mask_threshold: options.mask_threshold,
        binary_masks: false,
        maps,
    })
}

/// The time limit, where there is one.
pub(crate) fn time_limit(options: &triplet_ask_options) -> Option<Duration> {
    (options.time_limit_ms > 0).then(|| Duration::from_millis(options.time_limit_ms.into()))
}

/// The words or ids of the prompt.
///
/// # Safety
/// As [`question`].
unsafe fn prompt(options: &triplet_ask_options, words: &mut Words) -> Result<Prompt> {
    if options.prompt_ids.is_null() {
        let mut text = mem::take(&mut words.text);
        text.clear();
        // SAFETY: the caller's promise.
        text.push_str(unsafe { memory::text("question", options.question) }?);
        return Ok(Prompt::Text(text));
    }
    if !options.question.is_null() {
        return Err(Failure::argument("prompt_ids", "cannot be given together with question"));
    }
    // SAFETY: the caller's promise.
    let ids = unsafe { memory::slice("prompt_ids", options.prompt_ids, options.prompt_id_count) }?;
    let item = |&id: &i32| match id {
        TRIPLET_PROMPT_ID_IMAGE => Ok(PromptItem::Image),
        TRIPLET_PROMPT_ID_VISUAL_PROMPT => Ok(PromptItem::VisualPrompt),
        _ => match u32::try_from(id) {
            Ok(id) => Ok(PromptItem::Token(id)),
            Err(_) => Err(Failure::argument("prompt_ids", format!("has {id}, which is no token"))),
        },
    };
    let mut items = mem::take(&mut words.items);
    items.clear();
    for id in ids {
        items.push(item(id)?);
    }
    Ok(Prompt::Items(items))
}

/// The plan, where one is given.
///
/// # Safety
/// As [`question`].
unsafe fn plan(options: &triplet_ask_options, words: &mut Words) -> Result<Option<Plan>> {
    if options.plan.is_null() && options.plan_count == 0 {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let items = unsafe { memory::slice("plan", options.plan, options.plan_count) }?;
    let mut plan = mem::take(&mut words.plan);
    words.spare.extend(plan.items.drain(..).rev());
    for item in items {
        // SAFETY: the caller's promise.
        let (name, unit) =
            unsafe { (memory::text("plan.name", item.name)?, memory::text("plan.unit", item.unit)?) };
        let mut line = words.spare.pop().unwrap_or_else(|| PlanItem::new("", "", 0));
        for (text, new) in [(&mut line.name, name), (&mut line.unit, unit)] {
            text.clear();
            text.push_str(new);
        }
        line.count = item.count;
        plan.items.push(line);
    }
    Ok(Some(plan))
}
