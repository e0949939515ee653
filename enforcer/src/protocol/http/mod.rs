//! HTTP/1.1 and HTTP/2, each request judged by itself.
//!
//! [`serve`] and [`http2`] run the connection with its limits and timers, [`hints`] writes what the library for HTTP/1 cannot, [`strict`] reads HTTP/1 before the library
//! does, [`canonical`] makes the one request that is judged, [`headers`] removes what must not travel,
//! [`inspect`] holds a body that has to be looked into, [`exchange`] tells the story of one request,
//! [`upgrade`] opens a WebSocket and [`websocket`] relays its frames.

pub mod answer;
pub mod canonical;
pub mod exchange;
pub mod headers;
mod hints;
mod http2;
pub mod inspect;
pub mod serve;
mod strict;
pub mod upgrade;
pub mod watch;
pub mod websocket;

use crate::proxy::{Begins, Connection, Protocol, Serving, Stream};

/// RFC 9113, 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest method in IANA's registry is 17 letters (UPDATEREDIRECTREF).
const MAX_METHOD: usize = 17;

pub struct Http1;

impl Protocol for Http1 {
    fn name(&self) -> &'static str {
        "http/1"
    }

    /// Letters, then a space. Lower case too: it is answered with a 400 that says what is wrong.
    fn begins(&self, first: &[u8]) -> Begins {
        let letters = first.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'-').count();
        match first.get(letters) {
            _ if first.starts_with(b"PRI ") => Begins::No,
            _ if letters > MAX_METHOD => Begins::No,
            // `SSH-2.0-…` is no method.
            Some(b' ') if letters > 0 => Begins::Yes,
            None => Begins::Unsure,
            Some(_) => Begins::No,
        }
    }

    fn serve(&self, stream: Stream, connection: Connection) -> Serving {
        Box::pin(serve::http1(stream, connection))
    }
}

pub struct Http2;

impl Protocol for Http2 {
    fn name(&self) -> &'static str {
        "http/2"
    }

    fn begins(&self, first: &[u8]) -> Begins {
        if first.starts_with(PREFACE) {
            Begins::Yes
        } else if PREFACE.starts_with(first) {
            Begins::Unsure
        } else {
            Begins::No
        }
    }

    fn serve(&self, stream: Stream, connection: Connection) -> Serving {
        Box::pin(http2::serve(stream, connection))
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::PROTOCOLS;
    use crate::proxy::sniff::{Unknown, table};

    #[test]
    fn first_bytes_decide_and_doubt_is_no() {
        let sure: &[(&[u8], Result<&str, Unknown>)] = &[
            (b"\x16\x03\x01\x00\xa5\x01", Ok("tls")),
            (b"GET / HTTP/1.1\r\n", Ok("http/1")),
            (b"get / HTTP/1.1\r\n", Ok("http/1")),
            (b"M-SEARCH * HTTP/1.1\r\n", Ok("http/1")),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Ok("http/2")),
            (b"PRI * HTTP/1.1\r\n", Err(Unknown::Foreign)),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Err(Unknown::Foreign)),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Err(Unknown::Foreign)),
            (b"*1\r\n$4\r\nPING\r\n", Err(Unknown::Foreign)),
            (b"\x05\x01\x00", Err(Unknown::Foreign)),
            (b" GET / HTTP/1.1", Err(Unknown::Foreign)),
            (b"\r\nGET / HTTP/1.1", Err(Unknown::Foreign)),
            (b"AAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1", Err(Unknown::Foreign)),
        ];
        for (first, expected) in sure {
            let found = table(first, PROTOCOLS).unwrap_or_else(|| panic!("unsure of {first:?}"));
            assert_eq!(&found, expected, "{}", String::from_utf8_lossy(first));
        }
        for unsure in [&b""[..], b"G", b"GET", b"PRI * HTTP/2.0\r\n", b"\x16", b"\x16\x03"] {
            assert_eq!(table(unsure, PROTOCOLS), None, "{unsure:?}");
        }
    }
}
