//! One line of the log.
//!
//! ```text
//! {"seq":7,"time":"…","mono":…,"boot":"…","kind":"intent","body":{…},"prev":"<64 hex>","hash":"<64 hex>"}
//! ```
//!
//! Lines rather than length frames: people can read them with `less` and `jq`, a torn write is a line
//! without its end, and a flipped length cannot swallow its neighbours. The canonical bytes are the bytes
//! of the line itself before `,"hash":`, so nothing is ever parsed and printed again to check a hash.

use std::io::Write as _;

use ring::digest;
use serde::{Deserialize, Serialize};

use super::clock::{Stamp, Time};
use super::record::{Intent, Outcome, RequestId};
use crate::text::{hex_into, shown_json, unhex};

pub(super) type Hash = [u8; 32];
/// What the first entry of all follows.
pub(super) const GENESIS: Hash = [0; 32];
/// Sequence numbers stay exact in JSON readers that know only doubles, and in SQLite.
pub(super) const MAX_SEQ: u64 = 1 << 53;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body", rename_all = "lowercase")]
pub(super) enum Body {
    /// An allowed request, written before its credential leaves.
    Intent(Intent),
    /// What became of an intent.
    Outcome(Closed),
    /// A refusal: intent and outcome at once.
    Refused { intent: Intent, outcome: Outcome },
    /// Equal refusals beyond the first ones of a second; `intent` is the first of them.
    Folded { intent: Intent, count: u64, until: Time, last: RequestId },
    /// The log was opened.
    Start(Start),
    /// The log was closed in order.
    Stop {},
    /// The chain so far, signed where there is a key.
    Head(Mark),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Closed {
    pub(super) id: RequestId,
    /// sequence number of the intent
    pub(super) of: u64,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) version: String,
    pub(super) pid: u32,
    /// bytes of an incomplete last line that were cut away
    pub(super) truncated: u64,
    /// intents of the run before that had no outcome and get `unknown`
    pub(super) unknown: u64,
    /// the index had seen entries up to here that the log no longer holds
    pub(super) index_ahead: Option<u64>,
    pub(super) continued: Option<Continued>,
}

/// An operator chose to go on after a broken segment; the segment is kept, and this says in which state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Continued {
    pub(super) file: String,
    pub(super) line: u64,
    pub(super) fault: String,
    /// of the whole broken file; also the `prev` of this entry
    pub(super) sha256: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) seq: u64,
    pub(super) hash: String,
    pub(super) key: Option<String>,
    pub(super) sig: Option<String>,
    /// intents without an outcome; written as the first entry of each segment, so that start-up needs no other
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) open: Option<Vec<(u64, RequestId)>>,
}

/// A body as it goes into the line, serialised by whoever asks and not by the one writing thread.
#[derive(Clone, Debug)]
pub(super) struct Encoded(String);

impl Encoded {
    pub(super) fn new(body: &Body) -> Self {
        // Maps with string keys, numbers and strings: serde_json has no way to fail on these.
        let json = serde_json::to_string(body).expect("bodies are plain data");
        Encoded(shown_json(json))
    }

    /// Upper bound for the whole line.
    pub(super) fn line_len(&self) -> u64 {
        // seq, time, mono, boot, prev, hash and their names: 30 + 37 + 30 + 47 + 75 + 75, rounded up.
        self.0.len() as u64 + 320
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) time: Time,
    #[serde(flatten)]
    pub(super) body: Body,
    #[serde(skip)]
    pub(super) prev: Hash,
    #[serde(skip)]
    pub(super) hash: Hash,
}

/// `,"hash":"`, 64 digits, `"}`
const SUFFIX: usize = 9 + 64 + 2;
/// `,"prev":"`, 64 digits, `"`
const PREV: usize = 9 + 64 + 1;

pub(super) fn seal(
    out: &mut Vec<u8>,
    seq: u64,
    stamp: Stamp,
    boot: Option<&str>,
    body: &Encoded,
    prev: &Hash,
) -> Hash {
    let from = out.len();
    let inner = body.0.strip_prefix('{').and_then(|b| b.strip_suffix('}')).expect("a body is an object");
    let (time, mono) = (stamp.time, stamp.mono);
    // A Vec takes every write.
    let _written = write!(out, "{{\"seq\":{seq},\"time\":\"{time}\",\"mono\":{mono},\"boot\":");
    match boot {
        Some(id) => [b"\"", id.as_bytes(), b"\""].iter().for_each(|part| out.extend_from_slice(part)),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b',');
    out.extend_from_slice(inner.as_bytes());
    out.extend_from_slice(b",\"prev\":\"");
    hex_into(out, prev);
    out.push(b'"');
    let hash = link(prev, &out[from..]);
    out.extend_from_slice(b",\"hash\":\"");
    hex_into(out, &hash);
    out.extend_from_slice(b"\"}\n");
    hash
}

/// Reads a line (without its end) and checks that its hash is the one its own bytes and its `prev` give.
pub(super) fn open(line: &[u8]) -> Result<Entry, &'static str> {
    const FORM: &str = "is not an entry of this log";
    let (canonical, suffix) = line.len().checked_sub(SUFFIX).map(|at| line.split_at(at)).ok_or(FORM)?;
    let hash = suffix
        .strip_prefix(b",\"hash\":\"")
        .and_then(|s| s.strip_suffix(b"\"}"))
        .and_then(unhex)
        .ok_or(FORM)?;
    let prev = canonical.len().checked_sub(PREV).map(|at| &canonical[at..]).ok_or(FORM)?;
    let prev =
        prev.strip_prefix(b",\"prev\":\"").and_then(|s| s.strip_suffix(b"\"")).and_then(unhex).ok_or(FORM)?;
    if link(&prev, canonical) != hash {
        return Err("does not have the hash it says: it was changed");
    }
    // Only a writer of another version gets here with something unreadable.
    let entry: Entry =
        serde_json::from_slice(line).map_err(|_unreadable| "has a form this version does not know")?;
    Ok(Entry { prev, hash, ..entry })
}

/// The parts of a line, found without reading its body. `None`: it does not have the form that [`seal`] gives it.
pub(super) struct Parts<'a> {
    pub(super) seq: u64,
    pub(super) time: Time,
    pub(super) kind: &'a str,
    /// JSON
    pub(super) body: &'a str,
    /// in hex
    pub(super) hash: &'a str,
}

pub(super) fn parts(line: &[u8]) -> Option<Parts<'_>> {
    let line = std::str::from_utf8(line).ok()?;
    let (canonical, suffix) = line.split_at_checked(line.len().checked_sub(SUFFIX)?)?;
    let (rest, _prev) = canonical.split_at_checked(canonical.len().checked_sub(PREV)?)?;
    let hash = suffix.strip_prefix(",\"hash\":\"")?.strip_suffix("\"}")?;
    let (seq, rest) = rest.strip_prefix("{\"seq\":")?.split_once(",\"time\":\"")?;
    let (time, rest) = rest.split_once("\",\"mono\":")?;
    let (_mono_and_boot, rest) = rest.split_once(",\"kind\":\"")?;
    let (kind, body) = rest.split_once("\",\"body\":")?;
    Some(Parts { seq: seq.parse().ok()?, time: time.parse().ok()?, kind, body, hash })
}

/// Reads what a line says and trusts it, for the index.
pub(super) fn read(line: &[u8]) -> Option<Entry> {
    let entry: Entry = serde_json::from_slice(line).ok()?;
    let at = line.len().checked_sub(SUFFIX)? + 9;
    Some(Entry { hash: unhex(line.get(at..at + 64)?)?, ..entry })
}

fn link(prev: &Hash, canonical: &[u8]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(prev);
    context.update(canonical);
    hash_of(context)
}

pub(super) fn hash_of(context: digest::Context) -> Hash {
    let mut hash = GENESIS;
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
