//! Masking a stream of chunks: a match may start in one and end in another.
//!
//! Held back is only what is the beginning of a needle, so an event stream is not delayed. Bytes
//! are kept as they came while they may be part of two matches; `hidden` remembers how many of
//! them are masked already.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use zeroize::Zeroizing;

use super::needles::Needles;

/// Says that something was here, keeps the length, is harmless in JSON, HTML and headers.
const MASK: u8 = b'*';

pub(super) struct Scanner {
    needles: Arc<Needles>,
    held: Zeroizing<Vec<u8>>,
    /// So many of the held bytes belong to a match that began before them.
    hidden: usize,
    cut: Arc<AtomicU32>,
}

impl Scanner {
    pub(super) fn new(needles: Arc<Needles>, cut: Arc<AtomicU32>) -> Self {
        Scanner { needles, held: Zeroizing::default(), hidden: 0, cut }
    }

    /// What may be passed on now. Does not copy a chunk in which nothing is found.
    pub(super) fn feed(&mut self, chunk: Bytes) -> Bytes {
        let hay = if self.held.is_empty() {
            chunk
        } else {
            let mut joined = Vec::with_capacity(self.held.len() + chunk.len());
            joined.extend_from_slice(&self.held);
            joined.extend_from_slice(&chunk);
            Bytes::from(joined)
        };
        let live = self.needles.search().map_or(hay.len(), |search| search.live(&hay));
        self.pass(hay, live)
    }

    /// The rest, at the end of the stream.
    pub(super) fn finish(&mut self) -> Bytes {
        let rest = Bytes::copy_from_slice(&self.held);
        let all = rest.len();
        self.pass(rest, all)
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Passes `hay[..live]` on, masked, and holds the rest.
    fn pass(&mut self, hay: Bytes, live: usize) -> Bytes {
        // What starts in the held part is judged again with more of the stream.
        let mut runs = self.needles.search().map_or_else(Vec::new, |search| search.runs(&hay));
        let hidden = std::mem::take(&mut self.hidden);
        runs.retain(|run| run.start < live);
        // A run that goes on from what was cut before was counted then.
        let new = runs.iter().filter(|run| run.start >= hidden).count();
        self.cut.fetch_add(new.try_into().unwrap_or(u32::MAX), Ordering::Relaxed);
        let reach = runs.iter().map(|run| run.end).max().unwrap_or(0).max(hidden);
        self.hidden = reach.saturating_sub(live);
        let passed = if reach == 0 {
            hay.slice(..live)
        } else {
            let mut masked = hay[..live].to_vec();
            masked[..hidden.min(live)].fill(MASK);
            for run in &runs {
                masked[run.start..run.end.min(live)].fill(MASK);
            }
            Bytes::from(masked)
        };
        self.held.clear();
        self.held.extend_from_slice(&hay[live..]);
        passed
    }
}

/// One whole text, such as a header's value. `None`: nothing was found.
pub(super) fn mask(text: &[u8], needles: &Needles, cut: &AtomicU32) -> Option<Vec<u8>> {
    let runs = needles.search()?.runs(text);
    if runs.is_empty() {
        return None;
    }
    cut.fetch_add(runs.len().try_into().unwrap_or(u32::MAX), Ordering::Relaxed);
    let mut masked = text.to_vec();
    for run in runs {
        masked[run.start..run.end].fill(MASK);
    }
    Some(masked)
}
