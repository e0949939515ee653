//! Watching a stream of bytes that may not be altered: nothing is masked, the first value ends it.
//!
//! For relays after an upgrade. There a message may end in a byte that a value starts with, and
//! nothing may follow for hours: short beginnings are passed on at once, longer ones are held until
//! the caller says that no more came.

use std::sync::Arc;

use bytes::Bytes;
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

    /// What may be passed on now.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<Bytes, Found> {
        let Some(search) = self.needles.search() else { return Ok(Bytes::copy_from_slice(chunk)) };
        self.live.extend_from_slice(chunk);
        if !search.runs(&self.live).is_empty() {
            return Err(Found);
        }
        let live = search.live(&self.live);
        let hold = if self.live.len() - live < WORTH_HOLDING { self.live.len() } else { live };
        let out = Bytes::copy_from_slice(self.live.get(self.passed..hold).unwrap_or_default());
        self.passed = self.passed.max(hold) - live.min(self.passed.max(hold));
        self.live.drain(..live);
        Ok(out)
    }

    pub fn holds(&self) -> bool {
        self.passed < self.live.len()
    }

    /// No more came: what is held is passed on, and still counts as a beginning.
    pub fn release(&mut self) -> Bytes {
        let out = Bytes::copy_from_slice(&self.live[self.passed..]);
        self.passed = self.live.len();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Fetched;

    const VALUE: &str = "ghp_0123456789abcdefghij";

    fn watch() -> Watch {
        let secret = enforcer_vault::Secret::new(VALUE.into()).unwrap();
        Watch::new(Arc::new(Needles::new(&[Arc::new(Fetched { secret, name: "s".into(), version: 1 })])))
    }

    #[test]
    fn a_value_split_anywhere_is_found_and_its_end_never_passed() {
        let text = format!("before {VALUE} after");
        for split in 0..text.len() {
            let mut watch = watch();
            let (first, second) = text.split_at(split);
            let mut out = Vec::new();
            let found = [first, second].iter().any(|part| match watch.feed(part.as_bytes()) {
                Ok(bytes) => {
                    out.extend_from_slice(&bytes);
                    false
                }
                Err(Found) => true,
            });
            assert!(found, "{split}");
            assert!(
                out.len() <= "before ".len() + WORTH_HOLDING,
                "{split}: {}",
                String::from_utf8_lossy(&out)
            );
        }
    }

    #[test]
    fn other_bytes_pass_unchanged_and_without_delay() {
        let mut watch = watch();
        let mut out = Vec::new();
        for part in ["message g", "ghp_01", "23", "456789x", "ghp_ghp_", "end g"] {
            out.extend_from_slice(&watch.feed(part.as_bytes()).unwrap());
            if watch.holds() {
                out.extend_from_slice(&watch.release());
            }
        }
        assert_eq!(String::from_utf8(out).unwrap(), "message gghp_0123456789xghp_ghp_end g");
    }

    #[test]
    fn a_released_beginning_still_counts() {
        let mut watch = watch();
        assert_eq!(watch.feed(&VALUE.as_bytes()[..12]).unwrap(), "");
        assert!(watch.holds());
        assert_eq!(watch.release(), VALUE.as_bytes()[..12]);
        assert!(!watch.holds());
        assert!(watch.feed(&VALUE.as_bytes()[12..]).is_err());
    }
}
