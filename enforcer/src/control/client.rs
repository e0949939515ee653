//! The other end of the control socket, for programs that block.
//!
//! One connection per command. Errors say what to do: start the daemon, use `sudo`, or what the
//! daemon itself answered.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::error::ErrorBody;

/// A long list of receipts is a few megabytes; more is asked for page by page.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Reading all receipts again (`verify`) takes seconds, not minutes.
const PATIENCE: Duration = Duration::from_secs(300);
/// A line of the stream is one receipt; paths are cut at 8 KiB there.
const MAX_LINE: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the daemon is not running (no answer at {})", socket.display())]
    NotRunning {
        socket: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("you may not use {}", socket.display())]
    NotPermitted {
        socket: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("{}", .body.error)]
    Answered { status: StatusCode, body: ErrorBody },
    #[error("the conversation with the daemon broke off: {0}")]
    Broken(String),
}

impl ClientError {
    pub fn hint(&self) -> Option<String> {
        match self {
            ClientError::NotRunning { .. } => Some(
                "start it with `systemctl start enforcer`, or in the foreground with `sudo enforcer daemon`"
                    .to_owned(),
            ),
            ClientError::NotPermitted { .. } => {
                Some("use `sudo`, or ask to be added to the group `enforcer`".to_owned())
            }
            ClientError::Answered { body, .. } => body.hint.clone(),
            ClientError::Broken(_) => Some("`journalctl -u enforcer` may say why".to_owned()),
        }
    }

    /// The exit code of a command that fails with this.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::NotRunning { .. } => 5,
            ClientError::NotPermitted { .. } => 4,
            ClientError::Answered { status, .. } => match *status {
                StatusCode::FORBIDDEN => 4,
                StatusCode::UNPROCESSABLE_ENTITY => 3,
                _ => 1,
            },
            ClientError::Broken(_) => 1,
        }
    }
}

/// Speaks to one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: PathBuf) -> Self {
        Client { socket }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Is anybody there, and may we speak to them? Asked before people are made to type something.
    pub fn reach(&self) -> Result<(), ClientError> {
        std::os::unix::net::UnixStream::connect(&self.socket)
            .map(drop)
            .map_err(|error| self.unreachable(error))
    }

    /// The answer to a GET, read as `T`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(Method::GET, path, Vec::new())
    }

    /// The answer to any command, read as `T`.
    pub fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, ClientError> {
        let bytes = self.bytes(method, path, body)?;
        serde_json::from_slice(&bytes)
            .map_err(|e| ClientError::Broken(format!("its answer cannot be read: {e}")))
    }

    /// The answer to any command, as it came.
    pub fn bytes(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Vec<u8>, ClientError> {
        let mut whole = Vec::new();
        self.chunks(method, path, body, Some(PATIENCE), |chunk| {
            whole.extend_from_slice(chunk);
            if whole.len() > MAX_ANSWER {
                return Err(ClientError::Broken("its answer is too long; ask for less".to_owned()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(whole)
    }

    /// A stream of lines, until it ends or `each` breaks.
    pub fn lines(
        &self,
        path: &str,
        mut each: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let mut pending = Vec::new();
        self.chunks(Method::GET, path, Vec::new(), None, |chunk| {
            pending.extend_from_slice(chunk);
            while let Some(end) = pending.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                if each(line.trim_end_matches('\n')).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if pending.len() > MAX_LINE {
                return Err(ClientError::Broken("a line has no end".to_owned()));
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn chunks(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        patience: Option<Duration>,
        each: impl FnMut(&[u8]) -> Result<ControlFlow<()>, ClientError>,
    ) -> Result<(), ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| ClientError::Broken(e.to_string()))?;
        let conversation = self.converse(method, path, body, each);
        match patience {
            None => runtime.block_on(conversation),
            Some(patience) => runtime
                .block_on(async { tokio::time::timeout(patience, conversation).await })
                .map_err(|e| ClientError::Broken(format!("no answer in time ({e})")))?,
        }
    }

    async fn converse(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        mut each: impl FnMut(&[u8]) -> Result<ControlFlow<()>, ClientError>,
    ) -> Result<(), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the conversation; what goes wrong shows in the request below.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "enforcer")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| ClientError::Broken(e.to_string()))?;
        let mut response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if !status.is_success() {
            let bytes = response.into_body().collect().await.map_err(broken)?.to_bytes();
            let body = serde_json::from_slice(&bytes).unwrap_or_else(|_: serde_json::Error| ErrorBody {
                error: format!("the daemon answered {status}"),
                hint: None,
            });
            return Err(ClientError::Answered { status, body });
        }
        while let Some(frame) = response.frame().await {
            let frame = frame.map_err(broken)?;
            if let Some(chunk) = frame.data_ref()
                && each(chunk)?.is_break()
            {
                return Ok(());
            }
        }
        Ok(())
    }

    fn unreachable(&self, error: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::NotPermitted { socket, error },
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { socket, error }
            }
            _ => ClientError::Broken(format!("{}: {error}", socket.display())),
        }
    }
}

/// A value for a path segment or a query: everything but unreserved characters escaped.
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn broken(error: hyper::Error) -> ClientError {
    use std::error::Error;
    match error.source() {
        Some(cause) => ClientError::Broken(format!("{error}: {cause}")),
        None => ClientError::Broken(error.to_string()),
    }
}
