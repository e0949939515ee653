//! What the data path is to cost, as ratios in one run, and whether it does.

use std::fmt::Write as _;

use super::cell::Metric;
use super::ours::NAME;
use super::report::{BASE, itself};
use super::results::{Results, Spread};
use super::rows::{Job, ROWS};

/// What ours is held against.
#[derive(Clone, Copy)]
enum Against {
    /// The same row of a peer.
    Peer(&'static str),
    /// Another row of ours.
    Row(&'static str),
    /// Nothing: the value itself.
    Nothing,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

struct Goal {
    number: u32,
    rows: &'static [&'static str],
    metric: Metric,
    against: Against,
    must: Bound,
    aim: Bound,
}

use Against::{Nothing, Peer, Row};
use Bound::{AtLeast, AtMost};

const NGINX: Against = Peer(BASE);
const MINI: Against = Peer("mini");
const KEPT: &[&str] = &[
    "h1, 1 at a time",
    "h1, 32 at a time",
    "h1, 256 at a time",
    "h2, 1 at a time",
    "h2, 32 at a time",
    "h2, 256 at a time",
];

/// A row to each: number, rows, what, against what, must, aim.
const GOALS: &[Goal] = &[
    goal(1, &["h1, 32 at a time", "h1, 256 at a time"], Metric::Cost, NGINX, AtMost(1.25), AtMost(1.0)),
    goal(2, &["h2, 32 at a time"], Metric::Cost, NGINX, AtMost(1.0), AtMost(0.7)),
    goal(3, KEPT, Metric::Cost, MINI, AtMost(1.35), AtMost(1.15)),
    goal(4, &["h1, 32 at a time"], Metric::Rate, Peer("hudsucker"), AtLeast(0.85), AtLeast(1.0)),
    goal(
        5,
        &["h1, 1 at a time", "h2, 1 at a time", "h1, paced, 200 a second"],
        Metric::P50,
        NGINX,
        AtMost(1.25),
        AtMost(1.0),
    ),
    goal(6, &["h1, 1 at a time", "h2, 1 at a time"], Metric::P99, NGINX, AtMost(1.6), AtMost(1.1)),
    goal(7, &["new connections, 8 at a time"], Metric::Cost, NGINX, AtMost(0.9), AtMost(0.65)),
    goal(7, &["new connections, 8 at a time"], Metric::P50, NGINX, AtMost(1.1), AtMost(0.9)),
    goal(8, &["new connections, resumed"], Metric::Resumed, Nothing, AtLeast(0.95), AtLeast(0.99)),
    goal(8, &["new connections, resumed"], Metric::Cost, NGINX, AtMost(0.8), AtMost(0.62)),
    goal(9, &["new connections, 1,000 names, first sight"], Metric::Cost, MINI, AtMost(1.5), AtMost(1.15)),
    goal(
        9,
        &["new connections, 1,000 names, first sight"],
        Metric::Handshake,
        Row("new connections, 1,000 names, seen before"),
        AtMost(1.5),
        AtMost(1.1),
    ),
    goal(10, &["h1, 64 KiB bodies, 8 at a time"], Metric::Rate, NGINX, AtLeast(0.85), AtLeast(1.0)),
    goal(11, &["1 GiB down, h1"], Metric::Cost, NGINX, AtMost(0.9), AtMost(0.7)),
    goal(11, &["1 GiB down, h1"], Metric::Rate, NGINX, AtLeast(0.95), AtLeast(1.1)),
    goal(12, &["1 GiB up, h1"], Metric::Cost, NGINX, AtMost(0.55), AtMost(0.35)),
    goal(12, &["100 MiB up, h2"], Metric::Rate, NGINX, AtLeast(1.5), AtLeast(1.9)),
    goal(13, &["server-sent events"], Metric::First, NGINX, AtMost(1.4), AtMost(1.0)),
    goal(13, &["server-sent events"], Metric::P50, NGINX, AtMost(1.25), AtMost(1.0)),
    goal(13, &["server-sent events"], Metric::Slowest, Nothing, AtMost(20_000.0), AtMost(5_000.0)),
    goal(14, &["start"], Metric::Resident, NGINX, AtMost(1.0), AtMost(0.6)),
    goal(14, &["1,000 idle, h1"], Metric::Held, NGINX, AtMost(2.2), AtMost(1.7)),
    goal(14, &["1,000 idle, h2"], Metric::Held, NGINX, AtMost(3.0), AtMost(2.0)),
    goal(15, &["start"], Metric::First, NGINX, AtMost(3.0), AtMost(1.5)),
    goal(16, &["1 GiB down, passed through"], Metric::Cost, Row("1 GiB down, h1"), AtMost(0.65), AtMost(0.3)),
];

const fn goal(
    number: u32,
    rows: &'static [&'static str],
    metric: Metric,
    against: Against,
    must: Bound,
    aim: Bound,
) -> Goal {
    Goal { number, rows, metric, against, must, aim }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtMost(bound) => value <= bound,
            Bound::AtLeast(bound) => value >= bound,
        }
    }

    fn shown(self, number: impl Fn(f64) -> String) -> String {
        match self {
            Bound::AtMost(bound) => format!("≤ {}", number(bound)),
            Bound::AtLeast(bound) => format!("≥ {}", number(bound)),
        }
    }
}

impl Goal {
    /// What was measured in one of its rows.
    fn measured(&self, results: &Results, row: &str) -> Option<Spread> {
        match self.against {
            Peer(peer) => results.ratio(self.metric, (row, NAME), (row, peer)),
            Row(other) => results.ratio(self.metric, (row, NAME), (other, NAME)),
            Nothing => results.values(row, NAME, self.metric),
        }
    }

    fn line(&self, results: &Results, row: &str) -> Option<String> {
        let measured = self.measured(results, row)?;
        let absolute = matches!(self.against, Nothing);
        let number = |value: f64| match absolute {
            true => itself(self.metric, Job::Requests, value),
            false => format!("{value:.2}"),
        };
        let against = match self.against {
            Peer(peer) => format!(" against {peer}"),
            Row(other) => format!(" against `{other}`"),
            Nothing => String::new(),
        };
        let reached = match (self.must.holds(measured.median), self.aim.holds(measured.median)) {
            (true, true) => "yes",
            (true, false) => "must: yes, aim: no",
            (false, _) => "**no**",
        };
        Some(format!(
            "| {} | `{row}`: {}{against} | {} | {} | {} ({} to {}) | {reached} |",
            self.number,
            name(self.metric),
            self.must.shown(number),
            self.aim.shown(number),
            number(measured.median),
            number(measured.lowest),
            number(measured.highest),
        ))
    }
}

fn name(metric: Metric) -> &'static str {
    match metric {
        Metric::Rate => "rate",
        Metric::Cost => "cost",
        Metric::Later => "cost afterwards",
        Metric::P50 => "p50",
        Metric::P99 => "p99",
        Metric::Slowest => "slowest",
        Metric::Handshake => "handshake p50",
        Metric::Resumed => "part that is resumed",
        Metric::First => "the first",
        Metric::Resident => "resident memory",
        Metric::Held => "memory for each",
        Metric::Errors => "errors",
    }
}

/// The table; empty where no goal was measured.
pub(super) fn markdown(results: &Results) -> String {
    let lines: Vec<_> =
        GOALS.iter().flat_map(|goal| goal.rows.iter().filter_map(|row| goal.line(results, row))).collect();
    if lines.is_empty() {
        return String::new();
    }
    let rows = ROWS.iter().filter(|row| results.played(row.name, NAME));
    let errors: f64 = rows.map(|row| results.errors(row.name, NAME)).sum();
    let mut text = String::from(
        "\nThe goals, of the enforcer with everything on (policy, injection, scrubbing, durable receipts):\n\n\
         | | what | must | aim | measured | reached |\n|---|---|---|---|---|---|\n",
    );
    for line in lines {
        // A String takes whatever is written to it.
        let _written = writeln!(text, "{line}");
    }
    let reached = if errors > 0.0 { "**no**" } else { "yes" };
    let _written =
        writeln!(text, "| 17 | errors and answers other than 2xx, all rows | 0 | 0 | {errors} | {reached} |");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_has_its_rows() {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        for goal in GOALS {
            let other = if let Row(other) = goal.against { vec![other] } else { Vec::new() };
            for row in goal.rows.iter().copied().chain(other) {
                assert!(names.contains(&row), "goal {}: there is no row `{row}`", goal.number);
            }
        }
    }

    #[test]
    fn a_goal_is_reached_by_its_median() {
        let mut results = Results::default();
        for (round, own) in [(1, 0.9), (2, 1.2), (3, 9.0)] {
            for (peer, cost) in [(NAME, own), (BASE, 1.0)] {
                results.add("h1, 32 at a time", peer, round, [(Metric::Cost, cost)].into());
            }
        }
        let text = markdown(&results);
        assert!(text.contains("| ≤ 1.25 | ≤ 1.00 | 1.20 (0.90 to 9.00) | must: yes, aim: no |"), "{text}");
        results.add("h1, 32 at a time", NAME, 4, [(Metric::Errors, 2.0)].into());
        assert!(markdown(&results).contains("| 0 | 0 | 2 | **no** |"));
    }
}
