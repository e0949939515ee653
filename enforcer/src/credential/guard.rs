//! Request bodies and WebSocket messages: no placeholder and no decoy leaves in one.

use super::tripwire::Watch;
use super::{CredentialError, Tripwires, shape};

/// Streams a request body through a search for placeholders; found → the body ends in an error
/// (the upstream request is cut, nothing after the match is sent). Remembers only what may be the
/// beginning of one.
pub struct BodyGuard {
    /// `the body`, as errors call what is looked at.
    place: &'static str,
    tail: Vec<u8>,
    watch: Watch,
}

impl BodyGuard {
    /// The shape alone decides, so that own, foreign and unknown placeholders are treated alike.
    pub fn new(tripwires: Tripwires, place: &'static str) -> Self {
        BodyGuard { place, tail: Vec::new(), watch: Watch::new(tripwires) }
    }

    /// Looks at the next chunk before it is sent. After an error the body is over.
    pub fn check(&mut self, chunk: &[u8]) -> Result<(), CredentialError> {
        self.watch.check(chunk)?;
        if !self.tail.is_empty() {
            let seam = [self.tail.as_slice(), &chunk[..chunk.len().min(shape::LONGEST)]].concat();
            self.refuse(&seam)?;
        }
        self.refuse(chunk)?;
        let keep = shape::LONGEST - 1;
        let from_tail = keep.saturating_sub(chunk.len()).min(self.tail.len());
        self.tail.drain(..self.tail.len() - from_tail);
        self.tail.extend_from_slice(&chunk[chunk.len() - keep.min(chunk.len())..]);
        self.tail.drain(..shape::live(&self.tail));
        Ok(())
    }

    fn refuse(&self, text: &[u8]) -> Result<(), CredentialError> {
        match shape::find_all(text).next() {
            None => Ok(()),
            Some(found) => Err(CredentialError::Misplaced {
                credential: found.name.to_owned(),
                place: self.place.to_owned(),
            }),
        }
    }
}
