//! The hash chain through the entries: where it stands, what may come next.

use super::clock::Stamp;
use super::entry::{self, Encoded, Entry, GENESIS, Hash, MAX_SEQ};

/// The end of the chain so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// of the last entry; 0 before the first
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

impl Chain {
    pub(super) const START: Chain = Chain { seq: 0, hash: GENESIS };

    /// Appends an entry's line to `out`.
    pub(super) fn seal(&mut self, out: &mut Vec<u8>, stamp: Stamp, boot: Option<&str>, body: &Encoded) {
        let seq = self.seq + 1;
        let hash = entry::seal(out, seq, stamp, boot, body, &self.hash);
        *self = Chain { seq, hash };
    }

    /// Takes the next line, or says what is wrong with it.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<Entry, String> {
        let entry = entry::open(line).map_err(|what| format!("the line {what}"))?;
        if entry.seq != self.seq + 1 || entry.seq >= MAX_SEQ {
            let (found, due) = (entry.seq, self.seq + 1);
            return Err(format!(
                "entry {found} stands where entry {due} belongs: entries were removed or moved"
            ));
        }
        if entry.prev != self.hash {
            return Err(format!("entry {} does not follow the entry before it: one was replaced", entry.seq));
        }
        *self = Chain { seq: entry.seq, hash: entry.hash };
        Ok(entry)
    }
}
