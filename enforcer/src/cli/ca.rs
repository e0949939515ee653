//! `ca export`: our root certificate, for programs that bring their own trust store.

use std::process::ExitCode;

use clap::Subcommand;

use super::{Context, Ended, Output};

#[derive(Debug, Subcommand)]
pub(super) enum CaCommand {
    /// Print the root certificate as PEM. Agents have it already; do not add it to the host's store
    Export,
}

pub(super) fn ca(command: &CaCommand, context: &Context, out: &mut Output) -> Ended {
    match command {
        CaCommand::Export => {
            let pem = context.client()?.bytes(http::Method::GET, "/v1/ca", Vec::new())?;
            if context.json {
                out.json(&serde_json::json!({ "pem": String::from_utf8_lossy(&pem) }), true)?;
            } else {
                out.raw(&pem)?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
