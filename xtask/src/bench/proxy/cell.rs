//! One cell: one peer in one row of one round, as numbers by metric.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::load::Load;
use super::peers::Peer;
use super::rows::{IDLE_HALF, Job, Row, with};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Metric {
    /// Requests, or MiB, per second.
    Rate,
    /// Processor time of the peer for a request in microseconds, or for a GiB in seconds.
    Cost,
    /// What it spent on the same after the load was over.
    Later,
    /// Of requests or events, in microseconds.
    P50,
    P99,
    Slowest,
    /// TCP and TLS, in microseconds.
    Handshake,
    /// Part of the connections whose session was resumed.
    Resumed,
    /// The first event, or the first answer after a start, in milliseconds.
    First,
    /// KiB, of a peer that has just answered for the first time.
    Resident,
    /// KiB for each connection.
    Held,
    /// Answers other than 2xx, and what got none.
    Errors,
}

pub(super) type Cell = BTreeMap<Metric, f64>;

/// Plays one row with one peer.
pub(super) fn measure(row: &Row, peer: &Peer<'_>, round: usize) -> Result<Cell> {
    let spec = with(peer.route(), (row.load)(round));
    if matches!(row.job, Job::Start | Job::Idle) {
        peer.stop()?;
    }
    match row.job {
        Job::Start => start(peer, &spec),
        Job::Idle => peer.start().and_then(|()| idle(peer, &spec)),
        Job::Requests | Job::Bulk | Job::Events => load(row.job, peer, &spec),
    }
}

fn load(job: Job, peer: &Peer<'_>, spec: &Value) -> Result<Cell> {
    let mut load = Load::start(peer.command(0), spec)?;
    peer.settle()?;
    let before = peer.spent()?;
    let seen = load.run()?;
    let spent = peer.spent()? - before;
    peer.settle()?;
    let later = peer.spent()? - before - spent;
    let number = |key: &str| seen.get(key).and_then(Value::as_f64);
    let (requests, seconds) = (number("requests").unwrap_or(0.0), number("seconds").unwrap_or(0.0));
    let mut cell = errors(peer, &seen);
    let gib = number("bytes").unwrap_or(0.0) / f64::from(1 << 30);
    let (of, rate) = match job {
        Job::Bulk => (gib * 1e6, gib * 1024.0),
        _ => (requests, requests),
    };
    ensure!(of > 0.0, "{}: nothing came of {spec}: {seen}", peer.name);
    cell.insert(Metric::Rate, rate / seconds);
    cell.insert(Metric::Cost, spent.as_secs_f64() * 1e6 / of);
    cell.insert(Metric::Later, later.as_secs_f64() * 1e6 / of);
    if job == Job::Bulk {
        return Ok(cell);
    }
    cell.insert(Metric::Resumed, number("resumed").unwrap_or(0.0) / requests);
    let first = number("first").map(|micros| micros / 1e3);
    let optional = [
        (Metric::P50, number("p50")),
        (Metric::P99, number("p99")),
        (Metric::Slowest, number("slowest")),
        (Metric::Handshake, number("handshake")),
        (Metric::First, first),
    ];
    cell.extend(optional.into_iter().filter_map(|(metric, value)| Some((metric, value?))));
    Ok(cell)
}

/// The clock runs while it starts: somebody tries until there is an answer. What must be started before anybody can ask (an agent, by
/// the enforcer) is part of it.
fn start(peer: &Peer<'_>, spec: &Value) -> Result<Cell> {
    let started = std::time::Instant::now();
    peer.launch()?;
    let mut load = Load::start(peer.command(0), spec)?;
    let seen = load.run()?;
    let took = started.elapsed();
    let mut cell = errors(peer, &seen);
    cell.insert(Metric::First, took.as_secs_f64() * 1e3);
    peer.settle()?;
    cell.extend(peer.resident()?.map(|kib| (Metric::Resident, kib)));
    Ok(cell)
}

/// Half of the connections by each of two clients: an agent may have 512.
fn idle(peer: &Peer<'_>, spec: &Value) -> Result<Cell> {
    let mut loads = [Load::start(peer.command(0), spec)?, Load::start(peer.command(1), spec)?];
    peer.settle()?;
    let before = peer.resident()?;
    let mut cell = Cell::from([(Metric::Errors, 0.0)]);
    for load in &mut loads {
        for (metric, value) in errors(peer, &load.run()?) {
            *cell.entry(metric).or_default() += value;
        }
    }
    peer.settle()?;
    let held = peer.resident()?.zip(before).map(|(now, before)| (now - before) / (2 * IDLE_HALF) as f64);
    cell.extend(held.map(|kib| (Metric::Held, kib)));
    Ok(cell)
}

fn errors(peer: &Peer<'_>, seen: &Value) -> Cell {
    let number = |key: &str| seen.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    let errors = number("errors") + number("refused");
    if errors > 0.0 {
        let said = seen.get("said").and_then(Value::as_str).unwrap_or_default();
        crate::run::note(&format!("{}: {errors} requests went wrong: {said}", peer.name));
    }
    Cell::from([(Metric::Errors, errors)])
}
