//! The three histories, as each side wrote its own: one line for each thing that happened, or one receipt.
//!
//! Times are microseconds of the machine's clock, which all three read.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

use super::content::{self, Digest};

/// What happened to a request, as an agent or the upstream tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The agent begins to send it; the digest is of its body, or of what it sends on a stream.
    Sent { method: String, digest: Digest },
    /// To the agent: it has read the whole answer. By the upstream: that is what it answers.
    Answered { status: u16, by: By, digest: Digest },
    /// The agent has no whole answer, and why.
    Failed { why: String },
    /// The agent broke it off on purpose.
    Aborted,
    /// The upstream reads its head. The credential is the number of the secret, if it is one that was ever valid.
    Head { method: String, credential: Option<u64> },
    /// The upstream has read the whole body.
    Body { digest: Digest },
}

/// Whose answer it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    Upstream,
    /// The injector's own, with its code.
    Injector(String),
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at: i64,
    pub id: String,
    pub event: Event,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { at, id, event } = self;
        write!(f, "{at} {id} ")?;
        match event {
            Event::Sent { method, digest } => write!(f, "sent {method} {digest}"),
            Event::Answered { status, by: By::Upstream, digest } => {
                write!(f, "answered {status} {digest}")
            }
            Event::Answered { status, by: By::Injector(code), digest } => {
                write!(f, "answered {status} {digest} {code}")
            }
            Event::Failed { why } => write!(f, "failed {}", why.replace(char::is_whitespace, "_")),
            Event::Aborted => write!(f, "aborted"),
            Event::Head { method, credential: Some(number) } => write!(f, "head {method} {number}"),
            Event::Head { method, credential: None } => write!(f, "head {method}"),
            Event::Body { digest } => write!(f, "body {digest}"),
        }
    }
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (at, id) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        let event = match (words.next()?, words.next(), words.next(), words.next()) {
            ("sent", Some(method), Some(digest), None) => {
                Event::Sent { method: method.to_owned(), digest: Digest::parse(digest)? }
            }
            ("answered", Some(status), Some(digest), code) => Event::Answered {
                status: status.parse().ok()?,
                by: code.map_or(By::Upstream, |code| By::Injector(code.to_owned())),
                digest: Digest::parse(digest)?,
            },
            ("failed", Some(why), None, None) => Event::Failed { why: why.to_owned() },
            ("aborted", None, None, None) => Event::Aborted,
            ("head", Some(method), number, None) => Event::Head {
                method: method.to_owned(),
                credential: number.map(str::parse).transpose().ok()?,
            },
            ("body", Some(digest), None, None) => Event::Body { digest: Digest::parse(digest)? },
            _ => return None,
        };
        Some(Line { at, id, event })
    }
}

/// A history as it is written: each line is in the file before what it tells of goes on.
#[derive(Debug)]
pub struct Writer(File);

impl Writer {
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        file.map(Writer).with_context(|| format!("open {}", path.display()))
    }

    /// In one write, so that the lines of several threads do not mix.
    pub fn write(&self, id: &str, event: Event) -> io::Result<()> {
        let line = Line { at: now(), id: id.to_owned(), event };
        (&self.0).write_all(format!("{line}\n").as_bytes())
    }
}

/// Reads a history; a line that is none is an error.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let line = |line| Line::parse(line).with_context(|| format!("{}: `{line}`", path.display()));
    text.lines().map(line).collect()
}

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// What the injector wrote down about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub at: i64,
    /// `None`: not of a request that names one.
    pub id: Option<String>,
    pub protocol: String,
    pub allowed: bool,
    pub reason: String,
    /// `None`: there is no outcome.
    pub end: Option<String>,
    pub status: Option<u16>,
}

/// Reads what `receipts export` wrote, a receipt a line.
pub fn receipts(path: &Path) -> Result<Vec<Receipt>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let read = |line| receipt(line).with_context(|| format!("a receipt cannot be read: `{line}`"));
    text.lines().map(read).collect()
}

fn receipt(line: &str) -> Result<Receipt> {
    let value: Value = serde_json::from_str(line)?;
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let outcome = &value["outcome"];
    let status = outcome["status"].as_u64().map(u16::try_from).transpose()?;
    Ok(Receipt {
        at: text("time").parse::<Timestamp>()?.as_microsecond(),
        id: value["path"].as_str().and_then(content::named).map(|(_, id, _)| id.to_owned()),
        protocol: text("protocol"),
        allowed: text("verdict") == "allow",
        reason: text("reason"),
        end: outcome["end"].as_str().map(str::to_owned),
        status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let digest = Digest::of(b"x");
        let injector = By::Injector("no_rule".to_owned());
        for event in [
            Event::Sent { method: "POST".to_owned(), digest },
            Event::Answered { status: 200, by: By::Upstream, digest },
            Event::Answered { status: 403, by: injector, digest },
            Event::Failed { why: "reset".to_owned() },
            Event::Aborted,
            Event::Head { method: "GET".to_owned(), credential: Some(3) },
            Event::Head { method: "TUNNEL".to_owned(), credential: None },
            Event::Body { digest },
        ] {
            let line = Line { at: 1_764_131_000_000_000, id: "one-post-17".to_owned(), event };
            assert_eq!(Line::parse(&line.to_string()), Some(line));
        }
        assert_eq!(Line::parse("1 one-post-17 sent POST"), None);
    }

    #[test]
    fn a_receipt_is_read() {
        let line = r#"{"seq":4,"time":"2026-11-26T04:00:00.000250Z","protocol":"https","verdict":"allow","reason":"allowed",
            "path":"/soak/post/one-post-17/100","outcome":{"end":"done","status":200}}"#;
        let receipt = receipt(line).unwrap();
        assert_eq!((receipt.at, receipt.id.as_deref()), (1_795_665_600_000_250, Some("one-post-17")));
        assert!(receipt.allowed && receipt.status == Some(200) && receipt.end.as_deref() == Some("done"));
    }
}
