//! What the daemon's processes hold, sampled, and a line fitted through it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How often is looked.
const EVERY: Duration = Duration::from_secs(2);
/// Neighbouring samples are not independent. Their means over this long nearly are, so that the error of the fit can be believed.
const BLOCK: f64 = 20.0;

/// What is looked at of each process.
pub const RESIDENT: &str = "resident KiB";
pub const HEAP: &str = "anonymous KiB";
pub const DESCRIPTORS: &str = "descriptors";
pub const THREADS: &str = "threads";

/// One look at one process.
pub fn look(pid: u32) -> Result<BTreeMap<&'static str, f64>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
    };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64;
    let of = |key: &str| number(key).with_context(|| format!("no {key} of process {pid}"));
    Ok(BTreeMap::from([
        (RESIDENT, of("VmRSS")?),
        (HEAP, of("RssAnon")?),
        (THREADS, of("Threads")?),
        (DESCRIPTORS, descriptors),
    ]))
}

/// Seconds since the first sample, and what was seen.
pub type Series = BTreeMap<(String, &'static str), Vec<(f64, f64)>>;

/// Looks at processes until it is told to stop.
pub struct Watcher {
    stop: Sender<()>,
    thread: JoinHandle<Result<Series>>,
}

impl Watcher {
    /// Of these processes, by name.
    pub fn start(processes: Vec<(String, u32)>) -> Self {
        let (stop, stopped) = channel();
        Watcher { stop, thread: std::thread::spawn(move || watch(&processes, &stopped)) }
    }

    /// What it saw; an error when one of them has ended meanwhile.
    pub fn stop(self) -> Result<Series> {
        drop(self.stop);
        self.thread.join().ok().context("the watcher failed")?
    }
}

fn watch(processes: &[(String, u32)], stopped: &Receiver<()>) -> Result<Series> {
    let (mut series, begun) = (Series::new(), Instant::now());
    loop {
        let at = begun.elapsed().as_secs_f64();
        for (name, pid) in processes {
            for (what, seen) in look(*pid).with_context(|| format!("look at the {name}"))? {
                series.entry((name.clone(), what)).or_default().push((at, seen));
            }
        }
        if stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
            return Ok(series);
        }
    }
}

/// A straight line through what was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Per hour.
    pub slope: f64,
    /// Its standard error.
    pub error: f64,
    pub lowest: f64,
    pub highest: f64,
    pub blocks: usize,
}

/// `None`: too little was seen for a line with an error.
pub fn fit(samples: &[(f64, f64)], warm_up: f64) -> Option<Fit> {
    let mut blocks: BTreeMap<u64, (f64, f64, f64)> = BTreeMap::new();
    let warm = || samples.iter().filter(|(at, _)| *at >= warm_up);
    for (at, seen) in warm() {
        // Seconds since the start are not negative.
        let sums = blocks.entry((at / BLOCK) as u64).or_default();
        *sums = (sums.0 + at / 3600.0, sums.1 + seen, sums.2 + 1.0);
    }
    let points: Vec<(f64, f64)> = blocks.values().map(|(x, y, n)| (x / n, y / n)).collect();
    let n = points.len() as f64;
    if points.len() < 3 {
        return None;
    }
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (middle_x, middle_y) = (mean(|p| p.0), mean(|p| p.1));
    let spread: f64 = points.iter().map(|(x, _)| (x - middle_x).powi(2)).sum();
    let slope = points.iter().map(|(x, y)| (x - middle_x) * (y - middle_y)).sum::<f64>() / spread;
    let left: f64 = points.iter().map(|(x, y)| (y - middle_y - slope * (x - middle_x)).powi(2)).sum();
    let values = || warm().map(|(_, seen)| *seen);
    Some(Fit {
        slope,
        error: (left / (n - 2.0) / spread).sqrt(),
        lowest: values().fold(f64::INFINITY, f64::min),
        highest: values().fold(f64::NEG_INFINITY, f64::max),
        blocks: points.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_with_its_error() {
        // 3600 an hour is 1 a second; every other sample is off by one, and nothing counts before the warm-up.
        let noisy = |at: u32| {
            let off = if at.is_multiple_of(2) { 1.0 } else { -1.0 };
            (f64::from(at), if at < 100 { 1e6 } else { f64::from(at) + off })
        };
        let samples: Vec<_> = (0..1000).map(noisy).collect();
        let fit = fit(&samples, 100.0).unwrap();
        assert!((fit.slope - 3600.0).abs() < 5.0 && fit.error < 5.0, "{fit:?}");
        assert_eq!((fit.lowest, fit.highest, fit.blocks), (100.0, 999.0, 45));
    }

    #[test]
    fn noise_has_a_large_error() {
        let samples: Vec<_> =
            (0..200).map(|at| (f64::from(at), if at % 80 < 40 { 0.0 } else { 10.0 })).collect();
        let fit = fit(&samples, 0.0).unwrap();
        assert!(fit.error > 50.0, "{fit:?}");
        assert!(super::fit(&samples[..30], 0.0).is_none());
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let seen = look(std::process::id()).unwrap();
        assert!(seen[RESIDENT] > 100.0 && seen[DESCRIPTORS] >= 3.0 && seen[THREADS] >= 1.0, "{seen:?}");
    }
}
