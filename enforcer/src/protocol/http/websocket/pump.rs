//! One direction's bytes, from socket to socket.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BufMut as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::frame::Sender;
use super::{Direction, Stopped, Why};

const BUFFER: usize = 16 * 1024;
/// A frame split over TCP segments or TLS records arrives whole well within this.
const HOLD: Duration = Duration::from_millis(50);
/// Peers send a frame at once. Half of one holds our memory and the other peer's.
const FRAME: Duration = Duration::from_secs(30);
/// Once one side has said that it ends, the other may finish this long.
const CLOSING: Duration = Duration::from_secs(30);
/// And this long when both have.
const CLOSED: Duration = Duration::from_secs(2);

/// Told by each direction once, when its sender has said that it ends.
#[derive(Default)]
pub(super) struct Ending {
    ended: AtomicUsize,
    changed: Notify,
}

impl Ending {
    fn tell(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Ready when both directions had their time.
    pub(super) async fn overdue(&self) {
        self.changed.notified().await;
        if self.ended.load(Ordering::Relaxed) < 2 {
            tokio::select! {
                () = sleep(CLOSING) => return,
                () = self.changed.notified() => {}
            }
        }
        sleep(CLOSED).await;
    }
}

/// Moves what `from` sends until its end. Whatever was free when it stops has gone out.
pub(super) async fn pump(
    sender: Sender,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: &mut Direction,
    ending: &Ending,
) -> Result<(), Stopped> {
    let receiver = match sender {
        Sender::Agent => Sender::Server,
        Sender::Server => Sender::Agent,
    };
    let stopped = |why| Stopped { by: sender, why };
    let broken = |by| move |error| Stopped { by, why: Why::Broken(error) };
    let mut ends = false;
    let mut ending = || {
        if !std::mem::replace(&mut ends, true) {
            ending.tell();
        }
    };
    loop {
        let half = &mut direction.half;
        let holds = half.holds();
        let patience = if holds { Some(HOLD) } else { half.owes().then_some(FRAME) };
        half.bytes.reserve(BUFFER);
        // Never more at once, however much room there is.
        let mut room = (&mut half.bytes).limit(BUFFER);
        let reading = from.read_buf(&mut room);
        let read = match patience {
            None => reading.await,
            Some(patience) => match timeout(patience, reading).await {
                Ok(read) => read,
                Err(_elapsed) if holds => {
                    half.release();
                    write(&mut to, direction).await.map_err(broken(receiver))?;
                    continue;
                }
                Err(_elapsed) => return Err(stopped(Why::StoodStill)),
            },
        };
        let read = match read {
            // It has said its Close; how it hangs up after that does not matter.
            Err(_hung_up) if direction.half.closed() => 0,
            read => read.map_err(broken(sender))?,
        };
        if read == 0 {
            direction.half.release();
            write(&mut to, direction).await.map_err(broken(receiver))?;
            ending();
            if let Err(error) = to.shutdown().await {
                tracing::debug!(%error, "a websocket was left before it was closed");
            }
            return Ok(());
        }
        direction.meter.take(read as u64).map_err(|not| stopped(Why::Metered(not)))?;
        direction.bytes += read as u64;
        let looked = direction.half.advance();
        write(&mut to, direction).await.map_err(broken(receiver))?;
        looked.map_err(|objection| stopped(Why::Objection(objection)))?;
        if direction.half.closed() {
            ending();
        }
    }
}

/// Sends what is free. What was sent is known also when this is dropped half way.
async fn write(to: &mut (impl AsyncWrite + Unpin), direction: &mut Direction) -> std::io::Result<()> {
    let half = &mut direction.half;
    while half.free() > 0 {
        let wrote = to.write(&half.bytes[..half.free()]).await?;
        if wrote == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        half.went(wrote);
    }
    to.flush().await
}
