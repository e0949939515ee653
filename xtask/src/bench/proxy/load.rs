//! What is asked of each peer, and how an answer of the generators reads.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use enforcer_tests::world::{World, command};

use super::peers::{BULK, Peer};

/// One cell: one peer in one row of one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    /// Requests, or GiB, per second.
    pub(super) rate: f64,
    /// Processor time of the peer per request in microseconds, or per GiB in seconds.
    pub(super) cost: f64,
    /// In microseconds; `None` where it is not the point.
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
}

pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) measure: fn(&World, &Peer<'_>) -> Result<Cell>,
}

pub(super) const ROWS: &[Row] = &[
    Row { name: "h1, 1 at a time", measure: |world, peer| wrk(world, peer, 1, &[]) },
    Row { name: "h1, 32 at a time", measure: |world, peer| wrk(world, peer, 32, &[]) },
    Row { name: "h1, 256 at a time", measure: |world, peer| wrk(world, peer, 256, &[]) },
    Row { name: "h2, 1 at a time", measure: |world, peer| h2load(world, peer, 1, 1) },
    Row { name: "h2, 4 connections of 8 streams", measure: |world, peer| h2load(world, peer, 4, 8) },
    Row {
        name: "h1, a new connection each, 8 at a time",
        measure: |world, peer| wrk(world, peer, 8, &["-H", "Connection: close"]),
    },
    Row { name: "100 MiB down, h1", measure: |world, peer| curl(world, peer, &["-o", "/dev/null"], "/bulk") },
    Row { name: "100 MiB up, h1", measure: |world, peer| curl(world, peer, &["-T", "BULK"], "/take") },
];

const SECONDS: &str = "2";
const LIMIT: Duration = Duration::from_secs(60);

fn wrk(world: &World, peer: &Peer<'_>, connections: u32, more: &[&str]) -> Result<Cell> {
    let connections = connections.to_string();
    let mut words = vec!["wrk", "-t1", "-c", &connections, "-d", SECONDS, "--latency"];
    words.extend(more);
    let url = format!("{}/v1/item", peer.url);
    words.push(&url);
    let (text, spent) = run(world, peer, &words)?;
    let word_before = |what: &str| {
        let line = text.lines().find(|line| line.contains(what))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let requests = word_before(" requests in ").with_context(|| format!("wrk said\n{text}"))?;
    ensure!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "not all were answered:\n{text}");
    let rate = after(&text, "Requests/sec:").and_then(|rate| rate.parse().ok());
    Ok(Cell {
        rate: rate.with_context(|| format!("wrk said\n{text}"))?,
        cost: spent.as_secs_f64() * 1e6 / requests,
        p50: after(&text, "50%").and_then(micros),
        p99: after(&text, "99%").and_then(micros),
    })
}

fn h2load(world: &World, peer: &Peer<'_>, connections: u32, streams: u32) -> Result<Cell> {
    let (connections, streams) = (connections.to_string(), streams.to_string());
    let url = format!("{}/v1/item", peer.url);
    let words = ["h2load", "-t1", "-c", &connections, "-m", &streams, "-D", SECONDS, &url];
    let (text, spent) = run(world, peer, &words)?;
    let said = || format!("h2load said\n{text}");
    ensure!(text.contains("Application protocol: h2"), "{}", said());
    let line = text.lines().find(|line| line.starts_with("requests:")).with_context(said)?;
    let counted = |what: &str| {
        let part = line.split([',', ':']).find(|part| part.ends_with(what))?;
        part.split_whitespace().next()?.parse::<f64>().ok()
    };
    let done = counted(" succeeded").with_context(said)?;
    ensure!(counted(" failed") == Some(0.0) && done > 0.0, "{}", said());
    let seconds: f64 = SECONDS.parse()?;
    // min, max, mean: h2load has no percentiles.
    Ok(Cell { rate: done / seconds, cost: spent.as_secs_f64() * 1e6 / done, p50: None, p99: None })
}

/// One large body; the rate is in GiB per second.
fn curl(world: &World, peer: &Peer<'_>, more: &[&str], path: &str) -> Result<Cell> {
    let url = format!("{}{path}", peer.url);
    let mut words = vec![
        "curl",
        "-sk",
        "--http1.1",
        "-w",
        "%{http_code} %{size_download} %{size_upload}",
        "-H",
        "Expect:",
    ];
    let bulk = format!(
        "head -c {BULK} /dev/zero | curl -sk --http1.1 -H Expect: -T - -w '%{{http_code}} %{{size_download}} %{{size_upload}}' {url}"
    );
    if more.contains(&"BULK") {
        words = vec!["sh", "-c", &bulk];
    } else {
        words.extend(more);
        words.push(&url);
    }
    let started = Instant::now();
    let (text, spent) = run(world, peer, &words)?;
    let took = started.elapsed();
    let moved = text.split_whitespace().skip(1).filter_map(|n| n.parse::<u64>().ok()).max();
    // An upload of unknown length counts its chunk lines as well.
    ensure!(text.starts_with("200") && moved >= Some(BULK), "curl said {text}");
    let gib = BULK as f64 / f64::from(1 << 30);
    Ok(Cell { rate: gib / took.as_secs_f64(), cost: spent.as_secs_f64() / gib, p50: None, p99: None })
}

/// What it printed, and the peer's processor time meanwhile, without what the start of a generator takes by itself: the enforcer
/// launches an agent for it.
fn run(world: &World, peer: &Peer<'_>, words: &[&str]) -> Result<(String, Duration)> {
    let (_nothing, start) = timed(world, peer, &["true"])?;
    let (text, spent) = timed(world, peer, words)?;
    Ok((text, spent.saturating_sub(start)))
}

fn timed(world: &World, peer: &Peer<'_>, words: &[&str]) -> Result<(String, Duration)> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let before = peer.time()?;
    let output = command::run(peer.command(world, &words), LIMIT)?;
    ensure!(output.ok(), "{}: {output}", peer.name);
    Ok((output.stdout, peer.time()? - before))
}

/// The word behind `key`.
fn after<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.trim().strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next())
}

/// `85.00us`, `1.20ms`, `2.00s`.
fn micros(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::{after, micros};

    #[test]
    fn what_wrk_prints_is_read() {
        let text = "  Latency Distribution\n     50%   95.00us\n     99%    1.20ms\n  40 requests in 2.00s, 1MB read\nRequests/sec:   20.5\n";
        assert_eq!(after(text, "Requests/sec:"), Some("20.5"));
        assert_eq!(after(text, "50%").and_then(micros), Some(95.0));
        assert_eq!(after(text, "99%").and_then(micros), Some(1200.0));
        assert_eq!(micros("2s"), Some(2e6));
        assert_eq!(micros("fast"), None);
    }
}
