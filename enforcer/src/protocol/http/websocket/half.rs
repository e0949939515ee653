//! One direction: its bytes as they came, how far they have been looked at, and how far they may go.
//!
//! Bytes go on exactly as they came. What is looked at is the payloads: of an agent's, with the mask taken
//! off, for placeholders and decoys; of a server's, for credentials that come back. Both are looked for
//! across frames, messages and control frames.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Buf as _, BytesMut};

use super::frame::{Fault, Frames, Piece, Sender, Utf8, not_utf8};
use crate::credential::{BodyGuard, CredentialError};
use crate::redact::{Found, Watch};

/// Of what is held because a credential may begin there. Ten times the longest form of one.
const MOST_HELD: usize = 64 * 1024;

pub(super) struct Half {
    frames: Frames,
    /// Of the message that is under way, if it is text.
    text: Utf8,
    look: Look,
    /// What came in and has not gone out.
    pub(super) bytes: BytesMut,
    /// So much of it has been looked at.
    seen: usize,
    /// Where in it something begins that is held: in messages, in control frames.
    holds: [Option<usize>; 2],
    /// Where frames end that have been looked at and not gone out whole, counted from the first byte of all.
    ends: VecDeque<u64>,
    /// So many bytes have gone out, and so many until the last frame ended.
    gone: u64,
    whole: u64,
}

enum Look {
    /// For messages, for control frames, and room to take the mask off.
    Agent {
        guards: Box<[BodyGuard; 2]>,
        plain: Vec<u8>,
    },
    Server {
        watches: Option<Box<[Watch; 2]>>,
    },
}

/// Why nothing more passes.
#[derive(Debug)]
pub(super) enum Objection {
    Fault(Fault),
    /// A placeholder or a decoy.
    Misplaced(CredentialError),
    /// The server sent a credential back.
    Found,
}

impl Half {
    pub(super) fn of_agent(guards: [BodyGuard; 2], max_message: Option<u64>) -> Self {
        Half::new(Sender::Agent, max_message, Look::Agent { guards: Box::new(guards), plain: Vec::new() })
    }

    /// `watches`: none where there is nothing to look for.
    pub(super) fn of_server(watches: Option<[Watch; 2]>, max_message: Option<u64>) -> Self {
        Half::new(Sender::Server, max_message, Look::Server { watches: watches.map(Box::new) })
    }

    fn new(sender: Sender, max_message: Option<u64>, look: Look) -> Self {
        Half {
            frames: Frames::new(sender, max_message),
            text: Utf8::default(),
            look,
            bytes: BytesMut::new(),
            seen: 0,
            holds: [None, None],
            ends: VecDeque::new(),
            gone: 0,
            whole: 0,
        }
    }

    /// Looks at what has come in. After an objection what [`Half::free`] says may still go out.
    pub(super) fn advance(&mut self) -> Result<(), Objection> {
        while let Some(piece) = self.frames.next(&self.bytes[self.seen..]).map_err(Objection::Fault)? {
            self.look(piece)?;
            self.seen += piece.len;
            if self.frames.at_boundary() {
                self.ends.push_back(self.gone + self.seen as u64);
            }
        }
        if self.seen - self.free() > MOST_HELD {
            self.release();
        }
        Ok(())
    }

    fn look(&mut self, piece: Piece) -> Result<(), Objection> {
        let payload = self.seen + piece.head..self.seen + piece.len;
        let lane = usize::from(piece.control);
        match &mut self.look {
            Look::Agent { guards, plain } => {
                let bytes = match piece.mask {
                    None => &self.bytes[payload],
                    Some(mask) => {
                        plain.clear();
                        plain.extend_from_slice(&self.bytes[payload]);
                        mask.apply(plain);
                        plain.as_slice()
                    }
                };
                if !is_text(&mut self.text, piece, bytes) {
                    return Err(Objection::Fault(NOT_TEXT));
                }
                guards[lane].check(bytes).map_err(Objection::Misplaced)
            }
            Look::Server { .. } if !is_text(&mut self.text, piece, &self.bytes[payload.clone()]) => {
                Err(Objection::Fault(NOT_TEXT))
            }
            Look::Server { watches: None } => Ok(()),
            Look::Server { watches: Some(watches) } => {
                let waits =
                    watches[lane].look(&self.bytes[payload.clone()]).map_err(|Found| Objection::Found)?;
                let begins = begins(waits, payload.clone(), self.holds[lane]);
                // With its head, so that what has gone out ends with a frame and a Close may follow.
                self.holds[lane] = if begins == Some(payload.start) { Some(self.seen) } else { begins };
                Ok(())
            }
        }
    }

    /// So many bytes may go out.
    pub(super) fn free(&self) -> usize {
        self.holds.iter().flatten().min().copied().unwrap_or(self.seen)
    }

    /// Is something held that may be the beginning of a credential?
    pub(super) fn holds(&self) -> bool {
        self.holds.iter().any(Option::is_some)
    }

    /// No more came of it: it may go out, and still counts as a beginning.
    pub(super) fn release(&mut self) {
        self.holds = [None, None];
        if let Look::Server { watches: Some(watches) } = &mut self.look {
            watches.iter_mut().for_each(Watch::release);
        }
    }

    /// So many bytes, which were free, have gone out.
    pub(super) fn went(&mut self, count: usize) {
        self.bytes.advance(count);
        self.gone += count as u64;
        while let Some(end) = self.ends.pop_front_if(|end| *end <= self.gone) {
            self.whole = end;
        }
        self.seen -= count;
        for hold in self.holds.iter_mut().flatten() {
            *hold -= count;
        }
    }

    /// What went out ends with a frame, so that something else may be said there.
    pub(super) fn between_frames(&self) -> bool {
        self.gone == self.whole
    }

    /// In the middle of a frame, whose sender owes the rest of it.
    pub(super) fn owes(&self) -> bool {
        !self.frames.at_boundary() || self.seen < self.bytes.len()
    }

    /// A Close was read.
    pub(super) fn closed(&self) -> bool {
        self.frames.closed()
    }
}

const NOT_TEXT: Fault = not_utf8("a text message is not UTF-8");

/// A text may be relayed as far as it is one (RFC 6455, 8.1).
fn is_text(text: &mut Utf8, piece: Piece, bytes: &[u8]) -> bool {
    !piece.text || (text.look(bytes) && (!piece.last || text.end()))
}

/// Where the first of the last `waits` bytes of all payloads is. If it is further back than this piece, what
/// was held before stays held.
fn begins(waits: usize, payload: Range<usize>, before: Option<usize>) -> Option<usize> {
    match waits {
        0 => None,
        waits if waits <= payload.len() => Some(payload.end - waits),
        _ => before.or(Some(payload.start)),
    }
}
