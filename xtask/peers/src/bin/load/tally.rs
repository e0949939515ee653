//! What was seen, and how it is told.

use std::time::{Duration, Instant};

use serde::Serialize;

#[derive(Default)]
pub(crate) struct Tally {
    /// Of answers with 2xx alone.
    pub(crate) latencies: Vec<Duration>,
    /// TCP, CONNECT and TLS, where each request has its connection.
    pub(crate) handshakes: Vec<Duration>,
    pub(crate) resumed: u64,
    pub(crate) errors: u64,
    /// Answers that were not 2xx.
    pub(crate) refused: u64,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// The first byte or event.
    pub(crate) first: Option<Duration>,
    /// What one of them said, for the reader.
    pub(crate) said: Option<String>,
}

/// Times in microseconds.
#[derive(Serialize)]
pub(crate) struct Report {
    requests: usize,
    seconds: f64,
    bytes: u64,
    errors: u64,
    refused: u64,
    resumed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slowest: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    said: Option<String>,
}

impl Tally {
    pub(crate) fn error(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.said.get_or_insert_with(|| format!("{error:#}"));
    }

    pub(crate) fn answered(&mut self, status: u16, started: Instant) {
        match status {
            200..=299 => self.latencies.push(started.elapsed()),
            _ => {
                self.refused += 1;
                self.said.get_or_insert_with(|| format!("status {status}"));
            }
        }
    }

    pub(crate) fn merge(&mut self, other: Tally) {
        self.latencies.extend(other.latencies);
        self.handshakes.extend(other.handshakes);
        self.resumed += other.resumed;
        self.errors += other.errors;
        self.refused += other.refused;
        self.bytes += other.bytes;
        self.first = self.first.or(other.first);
        self.said = self.said.take().or(other.said);
    }

    pub(crate) fn report(mut self) -> Report {
        self.latencies.sort();
        self.handshakes.sort();
        Report {
            requests: self.latencies.len(),
            seconds: self.took.as_secs_f64(),
            bytes: self.bytes,
            errors: self.errors,
            refused: self.refused,
            resumed: self.resumed,
            p50: quantile(&self.latencies, 0.5),
            p99: quantile(&self.latencies, 0.99),
            slowest: self.latencies.last().copied().map(micros),
            handshake: quantile(&self.handshakes, 0.5),
            first: self.first.map(micros),
            said: self.said,
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Of what is sorted.
fn quantile(sorted: &[Duration], part: f64) -> Option<f64> {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().map(micros)
}
