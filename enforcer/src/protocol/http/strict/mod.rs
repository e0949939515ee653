//! Reads HTTP/1 requests strictly, in front of the HTTP library, which is lenient in places where two
//! readers may come to two answers: bare LF, Content-Length beside Transfer-Encoding, fragments.
//!
//! Bytes pass unchanged, but a head only when it is whole and has one reading ([`head`]), and a body only
//! as far as its framing holds ([`body`]). A faulty head is replaced by a stand-in that `exchange`
//! refuses with the fault; nothing is read after it.

pub(super) mod body;
pub(super) mod head;

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use self::body::Body;
use self::head::{Fault, Lines};
use crate::gate::Code;

/// What hyper reads in place of a faulty head. An agent that sends it itself is refused: no such method.
const STAND_IN: &[u8] = b"REFUSED / HTTP/1.1\r\nhost: refused\r\n\r\n";
/// What is read behind a faulty head, so that the agent gets to read the refusal: a socket closed over
/// unread bytes is reset.
const DRAIN: usize = 64 * 1024;
/// As much as is read beyond what is being waited for. Most heads fit.
const READ_AHEAD: usize = 4 * 1024;

/// Is this the stand-in's method?
pub(super) fn is_stand_in(method: &http::Method) -> bool {
    method.as_str() == "REFUSED"
}

impl Fault {
    pub(super) fn code(self) -> Code {
        if self.too_large { Code::HeadersTooLarge } else { Code::BadRequest }
    }
}

/// The reading half of one connection.
pub(super) struct Strict {
    at: At,
    /// Read, and not yet given on.
    inbox: BytesMut,
    /// So much of `inbox` has been checked.
    ready: usize,
}

enum At {
    Head(Lines),
    Body(Body),
    /// Frames of another protocol.
    Opaque,
    /// The stand-in has been put in place of a head. What comes now is only counted.
    Refused {
        drained: usize,
    },
    Broken(Fault),
}

impl Strict {
    pub(super) fn new() -> Self {
        Strict { at: At::Head(Lines::default()), inbox: BytesMut::new(), ready: 0 }
    }

    /// The connection is another protocol's from here on.
    pub(super) fn open(&mut self) {
        if matches!(self.at, At::Head(_)) {
            self.at = At::Opaque;
            self.ready = self.inbox.len();
        }
    }

    /// The agent is in the middle of a request, or said what is not read.
    pub(super) fn owes(&self) -> bool {
        match &self.at {
            At::Body(_) | At::Refused { .. } | At::Broken(_) => true,
            At::Head(_) => !self.inbox.is_empty(),
            // Its own protocol ends it.
            At::Opaque => false,
        }
    }

    /// Reads into `buf` what has been checked. `arrived`: were there new bytes, complete or not?
    /// `refuse` is told of a faulty head before its stand-in is read.
    pub(super) fn poll_read(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        arrived: &mut bool,
        refuse: impl Fn(Fault),
    ) -> Poll<io::Result<()>> {
        loop {
            if self.ready > 0 {
                let n = self.ready.min(buf.remaining());
                buf.put_slice(&self.inbox[..n]);
                self.inbox.advance(n);
                self.ready -= n;
                return Poll::Ready(Ok(()));
            }
            let direct = match &mut self.at {
                At::Refused { drained } => return drain(io, cx, &mut self.inbox, drained),
                At::Broken(fault) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault.reason)));
                }
                At::Opaque => usize::MAX,
                At::Body(body) if self.inbox.is_empty() => body.plain(),
                At::Body(_) | At::Head(_) => 0,
            };
            // The inside of a body is nobody's business here.
            if direct > 0 {
                let (poll, n) = read_at_most(io, cx, buf, direct);
                *arrived |= n > 0;
                if let At::Body(body) = &mut self.at
                    && body.passed(n)
                {
                    self.at = At::Head(Lines::default());
                }
                return poll;
            }
            self.inbox.reserve(READ_AHEAD);
            match pin!(io.read_buf(&mut self.inbox)).poll(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => *arrived = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if self.inbox.is_empty() {
                        // An idle connection holds no buffer.
                        self.inbox = BytesMut::new();
                    }
                    return Poll::Pending;
                }
            }
            self.check(&refuse);
        }
    }

    /// Checks what is in the inbox, as far as it goes.
    fn check(&mut self, refuse: &impl Fn(Fault)) {
        loop {
            match &mut self.at {
                At::Head(lines) => match next_head(lines, &self.inbox[self.ready..]) {
                    Ok(Some((end, body))) => {
                        self.ready += end;
                        self.at = match body {
                            Some(body) => At::Body(body),
                            None => At::Head(Lines::default()),
                        };
                    }
                    Ok(None) => return,
                    Err(fault) => {
                        refuse(fault);
                        self.inbox.truncate(self.ready);
                        self.inbox.extend_from_slice(STAND_IN);
                        self.ready = self.inbox.len();
                        self.at = At::Refused { drained: 0 };
                        return;
                    }
                },
                At::Body(body) => match body.check(&self.inbox, &mut self.ready) {
                    Ok(true) => self.at = At::Head(Lines::default()),
                    Ok(false) => return,
                    Err(fault) => {
                        self.inbox.truncate(self.ready);
                        self.at = At::Broken(fault);
                        return;
                    }
                },
                At::Opaque | At::Refused { .. } | At::Broken(_) => return,
            }
            if self.ready == self.inbox.len() {
                return;
            }
        }
    }
}

/// Throws away what comes in. Never ready before the refusal is sent: an end would be taken for the
/// agent's leaving.
fn drain(
    io: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    inbox: &mut BytesMut,
    drained: &mut usize,
) -> Poll<io::Result<()>> {
    while *drained < DRAIN {
        inbox.clear();
        inbox.reserve(READ_AHEAD);
        match pin!(io.read_buf(inbox)).poll(cx) {
            Poll::Ready(Ok(0)) => *drained = DRAIN,
            Poll::Ready(Ok(n)) => *drained += n,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => break,
        }
    }
    inbox.clear();
    Poll::Pending
}

/// Reads, and says how much.
fn read_at_most(
    io: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
    limit: usize,
) -> (Poll<io::Result<()>>, usize) {
    let before = buf.filled().len();
    if limit >= buf.remaining() {
        let poll = Pin::new(io).poll_read(cx, buf);
        return (poll, buf.filled().len() - before);
    }
    let mut part = ReadBuf::new(buf.initialize_unfilled_to(limit));
    let poll = Pin::new(io).poll_read(cx, &mut part);
    let n = part.filled().len();
    buf.advance(n);
    (poll, n)
}

/// The length of the head that `bytes` begin with, and the body it announces, once it is whole.
fn next_head(lines: &mut Lines, bytes: &[u8]) -> Result<Option<(usize, Option<Body>)>, Fault> {
    match lines.end(bytes)? {
        Some(end) => Ok(Some((end, head::read(&bytes[..end])?))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
