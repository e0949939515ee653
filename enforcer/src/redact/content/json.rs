//! JSON as it arrives: values of named fields and paths are replaced, everything else passes byte by byte.
//!
//! Strict (RFC 8259): no comments, no trailing commas, no single quotes, nothing behind the value. Keys
//! are compared unescaped, those of `fields` without case. Held back are one key or number, and one
//! string where texts are searched for patterns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use enforcer_policy::{ResponseRules, Step};

use super::super::ScrubError;
use super::{INSTEAD, pattern};

/// As deep as readers go by default.
const MAX_DEPTH: usize = 128;
/// A key longer than this, escapes included, is none that a rule names.
const MAX_KEY: usize = 4 * 1024;
/// A string that is searched is held whole.
const MAX_SEARCHED: usize = 256 * 1024;

pub(in crate::redact) struct Json {
    rules: Arc<ResponseRules>,
    /// several values, one after another
    lines: bool,
    stack: Vec<Level>,
    expect: Expect,
    token: Token,
    /// the token as it came, where it has to be looked at whole
    held: Vec<u8>,
    /// the value to come is replaced
    redact: bool,
    /// nothing passes until the stack is this high again
    hidden: Option<usize>,
    /// paths that lead to the value to come; at the top, all
    alive: Vec<usize>,
    out: Vec<u8>,
    read: u64,
    cut: Arc<AtomicU32>,
}

struct Level {
    object: bool,
    /// of the element to come
    index: usize,
    /// paths that lead here
    alive: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    KeyOrEnd,
    Key,
    Colon,
    CommaOrEnd,
    /// after the last value
    Nothing,
}

#[derive(Clone, Copy)]
enum Token {
    None,
    String { key: bool, escape: Escape },
    Number,
    Literal { word: &'static [u8], at: usize },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    No,
    Begun,
    /// so many hex digits are to come
    Hex(u8),
}

impl Json {
    pub(super) fn new(rules: Arc<ResponseRules>, lines: bool, cut: Arc<AtomicU32>) -> Self {
        let alive = (0..rules.json.len()).collect();
        Json {
            rules,
            lines,
            stack: Vec::new(),
            expect: Expect::Value,
            token: Token::None,
            held: Vec::new(),
            redact: false,
            hidden: None,
            alive,
            out: Vec::new(),
            read: 0,
            cut,
        }
    }

    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<Bytes, ScrubError> {
        for byte in chunk {
            self.byte(*byte)?;
            self.read += 1;
        }
        Ok(std::mem::take(&mut self.out).into())
    }

    pub(super) fn finish(&mut self) -> Result<Bytes, ScrubError> {
        if matches!(self.token, Token::Number) {
            self.end_number()?;
        }
        let whole = matches!(self.token, Token::None) && self.stack.is_empty();
        let said_something = self.expect == Expect::Nothing || (self.lines && self.expect == Expect::Value);
        if self.read > 0 && !(whole && said_something) {
            return Err(self.wrong("it ends in the middle"));
        }
        Ok(std::mem::take(&mut self.out).into())
    }

    fn wrong(&self, why: &str) -> ScrubError {
        ScrubError::Json { at: self.read, why: why.to_owned() }
    }

    fn byte(&mut self, byte: u8) -> Result<(), ScrubError> {
        match self.token {
            Token::None => self.between(byte),
            Token::String { key, escape } => self.in_string(byte, key, escape),
            Token::Number => match byte {
                b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E' => self.hold(byte, MAX_KEY),
                _ => {
                    self.end_number()?;
                    self.between(byte)
                }
            },
            Token::Literal { word, at } => {
                if word.get(at) != Some(&byte) {
                    return Err(self.wrong("a word that JSON has not"));
                }
                self.pass(byte);
                self.token = Token::Literal { word, at: at + 1 };
                if at + 1 == word.len() {
                    self.token = Token::None;
                    self.end_value();
                }
                Ok(())
            }
        }
    }

    fn between(&mut self, byte: u8) -> Result<(), ScrubError> {
        match (byte, self.expect) {
            (b' ' | b'\t' | b'\n' | b'\r', _) => self.pass(byte),
            (b'}', Expect::KeyOrEnd | Expect::CommaOrEnd) if self.in_object() => self.leave(byte),
            (b']', Expect::ValueOrEnd | Expect::CommaOrEnd) if !self.in_object() => self.leave(byte),
            (b',', Expect::CommaOrEnd) => {
                self.pass(byte);
                let object = self.in_object();
                self.expect = if object { Expect::Key } else { Expect::Value };
                if !object {
                    self.element();
                }
            }
            (b':', Expect::Colon) => {
                self.pass(byte);
                self.expect = Expect::Value;
            }
            (b'"', Expect::Key | Expect::KeyOrEnd) => {
                self.token = Token::String { key: true, escape: Escape::No };
                self.held.push(byte);
            }
            (_, Expect::Value | Expect::ValueOrEnd) => return self.begin_value(byte),
            (_, Expect::Nothing) if self.lines => {
                self.expect = Expect::Value;
                return self.begin_value(byte);
            }
            (_, Expect::Nothing) => return Err(self.wrong("there is something behind its end")),
            _ => return Err(self.wrong("it is not JSON")),
        }
        Ok(())
    }

    fn begin_value(&mut self, byte: u8) -> Result<(), ScrubError> {
        if self.redact && self.hidden.is_none() {
            self.out.extend_from_slice(format!("\"{INSTEAD}\"").as_bytes());
            self.cut.fetch_add(1, Ordering::Relaxed);
            self.hidden = Some(self.stack.len());
        }
        self.redact = false;
        match byte {
            b'{' | b'[' => {
                if self.stack.len() == MAX_DEPTH {
                    return Err(self.wrong("it is nested too deep"));
                }
                self.pass(byte);
                let object = byte == b'{';
                let alive = std::mem::take(&mut self.alive);
                self.stack.push(Level { object, index: 0, alive });
                self.expect = if object { Expect::KeyOrEnd } else { Expect::ValueOrEnd };
                if !object {
                    self.element();
                }
            }
            b'"' => {
                self.token = Token::String { key: false, escape: Escape::No };
                if self.searches() { self.held.push(byte) } else { self.pass(byte) }
            }
            b'-' | b'0'..=b'9' => {
                self.token = Token::Number;
                self.held.push(byte);
            }
            b't' | b'f' | b'n' => {
                let word: &[u8] = match byte {
                    b't' => b"true",
                    b'f' => b"false",
                    _ => b"null",
                };
                self.pass(byte);
                self.token = Token::Literal { word, at: 1 };
            }
            _ => return Err(self.wrong("it is not JSON")),
        }
        Ok(())
    }

    fn in_string(&mut self, byte: u8, key: bool, escape: Escape) -> Result<(), ScrubError> {
        let next = match (escape, byte) {
            (_, 0..=0x1f) => return Err(self.wrong("a string holds a control character")),
            (Escape::No, b'\\') => Escape::Begun,
            (Escape::No, _) => Escape::No,
            (Escape::Begun, b'u') => Escape::Hex(4),
            (Escape::Begun, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Escape::No,
            (Escape::Hex(left), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if left == 1 {
                    Escape::No
                } else {
                    Escape::Hex(left - 1)
                }
            }
            _ => return Err(self.wrong("a string holds an escape that JSON has not")),
        };
        if key {
            self.hold(byte, MAX_KEY)?;
        } else if self.searches() {
            self.hold(byte, MAX_SEARCHED)?;
        } else {
            self.pass(byte);
        }
        self.token = Token::String { key, escape: next };
        if escape == Escape::No && byte == b'"' {
            self.token = Token::None;
            if key { self.end_key()? } else { self.end_string()? }
        }
        Ok(())
    }

    fn end_key(&mut self) -> Result<(), ScrubError> {
        let raw = std::mem::take(&mut self.held);
        let key = self.text(&raw)?;
        self.pass_searched(&raw, &key);
        self.expect = Expect::Colon;
        let folded = key.to_lowercase();
        self.redact = self.rules.fields.iter().any(|field| **field == *folded);
        self.lead(|step| match step {
            Step::Any => true,
            Step::Key(name) => **name == *key,
            Step::Index(_) => false,
        });
        Ok(())
    }

    fn end_string(&mut self) -> Result<(), ScrubError> {
        if self.searches() {
            let raw = std::mem::take(&mut self.held);
            let text = self.text(&raw)?;
            self.pass_searched(&raw, &text);
        }
        self.end_value();
        Ok(())
    }

    /// Digits may be a card's.
    fn end_number(&mut self) -> Result<(), ScrubError> {
        let raw = std::mem::take(&mut self.held);
        if serde_json::from_slice::<serde_json::Number>(&raw).is_err() {
            return Err(self.wrong("a number that JSON has not"));
        }
        self.token = Token::None;
        let text = String::from_utf8_lossy(&raw).into_owned();
        self.pass_searched(&raw, &text);
        self.end_value();
        Ok(())
    }

    /// A key, a string or a number, without what the patterns find in it.
    fn pass_searched(&mut self, raw: &[u8], text: &str) {
        if self.hidden.is_some() {
            return;
        }
        match pattern::redacted(text.as_bytes(), &self.rules.patterns) {
            Some((redacted, count)) => {
                self.cut.fetch_add(count, Ordering::Relaxed);
                let text = String::from_utf8_lossy(&redacted);
                self.out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
            }
            None => self.out.extend_from_slice(raw),
        }
    }

    /// What a string token means.
    fn text(&self, raw: &[u8]) -> Result<String, ScrubError> {
        serde_json::from_slice(raw)
            .map_err(|_error| self.wrong("a string is not UTF-8 or half of a surrogate pair"))
    }

    /// The next element of the array that we are in.
    fn element(&mut self) {
        let Some(level) = self.stack.last_mut() else { return };
        let index = level.index;
        level.index += 1;
        self.redact = false;
        self.lead(|step| match step {
            Step::Any => true,
            Step::Index(wanted) => *wanted == index,
            Step::Key(_) => false,
        });
    }

    /// Which paths lead to the value to come, and whether one ends there.
    fn lead(&mut self, takes: impl Fn(&Step) -> bool) {
        let Some(level) = self.stack.last() else { return };
        let depth = self.stack.len();
        let steps =
            |path: &usize| self.rules.json.get(*path).map(|path| path.steps.as_slice()).unwrap_or_default();
        let alive: Vec<usize> = level
            .alive
            .iter()
            .copied()
            .filter(|path| steps(path).get(depth - 1).is_some_and(&takes))
            .collect();
        self.redact |= alive.iter().any(|path| steps(path).len() == depth);
        self.alive = alive;
    }

    fn leave(&mut self, byte: u8) {
        self.stack.pop();
        self.pass(byte);
        self.end_value();
    }

    fn end_value(&mut self) {
        if self.hidden == Some(self.stack.len()) {
            self.hidden = None;
        }
        self.redact = false;
        if self.stack.is_empty() {
            self.alive = (0..self.rules.json.len()).collect();
            self.expect = Expect::Nothing;
        } else {
            self.expect = Expect::CommaOrEnd;
        }
    }

    fn in_object(&self) -> bool {
        self.stack.last().is_some_and(|level| level.object)
    }

    fn searches(&self) -> bool {
        !self.rules.patterns.is_empty() && self.hidden.is_none()
    }

    fn hold(&mut self, byte: u8, most: usize) -> Result<(), ScrubError> {
        if self.held.len() >= most {
            return Err(self.wrong("a key, number or searched string is too long"));
        }
        self.held.push(byte);
        Ok(())
    }

    fn pass(&mut self, byte: u8) {
        if self.hidden.is_none() {
            self.out.push(byte);
        }
    }
}
