//! Size, alignment and every offset of every public struct, as C and as Rust have them.

use core::mem::{align_of, offset_of};
use std::fmt::Write as _;

use triplet_c::allocator::triplet_allocator;
use triplet_c::arena::{triplet_memory, triplet_memory_bounds};
use triplet_c::ask::triplet_ask_options;
use triplet_c::event::triplet_event;
use triplet_c::image::triplet_image_view;
use triplet_c::model::{triplet_model_bytes, triplet_model_info, triplet_model_options};
use triplet_c::prompt::triplet_prompt;
use triplet_c::reply::{triplet_depth, triplet_entry, triplet_keypoints, triplet_mask, triplet_reply_info};
use triplet_c::session::triplet_session_options;
use triplet_c::target::{triplet_box, triplet_keypoint, triplet_plan_item, triplet_point};

use crate::header::visible;
use crate::programs::run_c;

/// Fields of every struct of the header, in order: (struct, fields).
fn structs() -> Vec<(String, Vec<String>)> {
    let header = visible();
    let mut structs = Vec::new();
    for piece in header.split("typedef struct ").skip(1) {
        let Some((name, rest)) = piece.split_once(" {\n") else { continue };
        let (body, _) = rest.split_once("\n}").unwrap();
        let code: Vec<&str> =
            body.lines().filter(|line| !line.trim_start().starts_with(['/', '*'])).collect();
        let code = code.join(" ");
        let fields = code.split(';').map(str::trim).filter(|field| !field.is_empty());
        let field = |field: &str| {
            let name = match field.split_once("(*") {
                Some((_, rest)) => rest.split(')').next(),
                None => field.split('[').next().and_then(|field| field.rsplit([' ', '*']).next()),
            };
            name.unwrap_or_default().to_owned()
        };
        if !name.contains(';') {
            structs.push((name.to_owned(), fields.map(field).collect()));
        }
    }
    structs
}

/// A line for a struct: `name size alignment`, then `field offset` for every field.
macro_rules! lines {
    ($($name:ident { $($field:ident),* $(,)? })*) => {
        [$((
            stringify!($name),
            [$(stringify!($field)),*].map(str::to_owned).to_vec(),
            vec![size_of::<$name>(), align_of::<$name>(), $(offset_of!($name, $field)),*],
        )),*]
    };
}

#[test]
fn c_and_rust_agree() {
    let rust = lines! {
        triplet_point { x, y }
        triplet_box { x0, y0, x1, y1 }
        triplet_keypoint { x, y, score, visible }
        triplet_plan_item { name, unit, count }
        triplet_allocator { allocate, release, context }
        triplet_model_options {
            struct_size, threads, access, verify, progress, user_data, parallel_for, parallel_context, pool_size, device,
            packed_weights, reserved,
        }
        triplet_model_bytes {
            struct_size, reserved, config, config_len, tokenizer, tokenizer_len, weights, weights_len, release, user_data,
        }
        triplet_memory_bounds { struct_size, positions, width, height, visual_prompts, cache, reserved }
        triplet_memory { struct_size, reserved, weights, image, image_kept, session, kv_cache, map, reply, packed }
        triplet_session_options { struct_size, positions, memory, memory_size, cache, reserved }
        triplet_model_info { struct_size, units, threads, vocab_size, warning_count }
        triplet_image_view { struct_size, format, pixels, size, width, height, stride, memory, memory_size }
        triplet_prompt { kind, width, area, points, point_count, mask, mask_size }
        triplet_event { struct_size, kind, text, text_len, token, unit, count }
        triplet_ask_options {
            struct_size, task, question, elements, units, prompts, prompt_count, prompt_ids, prompt_id_count, guide, vd_cot,
            plan, plan_count, temperature, top_p, seed, top_k, max_new_tokens, mask_threshold, time_limit_ms, on_event,
            user_data, memory, memory_size,
        }
        triplet_reply_info {
            struct_size, finish, flags, has_plan, text, text_len, sentence, sentence_len, ids, id_count, triplet_count,
            plan_count, width, height,
        }
        triplet_entry { struct_size, unit, phrase, phrase_len, group, index, score, flags, target, reserved }
        triplet_mask { struct_size, threshold, width, height, probabilities }
        triplet_keypoints { struct_size, area, points }
        triplet_depth { struct_size, unit, width, height, values }
    };
    #[cfg(feature = "finetune")]
    let rust = {
        use triplet_c::align::{triplet_align_info, triplet_align_options};
        let more = lines! {
            triplet_align_info { struct_size, resumed, updates, total, saved, skipped, loss, validation }
            triplet_align_options {
                struct_size, threads, model, images, validation, out, updates, seed, warmup, validate_every, batch, parts,
                workers, validation_count, skip_blocks, decoder_layers, masks, loss, masks_keep, rate, decay, soft_cap, ema,
                flags, reserved, progress, user_data,
            }
        };
        [&rust[..], &more].concat()
    };
    let structs = structs();
    let define = if cfg!(feature = "finetune") { "#define TRIPLET_FINETUNE\n" } else { "" };
    let mut program = String::from(define);
    program.push_str("#include <stdalign.h>\n#include <stdio.h>\n#include \"triplet.h\"\nint main(void) {\n");
    for (name, fields) in &structs {
        writeln!(program, "  printf(\"%zu %zu\", sizeof({name}), alignof({name}));").unwrap();
        for field in fields {
            writeln!(program, "  printf(\" %zu\", offsetof({name}, {field}));").unwrap();
        }
        program.push_str("  printf(\"\\n\");\n");
    }
    program.push_str("  return 0;\n}\n");
    let printed = run_c("layout", &program, &[]);
    let c: Vec<Vec<usize>> =
        printed.lines().map(|line| line.split(' ').map(|number| number.parse().unwrap()).collect()).collect();
    assert_eq!((structs.len(), c.len()), (rust.len(), rust.len()), "{structs:?}");
    for ((name, fields), numbers) in structs.iter().zip(&c) {
        let (_, known, expected) = rust.iter().find(|(known, ..)| known == name).expect(name);
        assert_eq!((fields, numbers), (known, expected), "{name}");
    }
}

#[test]
fn structs_that_may_grow_begin_with_their_size() {
    let fixed = [
        "triplet_point",
        "triplet_box",
        "triplet_keypoint",
        "triplet_plan_item",
        "triplet_prompt",
        "triplet_allocator",
    ];
    for (name, fields) in structs() {
        assert_eq!(fields[0] == "struct_size", !fixed.contains(&name.as_str()), "{name}");
    }
}
