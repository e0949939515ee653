//! The grammar of an HTTP/1 request head and of trailers (RFC 9112, 2 to 6), without its leniencies.
//!
//! Left out: what the words mean. Method, host and target are `canonical`'s. Pure, and nothing of the rest
//! of the product, so that it can be fuzzed by itself.

use super::body::Body;

/// `strict` counts them in HTTP/1; `canonical` in both.
pub(crate) const MAX_HEADERS: usize = 100;
pub(crate) const MAX_HEAD: usize = 32 * 1024;

/// Why bytes are not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// There is more of it than is read.
    pub(crate) too_large: bool,
    pub(crate) reason: &'static str,
}

pub(super) const fn bad(reason: &'static str) -> Fault {
    Fault { too_large: false, reason }
}

const TOO_LARGE: Fault = Fault { too_large: true, reason: "the head of the request is larger than 32 KiB" };
const TOO_MANY: Fault = Fault { too_large: true, reason: "there are more than 100 header fields" };
const BARE_LF: Fault = bad("a line ends in LF alone; lines of HTTP end in CR LF");

/// Looks for the empty line, each byte once however the bytes come in.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: usize,
    seen: usize,
}

impl Lines {
    /// The length of all lines up to and with the empty one. `bytes` begins where it began last time.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        while let Some(at) = bytes.get(self.seen..).and_then(|new| memchr::memchr(b'\n', new)) {
            let lf = self.seen + at;
            self.seen = lf + 1;
            if lf == self.line || bytes[lf - 1] != b'\r' {
                return Err(BARE_LF);
            }
            if lf - self.line == 1 {
                return if lf + 1 > MAX_HEAD { Err(TOO_LARGE) } else { Ok(Some(lf + 1)) };
            }
            self.line = lf + 1;
        }
        self.seen = bytes.len();
        if bytes.len() > MAX_HEAD { Err(TOO_LARGE) } else { Ok(None) }
    }
}

/// A whole head, its empty line included → the body it announces.
pub(super) fn read(head: &[u8]) -> Result<Option<Body>, Fault> {
    let mut lines = lines(head);
    let first = lines.next().ok_or(bad("there is an empty line where a request should begin"))?;
    let http11 = request_line(first)?;
    let (mut length, mut chunked, mut count) = (None, false, 0);
    for line in lines {
        count += 1;
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if length.is_some() {
                return Err(bad("there is more than one Content-Length"));
            }
            let number = content_length(value).ok_or(bad("the Content-Length is not a plain number"))?;
            length = Some(number);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(bad("the only Transfer-Encoding accepted is `chunked`, once"));
            }
            chunked = true;
        }
    }
    if count > MAX_HEADERS {
        return Err(TOO_MANY);
    }
    match (length, chunked) {
        (Some(_), true) => Err(bad("there are both Content-Length and Transfer-Encoding")),
        (None, true) if !http11 => Err(bad("Transfer-Encoding belongs to HTTP/1.1")),
        (None, true) => Ok(Some(Body::chunked())),
        (None | Some(0), false) => Ok(None),
        (Some(length), false) => Ok(Some(Body::sized(length))),
    }
}

/// The lines of a section that ends with its empty line, without their ends.
pub(super) fn lines(section: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = section.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    // `lines` above has seen the empty line and nothing behind it.
    lines.take_while(|line| !line.is_empty())
}

/// `METHOD TARGET HTTP/1.x` with single spaces (RFC 9112, 3). Says whether it is 1.1.
fn request_line(line: &[u8]) -> Result<bool, Fault> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = match (words.next(), words.next(), words.next(), words.next()) {
        (Some(method), Some(target), Some(version), None) => (method, target, version),
        _ => return Err(bad("the request line is not `METHOD TARGET HTTP/1.1` with single spaces")),
    };
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err(bad("the method is not a word"));
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(bad("the request target has bytes that must be percent-encoded"));
    }
    if target.contains(&b'#') {
        return Err(bad("the request target has a fragment, which is never sent to a server"));
    }
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        _ => Err(bad("the version is neither HTTP/1.1 nor HTTP/1.0")),
    }
}

/// `name: value` (RFC 9112, 5), the value without white space around it.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(bad("a header field is folded over two lines"));
    }
    let colon = memchr::memchr(b':', line).ok_or(bad("a header line has no colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(bad("the name of a header field has a space or another byte that no name has"));
    }
    if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
        return Err(bad("the value of a header field has a control character"));
    }
    Ok((name, value.trim_ascii()))
}

/// A length in the one spelling that every reader reads alike.
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    let number = std::str::from_utf8(value).ok().and_then(plain_number)?;
    // Beyond any body; sums of it with other lengths must not overflow in the next reader.
    (number <= i64::MAX as u64 / 2).then_some(number)
}

/// Digits without sign, space or leading zero.
pub(crate) fn plain_number(text: &str) -> Option<u64> {
    let plain = text == "0" || (text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
