//! The report as text.

use std::fmt::Write;

use crate::metrics::calibration::{expected_calibration_error, reliability};
use crate::report::Report;
use crate::tally::Totals;

/// The whole table; its last line is the result line.
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_table(&mut out, report);
    out
}

fn write_table(out: &mut String, report: &Report) -> std::fmt::Result {
    let last = (report.first_seed + report.scenes).saturating_sub(1);
    let (prior_first, prior_count) = report.prior_scenes;
    writeln!(
        out,
        "scenes {}..={last}, {} questions, greedy, structural, no plan given",
        report.first_seed, report.questions
    )?;
    writeln!(
        out,
        "prior fitted on scenes {prior_first}..={}",
        (prior_first + prior_count).saturating_sub(1)
    )?;
    writeln!(out, "errors {}, flagged answers {}\n", report.errors, report.flagged)?;

    writeln!(
        out,
        "{:<34}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}",
        "measure", "model", "forced", "prior", "floor", "aim", "n"
    )?;
    for row in report.rows() {
        let [model, forced, prior] = [row.model, row.forced, row.prior].map(|v| figure(v, 3));
        let [floor, aim] = [row.floor, row.aim].map(|v| figure(v, 2));
        let verdict = row.holds().map_or("", |holds| if holds { "  holds" } else { "  MISSED" });
        writeln!(
            out,
            "{:<34}{model:>8}{forced:>8}{prior:>8}{floor:>8}{aim:>8}{:>8}{verdict}",
            row.name, row.count
        )?;
    }

    writeln!(out, "\n{}", breakdown_head("task"))?;
    for (task, totals) in &report.free.tasks {
        writeln!(out, "{}", breakdown_row(task, totals))?;
    }
    writeln!(out, "\n{}", breakdown_head("targets in the picture"))?;
    for (count, totals) in &report.free.targets {
        writeln!(out, "{}", breakdown_row(&count.to_string(), totals))?;
    }

    let bins = reliability(&report.free.all.boxes);
    let error = figure(expected_calibration_error(&bins), 3);
    writeln!(out, "\ncalibration of the boxes' scores: expected error {error}")?;
    writeln!(out, "{:<16}{:>8}{:>8}{:>8}", "score", "boxes", "mean", "right")?;
    for (index, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.count > 0) {
        let (low, high) = (index as f64 / bins.len() as f64, (index + 1) as f64 / bins.len() as f64);
        let name = format!("{low:.1} to {high:.1}");
        writeln!(out, "{name:<16}{:>8}{:>8.3}{:>8.3}", bin.count, bin.score, bin.correct)?;
    }
    writeln!(out, "\n{}", report.result_line())
}

/// A figure with so many decimals, `-` when undefined.
fn figure(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".into(), |v| format!("{v:.decimals$}"))
}

fn breakdown_head(first: &str) -> String {
    format!(
        "{first:<24}{:>9}{:>8}{:>8}{:>9}{:>8}{:>8}{:>8}{:>8}",
        "triplets", "n", "absent", "sentence", "AP50", "mask", "PCK", "depth"
    )
}

fn breakdown_row(name: &str, t: &Totals) -> String {
    format!(
        "{name:<24}{:>9}{:>8}{:>8}{:>9}{:>8}{:>8}{:>8}{:>8}",
        figure(t.triplets.value(), 3),
        t.triplets.count() + t.text.count(),
        figure(t.absent.value(), 3),
        figure(t.text.value(), 3),
        figure(t.box_ap50(), 3),
        figure(t.mask.value(), 3),
        figure(t.joints.value(), 3),
        figure(t.depth_objects.value(), 3)
    )
}

#[cfg(test)]
mod tests {
    use super::{figure, table};
    use crate::report::Report;
    use crate::tally::Tally;

    #[test]
    fn an_undefined_figure_is_a_dash() {
        assert_eq!((figure(None, 3).as_str(), figure(Some(0.12345), 3).as_str()), ("-", "0.123"));
    }

    #[test]
    fn the_last_line_is_the_result_line_even_when_nothing_was_measured() {
        let report = Report {
            first_seed: 1_000_000,
            scenes: 500,
            questions: 0,
            prior_scenes: (800_000, 500),
            free: Tally::default(),
            forced: None,
            told: Tally::default(),
            blind: Tally::default(),
            errors: 0,
            flagged: 0,
        };
        let text = table(&report);
        assert!(text.starts_with("scenes 1000000..=1000499, 0 questions"));
        assert!(text.lines().last().unwrap().starts_with("result scenes=500 box_ap50=NaN"));
        assert_eq!(text.matches("MISSED").count(), 5);
    }
}
