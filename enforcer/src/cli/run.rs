//! `run AGENT -- COMMAND`: starts a command as an agent and stands in for it.
//!
//! The daemon's keeper does the work; here are arguments in and an exit code out.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use enforcer_capture::forward::Publish;
use enforcer_capture::standin::{self, Request};

use super::{Context, Ended, Failure};

/// What `env`, `docker run` and `systemd-run` end with when they fail themselves.
const OURS: u8 = 125;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Agent, as its policy names it
    agent: String,
    /// Run as this user instead of the agent's own id (weaker: what it writes, that user may run later)
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Let the command believe it is root: id 0 in a user namespace, which stands for the agent's own id
    #[arg(long)]
    root: bool,
    /// Give the agent none of this environment but PATH, TERM, LANG and TZ
    #[arg(long)]
    clean_env: bool,
    /// Make a port of the agent's reachable on this host, at 127.0.0.1 unless an address is given
    #[arg(long, value_name = "[[ADDRESS:]HOST-PORT:]PORT")]
    publish: Vec<Publish>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) fn run(args: RunArgs, context: &Context) -> Ended {
    // The codes of other commands would be taken for the command's own.
    let socket = context.launch_socket().map_err(|failure| failure.ending_with(OURS))?;
    let environment = std::env::vars_os()
        .filter(|(name, _)| !args.clean_env || ["PATH", "TERM", "LANG", "TZ"].iter().any(|kept| name == kept))
        .collect();
    let RunArgs { agent, user, root, publish, command, .. } = args;
    let request = Request { socket, agent, user, root, command, environment, publish };
    match standin::run(request) {
        Ok(exit) => Ok(ExitCode::from(exit.code())),
        Err(error) => {
            let (code, hint) = (error.exit_code(), error.hint());
            let failure = Failure::new(code, error);
            Err(match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            })
        }
    }
}
