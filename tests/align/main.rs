//! The example `align` from end to end, in processes that are killed, starved and started twice. Starts itself with the word
//! `--align` for each of them, so it needs a `main` of its own.

#[allow(dead_code)]
#[path = "../../examples/common/mod.rs"]
mod common;
mod export;
mod folder;
mod killed;
mod refused;
#[allow(dead_code, unused_imports)] // its own unit tests, which run with the example
#[path = "../../examples/align/run/mod.rs"]
mod run;
mod variants;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == "--align").is_some() {
        return common::arguments::exit_code(run::run(words));
    }
    // Words that choose tests by a part of their names, as the usual harness has it; its options mean nothing here.
    let chosen: Vec<String> = words.filter(|word| !word.starts_with('-')).collect();
    let tests: [(&str, fn()); 11] = [
        ("a_killed_run_is_the_run_that_was_not_killed", killed::a_killed_run_is_the_run_that_was_not_killed),
        ("threads_and_repetition_change_nothing", killed::threads_and_repetition_change_nothing),
        ("other_options_are_refused_by_name", refused::other_options_are_refused_by_name),
        (
            "a_loss_that_is_no_number_keeps_the_last_state",
            refused::a_loss_that_is_no_number_keeps_the_last_state,
        ),
        ("a_full_disk_keeps_the_last_state", refused::a_full_disk_keeps_the_last_state),
        ("a_folder_belongs_to_one_run", refused::a_folder_belongs_to_one_run),
        ("what_is_missing_is_named", refused::what_is_missing_is_named),
        ("the_result_plugs_into_the_model", export::the_result_plugs_into_the_model),
        (
            "an_average_pooled_export_is_what_was_trained",
            export::an_average_pooled_export_is_what_was_trained,
        ),
        ("a_pooled_target_is_learnt", variants::a_pooled_target_is_learnt),
        ("a_frozen_encoder_stays_as_it_is", variants::a_frozen_encoder_stays_as_it_is),
    ];
    for (name, test) in tests {
        if chosen.is_empty() || chosen.iter().any(|part| name.contains(part.as_str())) {
            println!("test {name}");
            // A failed assertion ends the program as a panic, with a status that is not 0.
            test();
        }
    }
    println!("align: all tests passed");
    ExitCode::SUCCESS
}
