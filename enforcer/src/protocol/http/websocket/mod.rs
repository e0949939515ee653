//! WebSocket messages between an agent and a server, once their handshake has been checked (`upgrade`).
//!
//! [`frame`] reads frames, [`half`] looks at one direction and says how far it may go, [`mod@pump`] moves it.
//! Frames go on byte for byte, as they come; no message is held whole. What is not a frame of the RFC, is
//! larger than the policy allows, holds a placeholder, or is a credential on its way back ends the
//! connection. Both sides then get a Close with a code; the agent also reads why.
//!
//! Not here: what messages say. Rates count the handshake, budgets every byte.

pub mod frame;
mod half;
mod pump;

use std::io;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use self::frame::{Sender, code, write_close};
use self::half::{Half, Objection};
use self::pump::{Ending, pump};
use crate::credential::BodyGuard;
use crate::gate::Code;
use crate::gate::limit::{Meter, NotTaken};
use crate::proxy::body::told;
use crate::redact::{Found, Watch};

/// For a Close of ours, and for a peer to take it in before its socket is closed.
const FAREWELL: Duration = Duration::from_secs(2);

/// What one direction is held to.
pub struct Limits {
    pub meter: Meter,
    /// Bytes of one message.
    pub max_message: Option<u64>,
}

/// Both directions of one WebSocket.
pub struct Relay {
    up: Direction,
    down: Direction,
}

struct Direction {
    half: Half,
    meter: Meter,
    bytes: u64,
}

/// Why a relay ended before its peers ended it.
#[derive(Debug)]
pub struct Stopped {
    /// Whose doing it was.
    by: Sender,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Objection(Objection),
    Metered(NotTaken),
    /// It sent half a frame and nothing more.
    StoodStill,
    Broken(io::Error),
}

impl Relay {
    /// Guards and watches are pairs: for messages and for control frames, which may come between.
    pub fn new(up: Limits, guards: [BodyGuard; 2], down: Limits, watches: Option<[Watch; 2]>) -> Self {
        let half = Half::of_agent(guards, up.max_message);
        let up = Direction { half, meter: up.meter, bytes: 0 };
        let half = Half::of_server(watches, down.max_message);
        let down = Direction { half, meter: down.meter, bytes: 0 };
        Relay { up, down }
    }

    /// Until both have ended, or one did what it may not. To be called once; may be dropped at any time.
    pub async fn run(
        &mut self,
        agent: &mut (impl AsyncRead + AsyncWrite + Unpin),
        server: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> Result<(), Stopped> {
        let (agent_in, agent_out) = tokio::io::split(agent);
        let (server_in, server_out) = tokio::io::split(server);
        let ending = Ending::default();
        let both = async {
            tokio::try_join!(
                pump(Sender::Agent, agent_in, server_out, &mut self.up, &ending),
                pump(Sender::Server, server_in, agent_out, &mut self.down, &ending),
            )
        };
        tokio::select! {
            ended = both => ended.map(|_| ()),
            () = ending.overdue() => Ok(()),
        }
    }

    /// Bytes taken in from the agent and from the server.
    pub fn bytes(&self) -> (u64, u64) {
        (self.up.bytes, self.down.bytes)
    }

    /// Tells both sides that this is the end, where a frame of ours can be told from theirs, and closes.
    pub async fn close(
        &self,
        mut agent: impl AsyncRead + AsyncWrite + Unpin,
        mut server: impl AsyncRead + AsyncWrite + Unpin,
        code: u16,
        reason: &str,
    ) {
        let to_agent = self.down.close(code, reason, None);
        // What a policy says is no business of servers.
        let mut key = [0; 4];
        let to_server = match SystemRandom::new().fill(&mut key) {
            Ok(()) => self.up.close(code, "", Some(key)),
            Err(_unspecified) => Vec::new(),
        };
        let closing =
            async { tokio::join!(farewell(&mut agent, &to_agent), farewell(&mut server, &to_server)) };
        if timeout(FAREWELL, closing).await.is_err() {
            tracing::debug!("the peers of a websocket did not close it");
        }
    }
}

impl Direction {
    fn close(&self, code: u16, reason: &str, key: Option<[u8; 4]>) -> Vec<u8> {
        if self.half.between_frames() && !self.half.closed() {
            write_close(code, reason, key)
        } else {
            Vec::new()
        }
    }
}

/// A socket closed over unread bytes is reset, and the Close might go with it: they are read first.
async fn farewell(peer: &mut (impl AsyncRead + AsyncWrite + Unpin), close: &[u8]) {
    let said = async {
        peer.write_all(close).await?;
        peer.flush().await?;
        peer.shutdown().await?;
        let mut rest = vec![0; 16 * 1024];
        while peer.read(&mut rest).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    if let Err(error) = said.await {
        tracing::debug!(%error, "a websocket ended before its Close was taken in");
    }
}

impl Stopped {
    /// The word of `audit::Outcome`.
    pub fn end(&self) -> &'static str {
        match (&self.why, self.by) {
            (Why::Metered(not), _) => not.code().end(),
            (Why::Broken(_), Sender::Agent) => "cancelled",
            (_, Sender::Agent) => Code::BadRequest.end(),
            (_, Sender::Server) => Code::UpstreamFailed.end(),
        }
    }

    /// The close code that says it.
    pub fn code(&self) -> u16 {
        match &self.why {
            Why::Objection(Objection::Fault(fault)) => fault.code,
            Why::Objection(Objection::Misplaced(_) | Objection::Found) => code::POLICY,
            Why::Metered(not) if not.wait().is_some() => code::TRY_LATER,
            Why::Metered(_) => code::POLICY,
            Why::StoodStill => code::POLICY,
            Why::Broken(_) => code::GOING_AWAY,
        }
    }
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = match self.by {
            Sender::Agent => "the agent",
            Sender::Server => "the server",
        };
        match &self.why {
            Why::Objection(Objection::Fault(fault)) => write!(f, "{by}: {}", fault.reason),
            Why::Objection(Objection::Misplaced(error)) => f.write_str(&told(error)),
            Why::Objection(Objection::Found) => write!(f, "{Found}"),
            Why::Metered(not) => write!(f, "{not}"),
            Why::StoodStill => write!(f, "{by} began a frame and sent nothing more of it for 30 s"),
            Why::Broken(error) => write!(f, "the connection of {by} broke: {error}"),
        }
    }
}
