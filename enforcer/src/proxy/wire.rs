//! A socket that can be cut: then it is reset, not closed.
//!
//! A close would let the kernel go on sending what still waits in its buffer, which may be megabytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::stream::writes_to;
use crate::gate::lifeline::Lifeline;

pub struct Wire {
    /// Dropped before the lifeline: whoever waits for the lifeline's end finds the socket gone.
    stream: TcpStream,
    cut: CancellationToken,
    _lifeline: Option<Lifeline>,
}

impl Wire {
    /// An agent's connection, with its own lifeline.
    pub fn downstream(stream: TcpStream, lifeline: Lifeline) -> Self {
        Wire { stream, cut: lifeline.token().clone(), _lifeline: Some(lifeline) }
    }

    /// One of several connections that are cut together.
    pub fn upstream(stream: TcpStream, cut: CancellationToken) -> Self {
        Wire { stream, cut, _lifeline: None }
    }
}

impl Wire {
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// When it closes, it closes with a reset.
    pub fn reset(&self) {
        reset(&self.stream);
    }
}

/// Closes with a reset, so that the peer sees a refusal and not an empty answer.
pub(super) fn reset(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a connection closes without a reset");
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.cut.is_cancelled() {
            reset(&self.stream);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

writes_to!(Wire, stream);
