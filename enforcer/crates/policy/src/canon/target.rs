//! Request targets: path and query in one spelling.
//!
//! Seventeen servers were asked with 593 odd spellings of a path: they disagree about dot segments,
//! doubled slashes, encoded slashes, parameters and double encoding. Each of these is refused, but for
//! the encoded slash between two names, as package and project ids have it: only rules that say
//! `raw_path: true` allow it, and deny rules look at it both ways. Two spellings that all servers read
//! alike (`%40` and `@`) are sent as they came and matched as one, because matching looks at decoded
//! segments.
//!
//! Left out: what the query means. `body::form` reads its pairs for rules that ask.

use std::cmp::Ordering;
use std::fmt;

use super::{RequestError, shown};

/// Servers accept 8 KiB for the whole request line by default (nginx, Apache); more is an attack or a bug.
const MAX_TARGET: usize = 8 * 1024;

/// A canonical request target in origin form: `/a/b?c=d`. Unreserved percent-escapes decoded, others
/// kept in upper-case hex; dot segments, `//`, `%5c`, `\`, `;`, `%00`, controls, non-ASCII, fragments refused.
/// A `%2f` in the path stands between two pieces that could be segments, and keeps its case where it is sent.
/// In the query `%2F`, `%5C` and `%3B` are data and kept, and an empty or dotted piece means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: String,
    path_len: usize,
    /// The path with `%2F` for its `%2f`, where that is another text.
    upper: Option<Box<str>>,
    encoded_slash: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Query,
}

impl Target {
    pub fn parse(text: &str) -> Result<Self, RequestError> {
        let refuse = |code, why: &str| Err(RequestError::new(code, format!("`{}` {why}", shown(text))));
        if text.len() > MAX_TARGET {
            return refuse("target_too_long", "is longer than 8 KiB");
        }
        if !text.starts_with('/') {
            return refuse("target_form", "is not a path that starts with `/`");
        }
        if text.contains('#') {
            return refuse("target_fragment", "has a fragment");
        }
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        let mut canonical = String::with_capacity(text.len());
        let checked = spell(path, Part::Path, &mut canonical).and_then(|()| check_path(&canonical));
        let path_len = canonical.len();
        let checked = checked.and_then(|()| match query {
            Some(query) => {
                canonical.push('?');
                spell(query, Part::Query, &mut canonical)
            }
            None => Ok(()),
        });
        if let Err((code, why)) = checked {
            return refuse(code, why);
        }
        let path = canonical.get(..path_len).unwrap_or(&canonical);
        let upper = path.contains("%2f").then(|| path.replace("%2f", ENCODED_SLASH).into());
        let encoded_slash = upper.is_some() || path.contains(ENCODED_SLASH);
        Ok(Target { text: canonical, path_len, upper, encoded_slash })
    }

    /// In the one spelling that is matched and recorded.
    pub fn path(&self) -> &str {
        let sent = self.text.get(..self.path_len).unwrap_or(&self.text);
        self.upper.as_deref().unwrap_or(sent)
    }

    /// Does a segment of the path hold a slash?
    pub fn has_encoded_slash(&self) -> bool {
        self.encoded_slash
    }

    /// The path as a server reads it that decodes before it splits; `None` where all servers split alike.
    pub(crate) fn decoded_slashes(&self) -> Option<String> {
        self.encoded_slash.then(|| self.path().replace(ENCODED_SLASH, "/"))
    }

    pub fn query(&self) -> Option<&str> {
        self.text.get(self.path_len..)?.strip_prefix('?')
    }

    /// What is sent upstream.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const ENCODED_SLASH: &str = "%2F";

type Refusal = (&'static str, &'static str);

/// Writes `part` in its canonical spelling to `out`.
fn spell(text: &str, part: Part, out: &mut String) -> Result<(), Refusal> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = (bytes.next(), bytes.next());
            let (Some(high), Some(low)) = (digits.0.and_then(hex), digits.1.and_then(hex)) else {
                return Err(("target_escape", "has a `%` that is not followed by two hex digits"));
            };
            let value = high << 4 | low;
            check_escape(value, part)?;
            decoded.push(value);
            if unreserved(value) {
                out.push(char::from(value));
            } else if (value, part, digits.1) == (b'/', Part::Path, Some(b'f')) {
                out.push_str("%2f");
            } else {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(HEX[usize::from(high)]));
                out.push(char::from(HEX[usize::from(low)]));
            }
        } else {
            check_plain(byte, part)?;
            decoded.push(byte);
            out.push(char::from(byte));
        }
    }
    let Ok(decoded) = std::str::from_utf8(&decoded) else {
        return Err(("target_utf8", "does not decode to UTF-8"));
    };
    if decoded.chars().any(|c| c.is_control() && !(part == Part::Query && c.is_ascii_whitespace())) {
        return Err(("target_control", "has an encoded control character"));
    }
    if part == Part::Path && decoded.chars().any(folds_to_delimiter) {
        return Err(("target_lookalike", "has a character that some servers read as `.`, `/` or `\\`"));
    }
    Ok(())
}

fn check_plain(byte: u8, part: Part) -> Result<(), Refusal> {
    match byte {
        _ if unreserved(byte) => Ok(()),
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' | b'/' => Ok(()),
        // RFC 3986 wants most of these encoded, but clients send them and no server cuts a query there.
        b'?' | b'[' | b']' | b'{' | b'}' | b'|' | b'^' | b'`' if part == Part::Query => Ok(()),
        b';' => Err(("target_parameter", "has a `;`, which servers read in different ways")),
        b'\\' => Err(("target_backslash", "has a backslash, which some servers read as `/`")),
        0x80.. => Err(("target_not_ascii", "has characters outside ASCII that are not percent-encoded")),
        ..=b' ' | 0x7f => Err(("target_control", "has a space or control character")),
        _ => Err(("target_character", "has a character that must be percent-encoded")),
    }
}

fn check_escape(value: u8, part: Part) -> Result<(), Refusal> {
    match (value, part) {
        (0, _) => Err(("target_control", "has an encoded NUL")),
        (b'\\', Part::Path) => Err(("target_backslash", "has an encoded backslash")),
        (b';', Part::Path) => Err(("target_parameter", "has an encoded `;`")),
        // Rewriting servers decode first and split at `?` after (CVE-2024-38474).
        (b'?', Part::Path) => Err(("target_encoded_question", "has an encoded `?` in its path")),
        _ => Ok(()),
    }
}

/// Rules that need the canonical path: decoding `%2e` or `%25%32%65` makes things appear. A piece before or after an
/// encoded slash is held to what a segment is held to, as some servers make it one.
fn check_path(path: &str) -> Result<(), Refusal> {
    let segments = || path.split('/').skip(1);
    let pieces = || segments().flat_map(|segment| segment.split("%2F").flat_map(|piece| piece.split("%2f")));
    if pieces().any(|piece| piece == "." || piece == "..") {
        return Err(("target_dot_segment", "has a `.` or `..` segment"));
    }
    let count = segments().count();
    if segments().take(count.saturating_sub(1)).any(str::is_empty) {
        return Err(("target_empty_segment", "has two slashes in a row"));
    }
    // The only piece that may be empty is all of a last segment.
    if pieces().filter(|piece| piece.is_empty()).count() > usize::from(path.ends_with('/')) {
        return Err(("target_encoded_slash", "has an encoded slash that is not between two names"));
    }
    if pieces().any(|piece| piece.ends_with('.') || piece.ends_with("%20")) {
        return Err(("target_trailing", "has a segment that ends in a dot or a space"));
    }
    let double = path.match_indices("%25").any(|(at, _)| {
        let mut after = path.bytes().skip(at + 3);
        after.next().and_then(hex).is_some() && after.next().and_then(hex).is_some()
    });
    if double {
        return Err(("target_double_encoding", "is percent-encoded twice"));
    }
    Ok(())
}

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn hex(byte: u8) -> Option<u8> {
    // A hex digit is below 16.
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Compatibility folding (NFKC, Windows best fit) turns these into the delimiters refused above.
fn folds_to_delimiter(c: char) -> bool {
    matches!(
        c,
        '\u{2024}'
            | '\u{2025}'
            | '\u{2044}'
            | '\u{2215}'
            | '\u{29f8}'
            | '\u{fe52}'
            | '\u{fe68}'
            | '\u{ff0e}'
            | '\u{ff0f}'
            | '\u{ff3c}'
            | '\u{ff1b}'
    )
}

/// The segments of a canonical path, still encoded: `/` has one, the empty one.
pub(crate) fn segments(path: &str) -> impl Iterator<Item = &str> + Clone {
    path.split('/').skip(1)
}

/// Does an encoded segment stand for this text? Without building it.
pub(crate) fn decoded_segment_eq(segment: &str, literal: &str) -> bool {
    decode(segment).eq(literal.bytes())
}

/// How what an encoded segment stands for compares with this text.
pub(crate) fn cmp_decoded_segment(segment: &str, literal: &str) -> Ordering {
    if segment.contains('%') { decode(segment).cmp(literal.bytes()) } else { segment.cmp(literal) }
}

/// What an encoded segment stands for.
pub(crate) fn decoded_segment(segment: &str) -> String {
    String::from_utf8_lossy(&decode(segment).collect::<Vec<u8>>()).into_owned()
}

/// The text a literal segment of a path template stands for, where it is spelt canonically.
pub(crate) fn path_literal(segment: &str) -> Result<String, RequestError> {
    let target = Target::parse(&format!("/{segment}"))?;
    let canonical = target.path().trim_start_matches('/');
    if canonical != segment {
        return Err(RequestError::new(
            "target_spelling",
            format!("`{segment}` must be written `{canonical}`"),
        ));
    }
    Ok(decoded_segment(segment))
}

/// Callers pass canonical text, where each `%` is followed by two hex digits.
fn decode(segment: &str) -> impl Iterator<Item = u8> {
    let mut bytes = segment.bytes();
    std::iter::from_fn(move || match bytes.next()? {
        b'%' => Some(hex(bytes.next()?)? << 4 | hex(bytes.next()?)?),
        plain => Some(plain),
    })
}
