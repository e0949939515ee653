//! What a connection or a stream is going to be when its two ends agree to speak something else on it.

use std::io;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use super::http2::Duplex;
use super::stream::Io;

pub enum Opening {
    /// Once the answer 101 has been written or read.
    Http1(OnUpgrade),
    /// Once the answer to an extended CONNECT has been written (RFC 8441).
    Http2(oneshot::Receiver<Duplex>),
    Open(Duplex),
}

impl Opening {
    pub async fn opened(self) -> io::Result<Box<dyn Io>> {
        match self {
            Opening::Http1(upgrade) => match upgrade.await {
                Ok(upgraded) => Ok(Box::new(TokioIo::new(upgraded))),
                Err(error) => Err(io::Error::other(error)),
            },
            Opening::Http2(stream) => match stream.await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(_dropped) => Err(io::Error::new(io::ErrorKind::ConnectionReset, "its stream has ended")),
            },
            Opening::Open(stream) => Ok(Box::new(stream)),
        }
    }
}
