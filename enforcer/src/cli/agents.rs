//! `agents`: the sessions that run now.

use std::process::ExitCode;

use serde_json::Value;

use super::{Context, Ended, Output};

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
                let text = |key: &str| s[key].as_str().unwrap_or_default().to_owned();
                vec![text("agent"), text("session"), s["uid"].to_string(), s["cgroup"].to_string()]
            })
            .collect();
        out.table(&["AGENT", "SESSION", "UID", "CGROUP"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}
