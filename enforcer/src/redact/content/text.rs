//! A text as it arrives, without what the patterns find: as much as the longest match is held back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use enforcer_policy::Pattern;

use super::pattern::{self, LONGEST};

/// Held back of one text.
const MOST: usize = 64 * 1024;

pub(in crate::redact) struct Text {
    patterns: Vec<Pattern>,
    held: Vec<u8>,
    cut: Arc<AtomicU32>,
}

impl Text {
    pub(super) fn new(patterns: Vec<Pattern>, cut: Arc<AtomicU32>) -> Self {
        Text { patterns, held: Vec::new(), cut }
    }

    pub(super) fn feed(&mut self, chunk: &[u8]) -> Bytes {
        self.held.extend_from_slice(chunk);
        // What comes may make a match of the end, or a longer one.
        let mut until = self.held.len().saturating_sub(2 * LONGEST);
        if let Some((start, _)) =
            pattern::find(&self.held, &self.patterns).into_iter().find(|(_, end)| *end > until)
        {
            until = until.min(start);
        }
        // Matches without end run into one; then what has come is passed without those in it.
        until = until.max(self.held.len().saturating_sub(MOST));
        self.pass(until)
    }

    pub(super) fn finish(&mut self) -> Bytes {
        self.pass(self.held.len())
    }

    fn pass(&mut self, until: usize) -> Bytes {
        let rest = self.held.split_off(until);
        let passed = std::mem::replace(&mut self.held, rest);
        match pattern::redacted(&passed, &self.patterns) {
            Some((redacted, count)) => {
                self.cut.fetch_add(count, Ordering::Relaxed);
                redacted.into()
            }
            None => passed.into(),
        }
    }
}
