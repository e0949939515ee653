//! How often each program ran, and for how long, by the kernel's own count.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};

/// One program over one measurement.
pub(crate) struct Runs {
    name: String,
    per_connection: f64,
    nanoseconds: f64,
}

/// Counting costs some 20 ns a run, so this is not what the table of ratios was measured with.
pub(crate) fn runs(connections: u32, work: impl FnOnce()) -> Vec<Runs> {
    let _counting = enable_stats(Stats::RunTime).unwrap();
    let before = count();
    work();
    let mut all: Vec<Runs> = count()
        .into_iter()
        .filter_map(|(id, (name, runs, time))| {
            let (_, earlier, spent) = before.get(&id)?;
            let runs = runs.checked_sub(*earlier).filter(|runs| *runs > 0)?;
            Some(Runs {
                name,
                per_connection: runs as f64 / f64::from(connections),
                nanoseconds: (time - *spent).as_nanos() as f64 / runs as f64,
            })
        })
        // Other instances' programs have the same names; ours ran the most.
        .fold(BTreeMap::<String, Runs>::new(), |mut most, runs| {
            match most.get(&runs.name) {
                Some(known) if known.per_connection >= runs.per_connection => {}
                _ => drop(most.insert(runs.name.clone(), runs)),
            }
            most
        })
        .into_values()
        .collect();
    all.sort_by(|a, b| (b.per_connection * b.nanoseconds).total_cmp(&(a.per_connection * a.nanoseconds)));
    all
}

pub(crate) fn draw(all: &[Runs]) -> String {
    let mut text =
        format!("{:<30} {:>10} {:>10} {:>12}\n", "one connection, counted", "runs", "ns a run", "ns");
    for Runs { name, per_connection, nanoseconds } in all {
        let spent = per_connection * nanoseconds;
        writeln!(text, "{name:<30} {per_connection:>10.1} {nanoseconds:>10.0} {spent:>12.0}").unwrap();
    }
    text
}

fn count() -> BTreeMap<u32, (String, u64, Duration)> {
    loaded_programs()
        .flatten()
        .filter_map(|program| {
            let name = program.name_as_str()?.to_owned();
            Some((program.id(), (name, program.run_count(), program.run_time())))
        })
        .collect()
}
