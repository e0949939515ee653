//! From times to a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Switch, Thrown};

/// What is told of together, by how its name begins or ends: the last of it in each round counts.
const GROUPS: [(&str, Belongs); 3] = [
    ("the agent's sockets", |what| what.starts_with("client ") && !what.ends_with(" denied")),
    ("their upstream ends", |what| what.starts_with("upstream ")),
    ("a new connect is denied", |what| what.ends_with(" denied")),
];

type Belongs = fn(&str) -> bool;

/// The last of one group, each time.
#[derive(Default)]
struct Cell {
    /// Milliseconds.
    since_start: Vec<f64>,
    since_end: Vec<f64>,
    /// Times that one of it lived on.
    never: usize,
}

#[derive(Default)]
pub(super) struct Results(BTreeMap<(Switch, usize), Cell>);

impl Results {
    pub(super) fn add(&mut self, switch: Switch, thrown: &Thrown) {
        for (group, (_, belongs)) in GROUPS.iter().enumerate() {
            let of_it = || thrown.ends.iter().filter(|(what, _)| belongs(what)).map(|(_, at)| *at);
            if of_it().next().is_none() {
                continue;
            }
            let cell = self.0.entry((switch, group)).or_default();
            match of_it().collect::<Option<Vec<f64>>>() {
                Some(all) => {
                    let last = all.into_iter().fold(f64::NEG_INFINITY, f64::max);
                    cell.since_start.push((last - thrown.start) * 1e3);
                    cell.since_end.extend(thrown.end.map(|end| (last - end) * 1e3));
                }
                None => cell.never += 1,
            }
        }
    }

    pub(super) fn markdown(&self, rounds: usize) -> String {
        let mut text = format!(
            "{rounds} rounds, milliseconds until the last one of a round is dead; less than 0: before the command has ended.\n\n\
             | switch | what | from its start: p50 | p90 | max | from its end: p50 | p90 | max | lived on |\n|---|---|---|---|---|---|---|---|---|\n"
        );
        for ((switch, group), cell) in &self.0 {
            let what = GROUPS.get(*group).map_or("", |(name, _)| name);
            let (start, end) = (spread(&cell.since_start), spread(&cell.since_end));
            // A String takes whatever is written to it.
            let _written =
                writeln!(text, "| {} | {what} | {start} | {end} | {} |", switch.name(), cell.never);
        }
        text
    }
}

/// `p50 | p90 | max`
fn spread(all: &[f64]) -> String {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    let at = |share: usize| all.get(all.len() * share / 100).or(all.last());
    match (at(50), at(90), all.last()) {
        (Some(p50), Some(p90), Some(max)) => format!("{p50:.1} | {p90:.1} | {max:.1}"),
        _ => "– | – | –".to_owned(),
    }
}
