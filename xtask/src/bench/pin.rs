//! Which processor this process is on, and with it whatever it starts.

use std::sync::OnceLock;

use anyhow::Result;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Upstream and generator.
const FIRST: usize = 0;
/// Peers.
const SECOND: usize = 1;

/// On the first again when it is dropped.
pub(super) struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        // It was there before.
        let _cannot_fail = to(FIRST);
    }
}

pub(super) fn to_first() -> Result<()> {
    to(FIRST)
}

pub(super) fn to_second() -> Result<Back> {
    to(SECOND)?;
    Ok(Back)
}

/// How many there are; asked before the first pin, because afterwards there is one.
pub(super) fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

fn to(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor.min(processors() - 1));
    Ok(sched_setaffinity(None, &set)?)
}
