//! How far an HTTP/1 request body reaches: a length, or chunks (RFC 9112, 7.1).

use super::head::{self, Fault, Lines, bad};

/// The longest line that announces a chunk; extensions, which we drop, make it longer than a number.
const MAX_CHUNK_LINE: usize = 256;
/// Sixteen hexadecimal digits would still fit into 64 bits; no client sends chunks of a terabyte.
const MAX_DIGITS: usize = 10;

#[derive(Debug)]
pub(super) enum Body {
    /// So many bytes are left, and more than none.
    Sized(u64),
    Chunked(Chunks),
}

#[derive(Debug)]
pub(super) enum Chunks {
    Line,
    /// So many bytes of this chunk are left, and more than none.
    Data(u64),
    /// CR LF behind a chunk.
    End,
    Trailers(Lines),
}

impl Body {
    pub(super) fn sized(length: u64) -> Self {
        Body::Sized(length)
    }

    pub(super) fn chunked() -> Self {
        Body::Chunked(Chunks::Line)
    }

    /// So many bytes may pass unread; 0: the next ones have to be looked at.
    pub(super) fn plain(&self) -> usize {
        match self {
            Body::Sized(left) | Body::Chunked(Chunks::Data(left)) => {
                usize::try_from(*left).unwrap_or(usize::MAX)
            }
            Body::Chunked(Chunks::Line | Chunks::End | Chunks::Trailers(_)) => 0,
        }
    }

    /// `n` plain bytes went by, at most [`Body::plain`]. True: the body is over.
    pub(super) fn passed(&mut self, n: usize) -> bool {
        match self {
            Body::Sized(left) => {
                *left -= n as u64;
                *left == 0
            }
            Body::Chunked(chunks) => {
                if let Chunks::Data(left) = chunks {
                    *left -= n as u64;
                    if *left == 0 {
                        *chunks = Chunks::End;
                    }
                }
                false
            }
        }
    }

    /// Moves `at` behind the bytes that are well framed. True: the body is over there.
    pub(super) fn check(&mut self, bytes: &[u8], at: &mut usize) -> Result<bool, Fault> {
        while *at < bytes.len() {
            let rest = &bytes[*at..];
            let plain = self.plain().min(rest.len());
            if plain > 0 {
                *at += plain;
                if self.passed(plain) {
                    return Ok(true);
                }
                continue;
            }
            let Body::Chunked(chunks) = self else { return Ok(true) };
            match chunks {
                Chunks::Line => {
                    let Some(lf) = memchr::memchr(b'\n', rest) else {
                        return if rest.len() > MAX_CHUNK_LINE { Err(LONG_LINE) } else { Ok(false) };
                    };
                    *chunks = match chunk_size(&rest[..lf])? {
                        0 => Chunks::Trailers(Lines::default()),
                        size => Chunks::Data(size),
                    };
                    *at += lf + 1;
                }
                Chunks::End => match rest {
                    [b'\r', b'\n', ..] => {
                        *chunks = Chunks::Line;
                        *at += 2;
                    }
                    [b'\r'] => return Ok(false),
                    _ => return Err(bad("a chunk is longer than it said")),
                },
                Chunks::Trailers(lines) => {
                    let Some(end) = lines.end(rest)? else { return Ok(false) };
                    for line in head::lines(&rest[..end]) {
                        head::field(line)?;
                    }
                    *at += end;
                    return Ok(true);
                }
                Chunks::Data(_) => {}
            }
        }
        Ok(false)
    }
}

const LONG_LINE: Fault = bad("the line before a chunk is longer than 256 bytes");

/// `SIZE[;extension…]`, the line without its LF.
fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    let wrong = bad("the size of a chunk is not a hexadecimal number");
    if line.len() > MAX_CHUNK_LINE {
        return Err(LONG_LINE);
    }
    let line = line.strip_suffix(b"\r").ok_or(bad("the line before a chunk ends in LF alone"))?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at(digits);
    if digits == 0 || digits > MAX_DIGITS {
        return Err(wrong);
    }
    let extension =
        rest.is_empty() || (rest.starts_with(b";") && rest.iter().all(|b| (b' '..=b'~').contains(b)));
    if !extension {
        return Err(wrong);
    }
    let text = std::str::from_utf8(size).map_err(|_error| wrong)?;
    u64::from_str_radix(text, 16).map_err(|_error| wrong)
}
