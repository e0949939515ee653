//! Checks the whole log, offline: nothing but the folder, the public keys and, best, a head kept elsewhere.
//!
//! Names file, line and sequence number of the first fault. Behind a fault nothing can be proved, unless an
//! operator went on there in a new segment; then checking goes on from that segment too.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::clock::Time;
use super::entry::{Body, Entry, Mark};
use super::head::{Head, PublicKey};
use super::recover::continuation;
use super::segment::{self, Line, Lines};
use crate::text::hex;

/// Body of `POST /v1/receipts/verify`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// a [`Head`] kept elsewhere, in hex
    pub head: Option<String>,
}

/// `POST /v1/receipts/verify` answers with this; `enforcer receipts verify --json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// In the order of the log. Empty: what was checked is as it was written.
    pub faults: Vec<Fault>,
    pub segments: u32,
    pub entries: u64,
    pub last_seq: u64,
    pub last_hash: String,
    pub last_time: Option<Time>,
    /// Heads whose signature was checked.
    pub heads_checked: u64,
    /// The newest head found, to be kept elsewhere and given to the next `verify`.
    pub head: Option<String>,
    /// An expected head was given, and the log contains what it names.
    pub holds_expected: bool,
    /// The last entries are those of an orderly stop. If not, the log is in use, or was cut, or power was.
    pub stopped: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub file: String,
    /// from 1; 0 where the file as a whole is meant
    pub line: u64,
    /// the entry that should have been here
    pub seq: u64,
    pub what: String,
    /// an operator knew of this when going on in a new segment
    pub known: bool,
}

impl Report {
    /// No fault but those an operator has acknowledged.
    pub fn is_good(&self) -> bool {
        self.faults.iter().all(|fault| fault.known)
    }
}

/// `until` bounds the check of a log that is being written: this segment, this many bytes of it.
pub fn verify(
    receipts: &Path,
    keys: &[PublicKey],
    expected: Option<&Head>,
    until: Option<(u32, u64)>,
) -> io::Result<Report> {
    let mut check = Check { keys, expected, chain: Chain::START, lost: false, report: Report::default() };
    if let Some(head) = expected
        && head.signed()
        && !keys.is_empty()
        && !head.signed_by(keys)
    {
        check.fault("--head", 0, "the given head was not signed with the key of this log".to_owned());
        check.lost = false;
    }
    check.passes(&segment::name(1), 0);
    let mut due = 1;
    let (mut file, mut line) = (segment::name(1), 0);
    for number in segment::list(receipts)? {
        if until.is_some_and(|(last, _)| number > last) {
            break;
        }
        if number != due {
            check.fault(&segment::name(due), 0, "the segment is missing".to_owned());
        }
        due = number.saturating_add(1);
        file = segment::name(number);
        let end = until.and_then(|(last, len)| (last == number).then_some(len));
        line = check.segment(receipts, number, end)?;
    }
    check.finish(&file, line);
    Ok(check.report)
}

struct Check<'a> {
    keys: &'a [PublicKey],
    expected: Option<&'a Head>,
    chain: Chain,
    /// behind a fault, until a continuation
    lost: bool,
    report: Report,
}

impl Check<'_> {
    fn fault(&mut self, file: &str, line: u64, what: String) {
        self.lost = true;
        self.report.faults.push(Fault {
            file: file.to_owned(),
            line,
            seq: self.chain.seq + 1,
            what,
            known: false,
        });
    }

    /// Checks one segment; gives the number of its last line.
    fn segment(&mut self, receipts: &Path, number: u32, end: Option<u64>) -> io::Result<u64> {
        let file = segment::name(number);
        self.report.segments += 1;
        if self.lost {
            let Some((chain, continued)) = continuation(receipts, number)? else { return Ok(0) };
            let fault = self.report.faults.iter_mut().rev().find(|fault| fault.file == continued.file);
            // A segment damaged once more after the operator looked has another digest and gives no continuation.
            if let Some(fault) = fault {
                fault.known = true;
            }
            self.chain = chain;
            self.lost = false;
        }
        let mut lines = Lines::open(&segment::path(receipts, number), 0, end)?;
        loop {
            let what = match lines.next()? {
                Line::End => return Ok(lines.line),
                Line::Torn(bytes) => format!(
                    "the file ends inside an entry, after {bytes} bytes of it: it was cut, or the writer was killed and not started since"
                ),
                Line::TooLong => "the line is longer than any entry".to_owned(),
                Line::Whole(line) => {
                    let before = self.chain;
                    match self.chain.take(line) {
                        Ok(entry) => {
                            self.entry(&file, lines.line, before, &entry);
                            if self.lost {
                                return Ok(lines.line);
                            }
                            continue;
                        }
                        Err(what) => what,
                    }
                }
            };
            self.fault(&file, lines.line, what);
            return Ok(lines.line);
        }
    }

    fn entry(&mut self, file: &str, line: u64, before: Chain, entry: &Entry) {
        self.report.entries += 1;
        self.report.last_time = Some(entry.time);
        match &entry.body {
            Body::Head(mark) => self.head(file, line, before, mark),
            Body::Stop {} => self.report.stopped = true,
            Body::Intent(_)
            | Body::Outcome(_)
            | Body::Refused { .. }
            | Body::Folded { .. }
            | Body::Start(_) => {
                self.report.stopped = false;
            }
        }
        self.passes(file, line);
    }

    fn head(&mut self, file: &str, line: u64, before: Chain, mark: &Mark) {
        let head = Head::of(mark).filter(|head| (head.seq, head.hash) == (before.seq, before.hash));
        let Some(head) = head else {
            self.chain = before;
            return self.fault(file, line, "the head names another entry than the one before it".to_owned());
        };
        if !self.keys.is_empty() {
            if !head.signed_by(self.keys) {
                self.chain = before;
                return self.fault(
                    file,
                    line,
                    "the head is not signed with the key of this log: it was written by someone else"
                        .to_owned(),
                );
            }
            self.report.heads_checked += 1;
        }
        self.report.head = Some(head.to_string());
    }

    /// Compares with the expected head when its place is reached.
    fn passes(&mut self, file: &str, line: u64) {
        let Some(head) = self.expected.filter(|head| head.seq == self.chain.seq) else { return };
        if head.hash == self.chain.hash {
            self.report.holds_expected = true;
        } else {
            let what =
                format!("entry {} is not the one the given head names: the log was written anew", head.seq);
            self.fault(file, line, what);
        }
    }

    fn finish(&mut self, file: &str, line: u64) {
        self.report.last_seq = self.chain.seq;
        self.report.last_hash = hex(&self.chain.hash);
        if let Some(head) = self.expected
            && !self.lost
            && !self.report.holds_expected
        {
            let (last, named) = (self.chain.seq, head.seq);
            let what = if last < named {
                format!(
                    "the log ends with entry {last}, but the given head names entry {named}: its end was cut off"
                )
            } else {
                format!("entry {named}, which the given head names, lies behind the damage")
            };
            self.fault(file, line + 1, what);
        }
    }
}
