//! `agents` and `agent`: what runs now, and the kill switch.

use std::process::ExitCode;

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::{Context, Ended, Output};
use crate::control::client::escape;
use crate::text::shown;

#[derive(Debug, Subcommand)]
pub(super) enum AgentCommand {
    /// Cut off an agent: its connections end at once and it gets no new ones, until it is enabled
    Disable {
        name: String,
        /// Stop its processes where they are, too
        #[arg(long)]
        freeze: bool,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let a disabled agent go on
    Enable { name: String },
}

pub(super) fn agent(command: &AgentCommand, context: &Context, out: &mut Output) -> Ended {
    let client = context.client()?;
    let (name, verb, body) = match command {
        AgentCommand::Disable { name, freeze, reason } => {
            (name, "disable", json!({ "freeze": freeze, "reason": reason }).to_string())
        }
        AgentCommand::Enable { name } => (name, "enable", String::new()),
    };
    let path = format!("/v1/agents/{}/{verb}", escape(name));
    let switched: Value = client.json(Method::POST, &path, body.into_bytes())?;
    if context.json {
        out.json(&switched, true)?;
        return Ok(ExitCode::SUCCESS);
    }
    let name = shown(name);
    let already = if switched["already"] == true { " already" } else { "" };
    match command {
        AgentCommand::Disable { .. } => {
            let frozen = if switched["frozen"] == true { " and frozen" } else { "" };
            out.line(format!("{name} is{already} disabled{frozen}, {} cut", switched["cut"]))?;
            out.line(format!("`enforcer agent enable {name}` switches it on again"))?;
        }
        AgentCommand::Enable { .. } => out.line(format!("{name} is{already} on"))?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn agents(context: &Context, out: &mut Output) -> Ended {
    let sessions: Vec<Value> = context.client()?.get("/v1/agents")?;
    if context.json {
        out.json(&sessions, true)?;
    } else if sessions.is_empty() {
        out.line("no agent is running; start one with `enforcer run AGENT -- COMMAND`")?;
    } else {
        let rows: Vec<Vec<String>> = sessions
            .iter()
            .map(|s| {
                let text = |key: &str| s[key].as_str().unwrap_or("-").to_owned();
                let number = |key: &str| s[key].as_u64().map_or_else(|| "-".to_owned(), |n| n.to_string());
                vec![text("agent"), text("session"), number("uid"), number("cgroup"), text("state")]
            })
            .collect();
        out.table(&["AGENT", "SESSION", "UID", "CGROUP", "STATE"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}
