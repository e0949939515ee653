//! Tries to get out, one way at a time. Used by `enforcer prove` and by the tests: one copy.
//!
//! An attempt says what the kernel told it; whether something left is for a counter outside to say. [`ROUTES`]
//! names them all. It uses libc alone, so that it can do what a hostile programme would, and nothing of the product.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command line of the attempts speaks to its caller"
)]

mod command;
mod dgram;
mod host;
mod kernel;
mod raw;
mod routes;
mod steer;
mod stream;
mod sys;
mod uring;

use std::collections::HashMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

pub use command::{each, hold, main};
pub use routes::{Needs, Open, ROUTES, Route, Sign};

/// What everything says that should be out of reach.
pub const BANNER: &str = "OUTSIDE-THE-FENCE";

/// What became of an attempt, as the one who tried sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Something out of reach answered, or the kernel did what it should not.
    Out(String),
    Refused(String),
    /// Taken, and no answer.
    Silent(String),
    /// This kernel has no such thing, guarded or not.
    Absent(String),
}

impl Verdict {
    /// The exit code of an attempt that is a process: 0 is out.
    pub fn code(&self) -> u8 {
        match self {
            Verdict::Out(_) => 0,
            Verdict::Refused(_) => 1,
            Verdict::Silent(_) => 3,
            Verdict::Absent(_) => 4,
        }
    }

    /// The same from its code.
    pub fn from_code(code: i32, text: String) -> Option<Self> {
        match code {
            0 => Some(Verdict::Out(text)),
            1 => Some(Verdict::Refused(text)),
            3 => Some(Verdict::Silent(text)),
            4 => Some(Verdict::Absent(text)),
            _ => None,
        }
    }

    /// What was seen, without the verdict.
    pub fn text(&self) -> &str {
        match self {
            Verdict::Out(why) | Verdict::Refused(why) | Verdict::Silent(why) | Verdict::Absent(why) => why,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Verdict::Out(_) => "GOT OUT",
            Verdict::Refused(_) => "refused",
            Verdict::Silent(_) => "no answer",
            Verdict::Absent(_) => "not in this kernel",
        };
        write!(f, "{word}: {}", self.text())
    }
}

/// An early end of an attempt is a verdict, too.
pub(crate) type Attempt = Result<Verdict, Verdict>;

/// What is where, as `KEY=VALUE` words of the caller: addresses, paths, process ids.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    words: HashMap<String, String>,
}

impl Targets {
    /// Words without `=` say nothing.
    pub fn from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let pairs = words.into_iter().filter_map(|word| word.split_once('='));
        Targets { words: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect() }
    }

    pub(crate) fn word(&self, key: &str) -> Result<&str, Verdict> {
        self.words.get(key).map(String::as_str).ok_or_else(|| Verdict::Silent(format!("needs {key}=…")))
    }

    pub(crate) fn v4(&self) -> Result<Ipv4Addr, Verdict> {
        self.parsed("v4")
    }

    pub(crate) fn v6(&self) -> Result<Ipv6Addr, Verdict> {
        self.parsed("v6")
    }

    pub(crate) fn parsed<T: std::str::FromStr<Err: fmt::Display>>(&self, key: &str) -> Result<T, Verdict> {
        self.word(key)?.parse().map_err(|e| Verdict::Silent(format!("{key}: {e}")))
    }

    /// Where a service of the host listens, if not at the place where tests have it.
    pub(crate) fn port(&self, key: &str, usual: u16) -> Result<u16, Verdict> {
        if self.words.contains_key(key) { self.parsed(key) } else { Ok(usual) }
    }

    /// What a datagram carries: the word, and a mark of the caller's by which a packet is known again.
    pub(crate) fn payload(&self, word: &str) -> Vec<u8> {
        let mark = self.words.get("mark").map(String::as_str).unwrap_or_default();
        format!("{word} {mark}").into_bytes()
    }
}

impl Route {
    /// Tries it, in this very process: some attempts change who and where it is.
    pub fn attempt(&self, to: &Targets) -> Verdict {
        (self.run)(to).unwrap_or_else(|early| early)
    }

    /// Begins it in a child, so that one attempt cannot change what the next one starts from. For processes with one thread.
    pub(crate) fn begin(&'static self, to: &Targets) -> Result<Begun, Verdict> {
        let made = std::io::pipe();
        let Ok((reader, mut writer)) = made else {
            return Err(Verdict::Silent("no pipe for the answer can be made".to_owned()));
        };
        let child = sys::Child::start(|| {
            let verdict = self.attempt(to);
            // One that cannot tell is seen as silent.
            let _told = writer.write_all(verdict.text().as_bytes());
            verdict.code()
        })?;
        Ok(Begun { route: self, child, reader })
    }
}

/// An attempt that is being made.
pub(crate) struct Begun {
    pub(crate) route: &'static Route,
    child: sys::Child,
    reader: std::io::PipeReader,
}

impl Begun {
    /// Waits for it. A child that was killed, as a filter does, was refused.
    pub(crate) fn verdict(mut self) -> Verdict {
        let mut text = Vec::new();
        let _partial = self.reader.read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text).replace(['\n', '\t'], " ");
        match self.child.wait() {
            Ok(Ok(code)) => Verdict::from_code(code, text)
                .unwrap_or_else(|| Verdict::Silent(format!("the attempt ended with {code}"))),
            Ok(Err(signal)) => Verdict::Refused(format!("ended by signal {signal}")),
            Err(early) => early,
        }
    }
}

/// The route of this name.
pub fn route(name: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.name == name)
}
