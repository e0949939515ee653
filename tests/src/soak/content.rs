//! What is sent and what must come back: made of the request's id alone, so that no answer passes for another's.

use std::fmt;

use ring::digest::{Context, SHA256};

/// Where the requests go, and the connections that are relayed unread.
pub const PORT: u16 = 443;
pub const TUNNEL_PORT: u16 = 9461;
/// Names the request that an answer of the upstream's is for; what the injector answers itself lacks it.
pub const ANSWER_TO: &str = "x-answer-to";
/// Events of one stream, and texts of one WebSocket.
pub const EVENTS: usize = 12;
pub const TEXTS: usize = 12;

/// Paths are `/soak/KIND/ID/SIZE`.
pub fn path(kind: &str, id: &str, size: usize) -> String {
    format!("/soak/{kind}/{id}/{size}")
}

/// The kind, the id and the size that a path names.
pub fn named(path: &str) -> Option<(&str, &str, usize)> {
    let [kind, id, size] = path.strip_prefix("/soak/")?.split('/').collect::<Vec<_>>().try_into().ok()?;
    Some((kind, id, size.parse().ok()?))
}

/// At least the line that names the id, then bytes that no other id has and that nothing packs smaller.
pub fn bytes(id: &str, size: usize) -> Vec<u8> {
    let mut out = format!("{id}\n").into_bytes();
    let mut state = id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    out.reserve(size);
    while out.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        out.extend(mix(state).to_le_bytes());
    }
    out.truncate(size.max(id.len() + 1));
    out
}

/// One event of a stream.
pub fn event(id: &str, number: usize) -> String {
    format!("id: {number}\ndata: {id} says {number}\n\n")
}

/// One text of a WebSocket.
pub fn text(id: &str, number: usize) -> String {
    format!("{id} says {number}: {}", "x".repeat(number * 97 % 1500))
}

/// What splitmix64 does to its counter.
pub fn mix(counter: u64) -> u64 {
    let first = (counter ^ (counter >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let second = (first ^ (first >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    second ^ (second >> 31)
}

/// The first half of a SHA-256, in hex where it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub u128);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        let mut digesting = Digesting::default();
        digesting.add(bytes);
        digesting.end()
    }

    pub fn parse(hex: &str) -> Option<Self> {
        u128::from_str_radix(hex, 16).ok().map(Digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A digest of what comes in pieces.
pub struct Digesting(Context);

impl Default for Digesting {
    fn default() -> Self {
        Digesting(Context::new(&SHA256))
    }
}

impl Digesting {
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn end(self) -> Digest {
        let whole = self.0.finish();
        let half = whole.as_ref().first_chunk().copied().unwrap_or_default();
        Digest(u128::from_be_bytes(half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_ids_own() {
        for size in [0, 1, 40, 4096] {
            let (one, other) = (bytes("one-item-1", size), bytes("one-item-2", size));
            assert!(one.starts_with(b"one-item-1\n") && one.len() == size.max(11), "{size}");
            assert_ne!(Digest::of(&one), Digest::of(&other));
            assert_eq!(one, bytes("one-item-1", size));
        }
    }

    #[test]
    fn a_digest_does_not_depend_on_the_pieces() {
        let mut digesting = Digesting::default();
        b"in pieces".chunks(2).for_each(|piece| digesting.add(piece));
        let digest = digesting.end();
        assert_eq!(digest, Digest::of(b"in pieces"));
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
    }

    #[test]
    fn a_path_is_read_as_it_was_written() {
        assert_eq!(named(&path("item", "one-item-7", 100)), Some(("item", "one-item-7", 100)));
        assert_eq!(named("/soak/item/one-item-7"), None);
        assert_eq!(named("/other/item/one-item-7/3"), None);
    }
}
