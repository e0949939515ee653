//! The table of ratios.

use std::fmt::Write as _;

use super::cell::Metric;
use super::goals;
use super::peers::DIRECT;
use super::results::{Results, Spread};
use super::rows::{Job, ROWS, Row};

pub(super) const BASE: &str = "nginx";

type Columns = &'static [(&'static str, Metric)];

const REQUESTS: Columns =
    &[("requests/s", Metric::Rate), ("cost", Metric::Cost), ("p50", Metric::P50), ("p99", Metric::P99)];
const BULK: Columns = &[("MiB/s", Metric::Rate), ("cost", Metric::Cost)];
const EVENTS: Columns =
    &[("first event", Metric::First), ("event p50", Metric::P50), ("slowest event", Metric::Slowest)];
const START: Columns = &[("first answer", Metric::First), ("memory", Metric::Resident)];
const IDLE: Columns = &[("memory for each", Metric::Held)];

/// One table for each kind of row.
const TABLES: &[(Job, &str, Columns)] = &[
    (Job::Requests, "Requests. Cost: processor time of the proxy for one", REQUESTS),
    (Job::Bulk, "Large bodies. Cost: processor time of the proxy for a GiB", BULK),
    (Job::Events, "Server-sent events, a hundred, 10 ms apart", EVENTS),
    (Job::Start, "From nothing to the first answer, and what is resident then", START),
    (Job::Idle, "Idle connections", IDLE),
];

pub(super) fn markdown(results: &Results, peers: &[&'static str], rounds: usize) -> String {
    let mut text = format!(
        "Ratios to nginx, taken within a round: median (lowest to highest) of {rounds} rounds; in brackets behind, the median itself.\n"
    );
    for (job, title, columns) in TABLES {
        let rows: Vec<_> = ROWS.iter().filter(|row| row.job == *job && played(results, row, peers)).collect();
        if rows.is_empty() {
            continue;
        }
        let heads: Vec<_> = columns.iter().map(|(head, _)| *head).collect();
        // A String takes whatever is written to it.
        let _written = write!(text, "\n{title}:\n\n| load | peer | {} |", heads.join(" | "));
        let _written = writeln!(text, "\n|---|---|{}", "---|".repeat(columns.len()));
        for row in rows {
            for peer in peers.iter().filter(|peer| results.played(row.name, peer)) {
                let cells: Vec<_> =
                    columns.iter().map(|(_, metric)| cell(results, row, peer, *metric)).collect();
                let _written = writeln!(text, "| {} | {peer} | {} |", row.name, cells.join(" | "));
            }
        }
    }
    text + &more(results, peers) + &errors(results, peers) + &goals::markdown(results)
}

fn played(results: &Results, row: &Row, peers: &[&str]) -> bool {
    peers.iter().any(|peer| results.played(row.name, peer))
}

fn cell(results: &Results, row: &Row, peer: &str, metric: Metric) -> String {
    let spent = matches!(metric, Metric::Cost | Metric::Resident | Metric::Held);
    let value = results.values(row.name, peer, metric).filter(|_| !(spent && peer == DIRECT));
    let Some(value) = value else { return "–".to_owned() };
    let itself = itself(metric, row.job, value.median);
    let ratio = results.ratio(metric, (row.name, peer), (row.name, BASE)).filter(|_| peer != BASE);
    match ratio {
        Some(ratio) => format!("{} [{itself}]", spread(ratio)),
        None => format!("[{itself}]"),
    }
}

fn spread(of: Spread) -> String {
    format!("{:.2} ({:.2} to {:.2})", of.median, of.lowest, of.highest)
}

pub(super) fn itself(metric: Metric, job: Job, value: f64) -> String {
    match metric {
        Metric::Rate => format!("{value:.0}"),
        Metric::Cost | Metric::Later if job == Job::Bulk => format!("{value:.2} s"),
        Metric::Cost | Metric::Later | Metric::P50 | Metric::P99 | Metric::Slowest | Metric::Handshake => {
            format!("{value:.0} µs")
        }
        Metric::First => format!("{value:.1} ms"),
        Metric::Resident => format!("{:.1} MiB", value / 1024.0),
        Metric::Held => format!("{value:.1} KiB"),
        Metric::Resumed | Metric::Errors => format!("{value:.2}"),
    }
}

/// What has a column of its own nowhere: added latency, resumption, the time after a load.
fn more(results: &Results, peers: &[&str]) -> String {
    let mut lines = Vec::new();
    for row in ROWS {
        let list = |what: &dyn Fn(&str) -> Option<String>| {
            let said: Vec<_> =
                peers.iter().filter_map(|peer| Some(format!("{peer} {}", what(peer)?))).collect();
            (!said.is_empty()).then(|| said.join(", "))
        };
        let latency = row.name.contains("1 at a time") || row.name.contains("paced");
        let added = list(&|peer| {
            let of = |metric| results.added(metric, row.name, peer, DIRECT).filter(|_| peer != DIRECT);
            Some(format!("{:.0} / {:.0}", of(Metric::P50)?.median, of(Metric::P99)?.median))
        });
        lines.extend(
            added
                .filter(|_| latency)
                .map(|said| format!("Added to p50 / p99 of `direct`, µs, {}: {said}.", row.name)),
        );
        let resumed =
            list(&|peer| Some(format!("{:.3}", results.values(row.name, peer, Metric::Resumed)?.median)));
        lines.extend(
            resumed
                .filter(|_| row.name.contains("resumed"))
                .map(|said| format!("Resumed, part of connections that offer it: {said}.")),
        );
        let handshake =
            list(&|peer| Some(format!("{:.0}", results.values(row.name, peer, Metric::Handshake)?.median)));
        lines.extend(handshake.map(|said| format!("TCP and TLS, p50 in µs, {}: {said}.", row.name)));
        let later = list(&|peer| {
            let later = results.values(row.name, peer, Metric::Later)?.median;
            let cost = results.values(row.name, peer, Metric::Cost)?.median;
            (later > cost / 20.0).then(|| itself(Metric::Later, row.job, later))
        });
        lines.extend(later.map(|said| format!("Spent after the load, {}: {said}.", row.name)));
    }
    if lines.is_empty() { String::new() } else { format!("\n- {}\n", lines.join("\n- ")) }
}

fn errors(results: &Results, peers: &[&str]) -> String {
    let wrong: Vec<_> = ROWS
        .iter()
        .flat_map(|row| peers.iter().map(move |peer| (row.name, *peer, results.errors(row.name, peer))))
        .filter(|(.., errors)| *errors > 0.0)
        .map(|(row, peer, errors)| format!("**{peer} in `{row}`: {errors}**"))
        .collect();
    match wrong.is_empty() {
        true => "\nErrors and answers other than 2xx: none, in any row.\n".to_owned(),
        false => format!("\n**ERRORS, or answers other than 2xx**: {}.\n", wrong.join(", ")),
    }
}
