//! How people reach the daemon: HTTP and JSON on a unix socket.
//!
//! [`Command`] lists everything that can be asked for and who may. `server` checks each connection's
//! peer before it reads a byte; `handlers`, `agents` and `receipts` answer; `client` is the other end, for the
//! command line and the page. Launching agents is not here: that is the keeper's own socket.

mod agents;
pub mod client;
mod command;
mod error;
mod explain;
mod handlers;
mod proofs;
mod receipts;
mod server;
mod switchboard;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Instant;

use enforcer_capture::message::Backstop;

use crate::agent::Agents;
use crate::audit::AuditLog;
use crate::policies::Policies;
use crate::secret::Secrets;
use crate::tls::Distrust;

pub use command::{Command, Who};
pub use error::{ErrorBody, Failure};
pub use explain::{ExplainError, Explained, Question, explain};
pub use proofs::Proofs;
pub use server::serve;
pub use switchboard::{Contained, Containment, Switchboard};

/// What commands work with, and nothing more.
#[derive(Clone)]
pub struct ControlState {
    pub policies: Policies,
    pub agents: Arc<Agents>,
    pub switchboard: Arc<Switchboard>,
    pub secrets: Secrets,
    pub audit: AuditLog,
    /// Our root certificate. Public.
    pub ca_pem: Arc<str>,
    /// How far the worker is locked in, in words.
    pub confinement: Arc<str>,
    /// Do sessions get the nftables line? The keeper knows.
    pub backstop: Backstop,
    /// The last proof of each agent, as it was told.
    pub proofs: Arc<Proofs>,
    /// Clients that do not trust us.
    pub distrust: Arc<Distrust>,
    pub started: Instant,
}
