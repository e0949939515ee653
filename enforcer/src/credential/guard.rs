//! Request bodies: no placeholder leaves in one.

use enforcer_policy::AgentPolicy;

use super::{CredentialError, Placeholders, shape};

/// Streams a request body through a search for placeholders; found → the body ends in an error
/// (the upstream request is cut, nothing after the match is sent). Remembers only what may be the
/// beginning of one.
pub struct BodyGuard {
    tail: Vec<u8>,
}

impl BodyGuard {
    /// The shape alone decides, so that own, foreign and unknown placeholders are treated alike;
    /// the arguments are for places in bodies, which no credential has yet.
    pub fn new(_policy: &AgentPolicy, _placeholders: &Placeholders) -> Self {
        BodyGuard { tail: Vec::new() }
    }

    /// Looks at the next chunk before it is sent. After an error the body is over.
    pub fn check(&mut self, chunk: &[u8]) -> Result<(), CredentialError> {
        if !self.tail.is_empty() {
            let seam = [self.tail.as_slice(), &chunk[..chunk.len().min(shape::LONGEST)]].concat();
            refuse(&seam)?;
        }
        refuse(chunk)?;
        let keep = shape::LONGEST - 1;
        let from_tail = keep.saturating_sub(chunk.len()).min(self.tail.len());
        self.tail.drain(..self.tail.len() - from_tail);
        self.tail.extend_from_slice(&chunk[chunk.len() - keep.min(chunk.len())..]);
        self.tail.drain(..shape::live(&self.tail));
        Ok(())
    }
}

fn refuse(text: &[u8]) -> Result<(), CredentialError> {
    match shape::find_all(text).next() {
        None => Ok(()),
        Some(found) => Err(CredentialError::Misplaced {
            credential: found.name.to_owned(),
            place: "the body".to_owned(),
        }),
    }
}
