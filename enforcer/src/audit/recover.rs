//! What start-up finds: the end of the chain, and what the run before left open.
//!
//! Reads the newest segment only (and the last line of the one before); the whole log is `verify`'s.
//! Mends one thing, a last line that a crash cut short. Everything else is for a person to decide.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use ring::digest;
use rustix::fs::FlockOperation;

use super::chain::Chain;
use super::entry::{self, Body, Continued, Hash, hash_of};
use super::log::AuditError;
use super::record::RequestId;
use super::segment::{self, Line, Lines};
use crate::text::{hex, unhex};

pub(super) struct Tail {
    pub(super) chain: Chain,
    /// where to go on: this segment, after this many bytes
    pub(super) number: u32,
    pub(super) len: u64,
    pub(super) open: BTreeMap<u64, RequestId>,
    pub(super) truncated: u64,
    pub(super) continued: Option<Continued>,
}

/// The worker of a daemon that was killed may still be ending, and writes what it has.
const PREDECESSOR: Duration = Duration::from_secs(3);

/// Two writers would each break the other's chain.
pub(super) fn take_lock(receipts: &Path) -> Result<File, AuditError> {
    let path = receipts.join("lock");
    let cannot = |error: io::Error| AuditError::Open(format!("{}: {error}", path.display()));
    let flags = libc::O_NOFOLLOW;
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(&path)
        .map_err(cannot)?;
    let deadline = Instant::now() + PREDECESSOR;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(AuditError::Open(format!(
                    "{}: another process writes receipts here; stop it, or give this one its own state folder",
                    receipts.display()
                )));
            }
            Err(error) => return Err(cannot(error.into())),
        }
    }
}

pub(super) fn tail(receipts: &Path, continue_after_fault: bool) -> Result<Tail, AuditError> {
    let cannot = |error: io::Error| AuditError::Open(format!("{}: {error}", receipts.display()));
    let numbers = segment::list(receipts).map_err(cannot)?;
    let Some(&last) = numbers.last() else {
        return Ok(Tail { number: 1, ..Tail::empty() });
    };
    // A crash right after a rotation leaves a segment without a whole line: then the one before is the tail.
    let (base, bare) = match first_line(receipts, last).map_err(cannot)? {
        None if last > 1 && numbers.contains(&(last - 1)) => (last - 1, true),
        _ => (last, false),
    };
    let mut tail = Tail::empty();
    let found = walk(receipts, base, bare, &mut tail).map_err(cannot)?;
    if bare {
        tail.number = last;
        tail.len = 0;
        tail.truncated = std::fs::metadata(segment::path(receipts, last)).map_err(cannot)?.len();
    }
    let Some((line, what)) = found else { return Ok(tail) };
    if !continue_after_fault {
        let dir = receipts.display().to_string();
        return Err(AuditError::Broken { dir, file: segment::name(base), line, what });
    }
    let (hash, lines) = digest_of(&segment::path(receipts, base)).map_err(cannot)?;
    // As if all lines of the damaged segment were entries: no number is given twice.
    let seq = tail.chain.seq + (lines + 1).saturating_sub(line.max(1));
    let file = segment::name(base);
    Ok(Tail {
        chain: Chain { seq, hash },
        number: base + 1,
        len: 0,
        continued: Some(Continued { file, line, fault: what, sha256: hex(&hash) }),
        ..tail
    })
}

impl Tail {
    fn empty() -> Self {
        Tail { chain: Chain::START, number: 0, len: 0, open: BTreeMap::new(), truncated: 0, continued: None }
    }
}

/// Takes the entries of segment `base` into `tail`; gives the line and nature of the first fault.
fn walk(receipts: &Path, base: u32, whole: bool, tail: &mut Tail) -> io::Result<Option<(u64, String)>> {
    tail.number = base;
    tail.chain = match continuation(receipts, base)? {
        Some((chain, _)) => chain,
        None if base == 1 => Chain::START,
        None => match last_line(receipts, base - 1)? {
            Some(chain) => chain,
            None => {
                return Ok(Some((
                    1,
                    format!("the segment before it, {}, is missing or unreadable", segment::name(base - 1)),
                )));
            }
        },
    };
    let mut lines = Lines::open(&segment::path(receipts, base), 0, None)?;
    loop {
        let line = match lines.next()? {
            Line::End => return Ok(None),
            Line::Torn(_) if whole => "the file ends inside an entry, but is not the newest".to_owned(),
            Line::Torn(bytes) => {
                tail.truncated = bytes;
                return Ok(None);
            }
            Line::TooLong => "the line is longer than any entry".to_owned(),
            Line::Whole(line) => match tail.chain.take(line) {
                Ok(entry) => {
                    tail.note(entry.seq, entry.body);
                    tail.len = lines.end;
                    continue;
                }
                Err(what) => what,
            },
        };
        return Ok(Some((lines.line, line)));
    }
}

impl Tail {
    fn note(&mut self, seq: u64, body: Body) {
        match body {
            Body::Intent(intent) => drop(self.open.insert(seq, intent.id)),
            Body::Outcome(closed) => drop(self.open.remove(&closed.of)),
            Body::Head(mark) => {
                if let Some(open) = mark.open {
                    self.open = open.into_iter().collect();
                }
            }
            Body::Refused { .. } | Body::Folded { .. } | Body::Start(_) | Body::Stop {} => {}
        }
    }
}

fn first_line(receipts: &Path, number: u32) -> io::Result<Option<Vec<u8>>> {
    match Lines::open(&segment::path(receipts, number), 0, None)?.next()? {
        Line::Whole(line) => Ok(Some(line.to_vec())),
        Line::TooLong => Ok(Some(Vec::new())),
        Line::Torn(_) | Line::End => Ok(None),
    }
}

/// The chain as the last line of a segment says it is.
fn last_line(receipts: &Path, number: u32) -> io::Result<Option<Chain>> {
    let mut lines = match Lines::open(&segment::path(receipts, number), 0, None) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        lines => lines?,
    };
    let mut last = Vec::new();
    loop {
        match lines.next()? {
            Line::Whole(line) => {
                last.clear();
                last.extend_from_slice(line);
            }
            Line::Torn(_) | Line::TooLong => return Ok(None),
            Line::End => {
                return Ok(entry::open(&last).ok().map(|entry| Chain { seq: entry.seq, hash: entry.hash }));
            }
        }
    }
}

/// Where the chain begins anew in segment `number`, if an operator went on there behind a damaged segment,
/// and that segment is still as it was then.
pub(super) fn continuation(receipts: &Path, number: u32) -> io::Result<Option<(Chain, Continued)>> {
    let mut lines = Lines::open(&segment::path(receipts, number), 0, None)?;
    let Line::Whole(first) = lines.next()? else { return Ok(None) };
    let Ok(head) = entry::open(first) else { return Ok(None) };
    let Line::Whole(second) = lines.next()? else { return Ok(None) };
    let Ok(entry::Entry { body: Body::Start(start), .. }) = entry::open(second) else { return Ok(None) };
    let Some(continued) = start.continued else { return Ok(None) };
    let before = segment::name(number.saturating_sub(1));
    if continued.file != before || unhex(continued.sha256.as_bytes()) != Some(head.prev) {
        return Ok(None);
    }
    match digest_of(&receipts.join(before)) {
        Ok((hash, _)) if hash == head.prev => {
            Ok(Some((Chain { seq: head.seq.saturating_sub(1), hash }, continued)))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// SHA-256 of a file and how many lines it has, an unfinished one included.
fn digest_of(path: &Path) -> io::Result<(Hash, u64)> {
    let mut file = File::open(path)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let (mut lines, mut open) = (0, false);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hash_of(context), lines + u64::from(open)));
        }
        context.update(&buffer[..read]);
        lines += buffer[..read].iter().filter(|b| **b == b'\n').count() as u64;
        open = buffer[read - 1] != b'\n';
    }
}
