use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::head::Fault;
use super::{STAND_IN, Strict};

/// Gives its parts one by one, then the end.
struct Parts<'a>(Vec<&'a [u8]>);

impl AsyncRead for Parts<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let Some(part) = self.0.first_mut() else { return Poll::Ready(Ok(())) };
        let n = part.len().min(buf.remaining());
        buf.put_slice(&part[..n]);
        *part = &part[n..];
        if part.is_empty() {
            self.0.remove(0);
        }
        Poll::Ready(Ok(()))
    }
}

#[derive(Debug, PartialEq)]
struct Read {
    bytes: Vec<u8>,
    fault: Option<&'static str>,
    broken: Option<String>,
}

/// Everything that a reader with this buffer gets to read.
fn read(parts: Vec<&[u8]>, buffer: usize) -> Read {
    let (mut strict, mut io, fault) = (Strict::new(), Parts(parts), Cell::new(None::<Fault>));
    let mut all = Read { bytes: Vec::new(), fault: None, broken: None };
    loop {
        let mut space = vec![0; buffer];
        let mut buf = ReadBuf::new(&mut space);
        let mut cx = Context::from_waker(Waker::noop());
        let poll = strict.poll_read(&mut io, &mut cx, &mut buf, &mut false, |why| fault.set(Some(why)));
        all.fault = fault.get().map(|fault| fault.reason);
        match poll {
            Poll::Ready(Ok(())) if buf.filled().is_empty() => return all,
            Poll::Ready(Ok(())) => all.bytes.extend_from_slice(buf.filled()),
            Poll::Ready(Err(error)) => {
                all.broken = Some(error.to_string());
                return all;
            }
            // The parts never wait: this is the silence after a refusal.
            Poll::Pending => return all,
        }
    }
}

/// The same however the bytes are cut.
fn read_cut(text: &[u8]) -> Read {
    let whole = read(vec![text], 8192);
    for at in 1..text.len() {
        let (first, second) = text.split_at(at);
        assert_eq!(read(vec![first, second], 8192), whole, "cut at {at}: {}", text.escape_ascii());
    }
    assert_eq!(read(text.chunks(1).collect(), 3), whole, "byte by byte: {}", text.escape_ascii());
    whole
}

#[test]
fn well_formed_requests_pass_unchanged() {
    for text in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET /?a=b%20c HTTP/1.1\r\nHost:a\r\nX-Empty:\r\nx-tab:\t a \t\r\nx-utf8: gr\u{fc}n\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nabcdGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\nGET /2 HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 6\r\n\r\n\n\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;name=value; other=\"x\"\r\nabc\r\n000\r\nx-trailer: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        let read = read_cut(text.as_bytes());
        assert_eq!(String::from_utf8_lossy(&read.bytes), text);
        assert_eq!((read.fault, read.broken), (None, None), "{text:?}");
    }
}

#[test]
fn a_faulty_head_is_replaced_and_nothing_is_read_after_it() {
    for (head, words) in [
        ("\r\nGET / HTTP/1.1\r\n\r\n", "empty line"),
        ("\nGET / HTTP/1.1\r\n\r\n", "LF alone"),
        ("GET / HTTP/1.1\nhost: a\n\n", "LF alone"),
        ("GET / HTTP/1.1\r\nhost: a\nx: b\r\n\r\n", "LF alone"),
        ("GET / HTTP/1.1\r\nhost: a\r\n\n", "LF alone"),
        ("GET / HTTP/1.1\r\nhost: a\rx: b\r\n\r\n", "control character"),
        ("GET / HTTP/1.1\rhost: a\r\n\r\n", "request line"),
        ("GET  / HTTP/1.1\r\n\r\n", "single spaces"),
        ("GET / HTTP/1.1 \r\n\r\n", "single spaces"),
        (" GET / HTTP/1.1\r\n\r\n", "single spaces"),
        ("GET\t/ HTTP/1.1\r\n\r\n", "request line"),
        ("GET /\r\n\r\n", "request line"),
        ("GET / HTTP/0.9\r\n\r\n", "version"),
        ("GET / HTTP/2.0\r\n\r\n", "version"),
        ("GET / HTTP/1.2\r\n\r\n", "version"),
        ("GET / http/1.1\r\n\r\n", "version"),
        ("G@T / HTTP/1.1\r\n\r\n", "method"),
        ("GET /a#b HTTP/1.1\r\n\r\n", "fragment"),
        ("GET /gr\u{fc}n HTTP/1.1\r\n\r\n", "percent-encoded"),
        ("GET /a\u{0}b HTTP/1.1\r\n\r\n", "percent-encoded"),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", "name of a header"),
        ("GET / HTTP/1.1\r\nho st: a\r\n\r\n", "name of a header"),
        ("GET / HTTP/1.1\r\n: a\r\n\r\n", "name of a header"),
        ("GET / HTTP/1.1\r\nhost\r\n\r\n", "colon"),
        ("GET / HTTP/1.1\r\nx: a\r\n b\r\n\r\n", "folded"),
        ("GET / HTTP/1.1\r\n x: a\r\n\r\n", "folded"),
        ("GET / HTTP/1.1\r\nx: a\u{0}b\r\n\r\n", "control character"),
        ("GET / HTTP/1.1\r\nx: a\u{7f}\r\n\r\n", "control character"),
        ("POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "both Content-Length"),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n", "both Content-Length"),
        ("POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n", "more than one"),
        ("POST / HTTP/1.1\r\ncontent-length: 1, 1\r\n\r\n", "plain number"),
        ("POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n", "plain number"),
        ("POST / HTTP/1.1\r\ncontent-length: 01\r\n\r\n", "plain number"),
        ("POST / HTTP/1.1\r\ncontent-length: 0x1\r\n\r\n", "plain number"),
        ("POST / HTTP/1.1\r\ncontent-length:\r\n\r\n", "plain number"),
        ("POST / HTTP/1.1\r\ncontent-length: 9223372036854775808\r\n\r\n", "plain number"),
        ("POST / HTTP/1.1\r\ncontent-length: 18446744073709551617\r\n\r\n", "plain number"),
        ("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", "belongs to HTTP/1.1"),
        ("POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "only Transfer-Encoding"),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked, chunked\r\n\r\n", "only Transfer-Encoding"),
        (
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "only Transfer-Encoding",
        ),
        ("POST / HTTP/1.1\r\ntransfer-encoding: identity\r\n\r\n", "only Transfer-Encoding"),
        ("POST / HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n", "only Transfer-Encoding"),
        ("POST / HTTP/1.1\r\ntransfer-encoding:\u{b}chunked\r\n\r\n", "control character"),
    ] {
        let text = format!("GET /first HTTP/1.1\r\n\r\n{head}GET /never HTTP/1.1\r\n\r\n");
        let read = read_cut(text.as_bytes());
        let fault = read.fault.unwrap_or_else(|| panic!("passed: {head:?}"));
        assert!(fault.contains(words), "{head:?}: {fault}");
        let expected = [&b"GET /first HTTP/1.1\r\n\r\n"[..], STAND_IN].concat();
        assert_eq!(String::from_utf8_lossy(&read.bytes), String::from_utf8_lossy(&expected), "{head:?}");
    }
}

#[test]
fn heads_have_a_size() {
    let at_most = 32 * 1024;
    for (length, fits) in [(at_most, true), (at_most + 1, false)] {
        let start = "GET / HTTP/1.1\r\nx: ";
        let text = format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4));
        assert_eq!(read(vec![text.as_bytes()], 8192).fault.is_none(), fits, "{length}");
    }
    // One that does not end is not waited for.
    let endless = "x".repeat(at_most + 5000);
    assert!(read(vec![endless.as_bytes()], 8192).fault.unwrap().contains("32 KiB"));
    let fields = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(n));
    assert_eq!(read(vec![fields(100).as_bytes()], 8192).fault, None);
    assert!(read(vec![fields(101).as_bytes()], 8192).fault.unwrap().contains("100"));
}

#[test]
fn a_badly_framed_body_breaks_off_where_it_goes_wrong() {
    let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    for (body, good, words) in [
        ("3\nabc\r\n0\r\n\r\n", "", "LF alone"),
        ("x\r\n", "", "hexadecimal"),
        ("\r\n", "", "hexadecimal"),
        ("-1\r\n", "", "hexadecimal"),
        ("0x3\r\nabc\r\n", "", "hexadecimal"),
        ("3 \r\nabc\r\n", "", "hexadecimal"),
        (" 3\r\nabc\r\n", "", "hexadecimal"),
        ("3 ;a\r\nabc\r\n", "", "hexadecimal"),
        ("3;a\rb\r\nabc\r\n", "", "hexadecimal"),
        ("fffffffffffffffff\r\n", "", "hexadecimal"),
        ("10000000000000003\r\nabc\r\n", "", "hexadecimal"),
        ("3\r\nabcd\r\n", "3\r\nabc", "longer than it said"),
        ("3\r\nabc\n0\r\n\r\n", "3\r\nabc", "longer than it said"),
        ("3\r\nabc\r0\r\n", "3\r\nabc", "longer than it said"),
        ("0\r\nx y: 1\r\n\r\n", "0\r\n", "name of a header"),
        ("0\r\nx: 1\n\r\n", "0\r\n", "LF alone"),
        ("0\r\n\n", "0\r\n", "LF alone"),
    ] {
        let text = format!("{head}{body}GET /never HTTP/1.1\r\n\r\n");
        let read = read_cut(text.as_bytes());
        let broken = read.broken.unwrap_or_else(|| panic!("passed: {body:?}"));
        assert!(broken.contains(words), "{body:?}: {broken}");
        assert_eq!(String::from_utf8_lossy(&read.bytes), format!("{head}{good}"), "{body:?}");
    }
    let long = format!("{head}3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(300));
    assert!(read(vec![long.as_bytes()], 8192).broken.unwrap().contains("256"));
}

#[test]
fn what_follows_an_upgrade_is_left_alone() {
    let (mut strict, mut io) = (Strict::new(), Parts(vec![b"\x81\x02hi\n\n"]));
    strict.open();
    let mut space = [0; 64];
    let mut buf = ReadBuf::new(&mut space);
    let mut cx = Context::from_waker(Waker::noop());
    let poll = strict.poll_read(&mut io, &mut cx, &mut buf, &mut false, |fault| panic!("{fault:?}"));
    assert!(matches!(poll, Poll::Ready(Ok(()))));
    assert_eq!(buf.filled(), b"\x81\x02hi\n\n");
}
