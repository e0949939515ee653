//! WebSocket frames as they stand on the wire (RFC 6455, 5), read strictly and as they come.
//!
//! A payload passes in whatever pieces it arrives in; only heads and control frames, which are short, are
//! waited for. No extension is ever agreed on, so a reserved bit means nothing. Pure: no I/O, no clock,
//! nothing of the rest of the product, so that it can be fuzzed by itself.

mod utf8;

pub use utf8::Utf8;

/// Longer payloads are not for control frames (5.5).
const MAX_CONTROL: usize = 125;

/// Who sent the frames. Agents mask theirs, servers must not (5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Agent,
    Server,
}

/// Close codes that we send (7.4.1, and 1013 of IANA's registry).
pub mod code {
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL_ERROR: u16 = 1002;
    pub const NOT_UTF8: u16 = 1007;
    pub const POLICY: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
    pub const TRY_LATER: u16 = 1013;
}

/// Why bytes are not frames, or too many; and the code that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: u16,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Broken(&'static str),
    /// The limit in bytes.
    TooBig(u64),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::Broken(reason) => f.write_str(reason),
            Reason::TooBig(limit) => {
                write!(f, "a message is larger than the {limit} bytes the policy allows")
            }
        }
    }
}

fn broken(reason: &'static str) -> Fault {
    Fault { code: code::PROTOCOL_ERROR, reason: Reason::Broken(reason) }
}

pub const fn not_utf8(reason: &'static str) -> Fault {
    Fault { code: code::NOT_UTF8, reason: Reason::Broken(reason) }
}

/// What stands next in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the stream, head and payload.
    pub len: usize,
    /// So many of them, at the beginning, are a head.
    pub head: usize,
    /// The payload is a control frame's, and whole.
    pub control: bool,
    /// The payload is a text's, which has to be UTF-8 (5.6).
    pub text: bool,
    /// The message ends with it.
    pub last: bool,
    pub mask: Option<Mask>,
}

/// The key, turned so that its first byte is for the first byte of this piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask([u8; 4]);

impl Mask {
    /// Masks, or takes the mask off: the two are the same (5.3).
    pub fn apply(self, bytes: &mut [u8]) {
        // Words at a time; four bytes turn round four times in sixteen.
        let mut wide = [0; 16];
        wide.chunks_exact_mut(4).for_each(|word| word.copy_from_slice(&self.0));
        for chunk in bytes.chunks_mut(16) {
            chunk.iter_mut().zip(wide).for_each(|(byte, key)| *byte ^= key);
        }
    }

    fn turned(self, by: usize) -> Self {
        let mut key = self.0;
        key.rotate_left(by % 4);
        Mask(key)
    }
}

/// Reads one direction.
#[derive(Debug)]
pub struct Frames {
    sender: Sender,
    max_message: Option<u64>,
    /// The payload that is still to come of the frame that has begun, and its key.
    left: u64,
    mask: Option<Mask>,
    /// Bytes of the message that is under way, if more frames of it follow.
    message: Option<u64>,
    /// The last message to begin is text.
    text: bool,
    closed: bool,
}

struct Head {
    fin: bool,
    opcode: u8,
    len: usize,
    payload: u64,
    mask: Option<Mask>,
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

impl Frames {
    /// `max_message`: bytes of one message, all its frames together.
    pub fn new(sender: Sender, max_message: Option<u64>) -> Self {
        Frames { sender, max_message, left: 0, mask: None, message: None, text: false, closed: false }
    }

    /// Between frames; something else may be said here.
    pub fn at_boundary(&self) -> bool {
        self.left == 0
    }

    /// A Close was read. No frame may follow it (5.5.1).
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// The next piece of `bytes`, which begins where the last one ended. `None`: more has to come first.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Piece>, Fault> {
        if self.left > 0 {
            return Ok(self.payload(bytes, 0, self.mask));
        }
        let Some(head) = self.head(bytes)? else { return Ok(None) };
        if head.opcode >= CLOSE {
            return self.control(&head, bytes);
        }
        let (begins, goes_on) = (head.opcode != CONTINUATION, self.message.is_some());
        if begins && goes_on {
            return Err(broken("a message begins before the one before it has ended"));
        }
        if !begins && !goes_on {
            return Err(broken("a frame continues a message that has not begun"));
        }
        let message = self.message.unwrap_or(0).saturating_add(head.payload);
        if let Some(limit) = self.max_message.filter(|limit| message > *limit) {
            return Err(Fault { code: code::TOO_BIG, reason: Reason::TooBig(limit) });
        }
        self.message = (!head.fin).then_some(message);
        self.text = if begins { head.opcode == TEXT } else { self.text };
        self.left = head.payload;
        let rest = bytes.get(head.len..).unwrap_or_default();
        let last = head.fin && head.payload == 0;
        let bare = Piece { len: head.len, head: head.len, control: false, text: self.text, last, mask: None };
        Ok(Some(self.payload(rest, head.len, head.mask).unwrap_or_else(|| {
            self.mask = head.mask;
            bare
        })))
    }

    /// As much of a data frame's payload as `bytes` hold, behind a head of `head` bytes.
    fn payload(&mut self, bytes: &[u8], head: usize, mask: Option<Mask>) -> Option<Piece> {
        let here = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        if here == 0 {
            return None;
        }
        self.left -= here as u64;
        self.mask = mask.map(|mask| mask.turned(here));
        let last = self.left == 0 && self.message.is_none();
        Some(Piece { len: head + here, head, control: false, text: self.text, last, mask })
    }

    fn control(&mut self, head: &Head, bytes: &[u8]) -> Result<Option<Piece>, Fault> {
        if !head.fin {
            return Err(broken("a control frame is fragmented"));
        }
        let payload = match usize::try_from(head.payload) {
            Ok(payload) if payload <= MAX_CONTROL => payload,
            _ => return Err(broken("a control frame is longer than 125 bytes")),
        };
        let len = head.len + payload;
        let Some(payload) = bytes.get(head.len..len) else { return Ok(None) };
        if head.opcode == CLOSE {
            let mut payload = payload.to_vec();
            if let Some(mask) = head.mask {
                mask.apply(&mut payload);
            }
            close(&payload)?;
            self.closed = true;
        }
        let (control, text, last) = (true, false, false);
        Ok(Some(Piece { len, head: head.len, control, text, last, mask: head.mask }))
    }

    /// Checks as much of a head as there is, so that a fault does not wait for the rest.
    fn head(&self, bytes: &[u8]) -> Result<Option<Head>, Fault> {
        let Some(first) = bytes.first() else { return Ok(None) };
        if self.closed {
            return Err(broken("something follows a Close"));
        }
        if first & 0x70 != 0 {
            return Err(broken("a reserved bit is set, and no extension was agreed on"));
        }
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        if ![CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG].contains(&opcode) {
            return Err(broken("the opcode is reserved"));
        }
        let Some(second) = bytes.get(1) else { return Ok(None) };
        let (masked, short) = (second & 0x80 != 0, second & 0x7f);
        match (self.sender, masked) {
            (Sender::Agent, false) => return Err(broken("a frame of a client is not masked")),
            (Sender::Server, true) => return Err(broken("a frame of a server is masked")),
            (Sender::Agent, true) | (Sender::Server, false) => {}
        }
        let (payload, mut len) = match short {
            126 => {
                let Some(Ok(length)) = bytes.get(2..4).map(<[u8; 2]>::try_from) else { return Ok(None) };
                (u64::from(u16::from_be_bytes(length)), 4)
            }
            127 => {
                let Some(Ok(length)) = bytes.get(2..10).map(<[u8; 8]>::try_from) else { return Ok(None) };
                (u64::from_be_bytes(length), 10)
            }
            short => (u64::from(short), 2),
        };
        // One length has one spelling (5.2).
        if (short == 126 && payload < 126) || (short == 127 && payload <= 0xffff) {
            return Err(broken("the length is not written in the fewest bytes"));
        }
        if payload > i64::MAX as u64 {
            return Err(broken("the length has its highest bit set"));
        }
        let mask = match (masked, bytes.get(len..len + 4).map(<[u8; 4]>::try_from)) {
            (false, _) => None,
            (true, Some(Ok(key))) => {
                len += 4;
                Some(Mask(key))
            }
            (true, _) => return Ok(None),
        };
        Ok(Some(Head { fin, opcode, len, payload, mask }))
    }
}

/// A Close says nothing, or a code and a text (5.5.1).
fn close(payload: &[u8]) -> Result<(), Fault> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(()),
            _ => Err(broken("half a close code")),
        };
    };
    // 1004 to 1006 and 1015 are never sent; below 1000 and from 1016 to 2999 nothing is defined (7.4).
    match u16::from_be_bytes(*code) {
        1000..=1003 | 1007..=1014 | 3000..=4999 => {}
        _ => return Err(broken("the close code is not one that may be sent")),
    }
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(()),
        Err(_) => Err(not_utf8("the reason of a Close is not UTF-8")),
    }
}

/// A Close of ours. `key`: for a server, which expects a mask. A text that is too long is cut.
pub fn write_close(code: u16, reason: &str, key: Option<[u8; 4]>) -> Vec<u8> {
    let reason = reason.get(..reason.floor_char_boundary(MAX_CONTROL - 2)).unwrap_or_default();
    let mut payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    let len = u8::try_from(payload.len()).unwrap_or_default();
    match key {
        None => [&[0x80 | CLOSE, len][..], &payload].concat(),
        Some(key) => {
            Mask(key).apply(&mut payload);
            [&[0x80 | CLOSE, 0x80 | len][..], &key, &payload].concat()
        }
    }
}

#[cfg(test)]
mod tests;
