//! From what came of a soak to tables.

use std::fmt::{self, Write as _};

use enforcer_tests::soak::measure::{self, DESCRIPTORS, HEAP, RESIDENT, THREADS};
use enforcer_tests::soak::play::{KEEPER, Report, WORKER};

pub(super) fn markdown(report: &Report) -> String {
    let mut text = String::new();
    write(&mut text, report).expect("a String takes whatever is written to it");
    text
}

fn write(text: &mut String, report: &Report) -> fmt::Result {
    let verdict = &report.verdict;
    let minutes = |time: std::time::Duration| time.as_secs_f64() / 60.0;
    writeln!(
        text,
        "{:.0} minutes with restarts and kills, {:.0} without. {} requests, {} receipts, verified {} times. Repeated GETs: {}. \
         Outcomes lost with a worker that was killed: {}.\n",
        minutes(report.plan.rough),
        minutes(report.plan.quiet),
        verdict.requests(),
        report.receipts,
        report.verified,
        verdict.repeated,
        verdict.unknown,
    )?;
    writeln!(text, "| fault | times | until each agent was answered, at most |\n|---|---|---|")?;
    for (fault, (times, longest)) in &report.faults {
        writeln!(text, "| {fault} | {times} | {:.1} s |", longest.as_secs_f64())?;
    }
    writeln!(text, "\n| kind | ends of requests |\n|---|---|")?;
    let kinds: std::collections::BTreeSet<&String> = verdict.ends.keys().map(|(kind, _)| kind).collect();
    for kind in kinds {
        let of_it = verdict.ends.iter().filter(|((of, _), _)| of == kind);
        let ends: Vec<String> = of_it.map(|((_, end), count)| format!("{count} {end}")).collect();
        writeln!(text, "| {kind} | {} |", ends.join(", "))?;
    }
    let warm_up = report.plan.warm_up.as_secs_f64();
    writeln!(
        text,
        "\n| process | what | lowest | highest | slope an hour | standard error |\n|---|---|---|---|---|---|"
    )?;
    for process in [WORKER, KEEPER] {
        for what in [RESIDENT, HEAP, DESCRIPTORS, THREADS] {
            let samples = report.series.get(&(process.to_owned(), what));
            if let Some(fit) = samples.and_then(|samples| measure::fit(samples, warm_up)) {
                let measure::Fit { slope, error, lowest, highest, .. } = fit;
                writeln!(
                    text,
                    "| {process} | {what} | {lowest:.0} | {highest:.0} | {slope:+.1} | {error:.1} |"
                )?;
            }
        }
    }
    let (before, after) = report.idle;
    writeln!(text, "\nThe worker's descriptors without load: {before:.0} before it, {after:.0} after it.")
}
