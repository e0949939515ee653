//! Bytes between two sockets that nobody reads: moved by the kernel, counted and bounded here.
//!
//! Each direction has a pipe; `splice` moves pages from a socket into it and out of it again, so a byte
//! never comes into this process. Dropping the future ends both; whoever cuts drops it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::wire::Wire;
use crate::gate::limit::{Meter, NotTaken};

/// Smaller costs calls; larger, and a few dozen relays have used up what the kernel lets one user have (64 MiB).
const PIPE: usize = 256 * 1024;
/// A database keeps connections open without a word; keep-alive tells those that are dead.
const IDLE: Duration = Duration::from_secs(2 * 3600);
/// Once one side has ended: the other may be one that has gone without a word.
const HALF_CLOSED: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_secs(60);

/// One direction: what passed, and what it takes from.
#[derive(Debug, Default)]
pub struct Flow {
    bytes: AtomicU64,
    /// `None`: from no budget.
    meter: Option<Meter>,
}

impl Flow {
    pub fn metered(meter: Meter) -> Self {
        Flow { bytes: AtomicU64::new(0), meter: Some(meter) }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// To be asked before the bytes are passed on.
    pub fn take(&self, bytes: u64) -> Result<(), RelayError> {
        if let Some(meter) = &self.meter {
            meter.take(bytes)?;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("{0}")]
    Metered(Box<NotTaken>),
    #[error("nothing has passed for two hours, or for ten minutes since one side ended")]
    Idle,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<NotTaken> for RelayError {
    fn from(not: NotTaken) -> Self {
        RelayError::Metered(Box::new(not))
    }
}

/// Until both directions have ended, or one fails.
pub async fn relay(near: &Wire, far: &Wire, up: &Flow, down: &Flow) -> Result<(), RelayError> {
    let (near, far) = (near.stream(), far.stream());
    let moved = || up.bytes() + down.bytes();
    let ended = AtomicBool::new(false);
    let both =
        async { tokio::try_join!(half(near, far, up, &ended), half(far, near, down, &ended)).map(drop) };
    tokio::pin!(both);
    let mut last = (moved(), Instant::now());
    loop {
        match timeout_at(Instant::now() + LOOK, both.as_mut()).await {
            Ok(done) => return done,
            Err(_elapsed) if moved() != last.0 => last = (moved(), Instant::now()),
            Err(_elapsed) => {
                let limit = if ended.load(Ordering::Relaxed) { HALF_CLOSED } else { IDLE };
                if last.1.elapsed() > limit {
                    return Err(RelayError::Idle);
                }
            }
        }
    }
}

async fn half(from: &TcpStream, to: &TcpStream, flow: &Flow, ended: &AtomicBool) -> Result<(), RelayError> {
    pump(from, to, flow).await?;
    ended.store(true, Ordering::Relaxed);
    Ok(())
}

async fn pump(from: &TcpStream, to: &TcpStream, flow: &Flow) -> Result<(), RelayError> {
    let (pipe_out, pipe_in) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(io::Error::from)?;
    // Smaller where the user has many: slower, and as good.
    if let Err(error) = fcntl_setpipe_size(&pipe_in, PIPE) {
        tracing::debug!(%error, "a relay has a small pipe");
    }
    loop {
        let read = from.async_io(Interest::READABLE, || moved(from, &pipe_in, PIPE)).await?;
        if read == 0 {
            // The other direction goes on: half-closed connections are in use.
            return Ok(shut(to)?);
        }
        flow.take(read as u64)?;
        let mut left = read;
        while left > 0 {
            left -= to.async_io(Interest::WRITABLE, || moved(&pipe_out, to, left)).await?;
        }
    }
}

fn moved(from: impl std::os::fd::AsFd, to: impl std::os::fd::AsFd, most: usize) -> io::Result<usize> {
    loop {
        match splice(&from, None, &to, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Err(rustix::io::Errno::INTR) => {}
            moved => return moved.map_err(io::Error::from),
        }
    }
}

fn shut(stream: &TcpStream) -> io::Result<()> {
    match socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write) {
        // The peer was faster.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        done => done,
    }
}
