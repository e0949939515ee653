//! Watching a stream of bytes that may not be altered: nothing is masked, the first value ends it.
//!
//! For relays after an upgrade. There a message may end in a byte that a value starts with, and
//! nothing may follow for hours: short beginnings are passed on at once, longer ones are held until
//! the caller says that no more came.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::needles::Needles;

/// Fewer bytes of a value say next to nothing, and are met at the ends of ordinary messages.
const WORTH_HOLDING: usize = 8;

/// A value that must not flow back came by. It was not passed on whole.
#[derive(Debug, thiserror::Error)]
#[error("the server sent back the credential")]
pub struct Found;

pub struct Watch {
    needles: Arc<Needles>,
    /// The end of the stream that may be the beginning of a value.
    live: Zeroizing<Vec<u8>>,
    /// So many of those bytes have been passed on.
    passed: usize,
}

impl Watch {
    pub fn new(needles: Arc<Needles>) -> Self {
        Watch { needles, live: Zeroizing::default(), passed: 0 }
    }

    /// Looks at what comes next → how many of the bytes that came last have to wait.
    pub fn look(&mut self, chunk: &[u8]) -> Result<usize, Found> {
        let Some(search) = self.needles.search() else { return Ok(0) };
        if self.live.is_empty() {
            // Nothing is copied but an end that may be a beginning.
            if !search.runs(chunk).is_empty() {
                return Err(Found);
            }
            self.live.extend_from_slice(&chunk[search.live(chunk)..]);
        } else {
            self.live.extend_from_slice(chunk);
            if !search.runs(&self.live).is_empty() {
                return Err(Found);
            }
            let live = search.live(&self.live);
            self.live.drain(..live);
            self.passed = self.passed.saturating_sub(live);
        }
        if self.live.len() < WORTH_HOLDING {
            self.release();
        }
        Ok(self.live.len() - self.passed)
    }

    /// No more came: what waits is passed on, and still counts as a beginning.
    pub fn release(&mut self) {
        self.passed = self.live.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Fetched;

    const VALUE: &str = "ghp_0123456789abcdefghij";

    /// A watch, and what it lets through.
    struct Passing(Watch, Vec<u8>, Vec<u8>);

    impl Passing {
        fn new() -> Self {
            let secret = enforcer_vault::Secret::new(VALUE.into()).unwrap();
            let fetched = Arc::new(Fetched { secret, name: "s".into(), version: 1 });
            Passing(Watch::new(Arc::new(Needles::new(&[fetched]))), Vec::new(), Vec::new())
        }

        fn feed(&mut self, chunk: &str) -> Result<(), Found> {
            let Passing(watch, held, out) = self;
            held.extend_from_slice(chunk.as_bytes());
            let waits = watch.look(chunk.as_bytes())?;
            out.extend(held.drain(..held.len() - waits));
            Ok(())
        }

        fn release(&mut self) {
            self.0.release();
            self.2.append(&mut self.1);
        }
    }

    #[test]
    fn a_value_split_anywhere_is_found_and_its_end_never_passed() {
        let text = format!("before {VALUE} after");
        for split in 0..text.len() {
            let mut passing = Passing::new();
            let (first, second) = text.split_at(split);
            let found = [first, second].iter().any(|part| passing.feed(part).is_err());
            assert!(found, "{split}");
            let out = String::from_utf8(passing.2).unwrap();
            assert!(out.len() <= "before ".len() + WORTH_HOLDING, "{split}: {out}");
        }
    }

    #[test]
    fn other_bytes_pass_unchanged_and_without_delay() {
        let mut passing = Passing::new();
        for part in ["message g", "ghp_01", "23", "456789x", "ghp_ghp_", "end g"] {
            passing.feed(part).unwrap();
            passing.release();
        }
        assert_eq!(String::from_utf8(passing.2).unwrap(), "message gghp_0123456789xghp_ghp_end g");
    }

    #[test]
    fn a_released_beginning_still_counts() {
        let mut passing = Passing::new();
        let (first, second) = VALUE.split_at(12);
        passing.feed(first).unwrap();
        assert_eq!(passing.2, b"");
        passing.release();
        assert_eq!(passing.2, first.as_bytes());
        assert!(passing.feed(second).is_err());
    }
}
