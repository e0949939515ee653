//! `attach` and `detach`: a workload that already runs becomes an agent where it is, and stops being one.
//!
//! The daemon's keeper does the work; here are arguments in, and what holds and what does not out.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use enforcer_capture::attach::{self, Report, Target};
use serde_json::json;

use super::{Context, Ended, Failure, Output};
use crate::text::shown;

#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// Agent, as its policy names it; without, the one whose policy selects what is attached (`select`)
    agent: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
}

/// What to govern: always a whole cgroup.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// A cgroup: its path, or as /proc/PID/cgroup shows it
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// A systemd unit that runs
    #[arg(long, value_name = "NAME")]
    unit: Option<String>,
    /// A container that runs: its id, or its name for docker, podman or nerdctl
    #[arg(long, value_name = "ID")]
    container: Option<String>,
    /// The cgroup that a process is in, with all that is in it
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct DetachArgs {
    /// A session, or an agent: then all that is attached as it
    name: String,
}

impl TargetArgs {
    fn target(self) -> Result<Target, Failure> {
        let TargetArgs { cgroup, unit, container, pid } = self;
        let named = cgroup.map(Target::Cgroup).or(unit.map(Target::Unit));
        named
            .or(container.map(Target::Container))
            .or(pid.map(Target::Pid))
            .ok_or_else(|| Failure::text(2, "nothing to attach is named"))
    }
}

pub(super) fn attach(args: AttachArgs, context: &Context, out: &mut Output) -> Ended {
    let found = args.target.target()?.find().map_err(failed)?;
    let report = attach::attach(&context.launch_socket()?, args.agent, found).map_err(failed)?;
    if context.json {
        out.json(&json!({ "mode": report.attached.mode(), "report": report }), true)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Report { session, agent, attached, processes, sockets_ended, trusted_at, unit } = &report;
    out.line(format!("{agent} is attached as {session}, {}", attached.mode()))?;
    out.line(format!("cgroup    {}, {processes} processes", shown(&attached.cgroup.display().to_string())))?;
    for namespace in &attached.namespaces {
        out.line(format!("network   {}", super::status::network(&json!(namespace))))?;
    }
    out.line(format!("sockets   {sockets_ended} from before were ended"))?;
    for place in trusted_at {
        out.line(format!("trust     {}", shown(&place.display().to_string())))?;
    }
    for why in &attached.untrusted {
        out.line(format!("trust     ! {}", shown(why)))?;
    }
    if let Some(place) = unit {
        out.line(format!(
            "unit      what its next programs see is in {}",
            shown(&place.display().to_string())
        ))?;
    }
    for why in &attached.weak {
        out.line(format!("weak      {}", shown(why)))?;
    }
    out.line(format!("`enforcer detach {session}` lets it go"))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn detach(args: &DetachArgs, context: &Context, out: &mut Output) -> Ended {
    let sessions = attach::detach(&context.launch_socket()?, &args.name).map_err(failed)?;
    if context.json {
        out.json(&json!({ "detached": sessions }), true)?;
    } else {
        out.line(format!("detached {}: what runs there is free", sessions.join(", ")))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The exit codes of `run` are for a command that was started; here is none.
fn failed(error: enforcer_capture::Error) -> Failure {
    let (code, hint) = (error.exit_code(), error.hint());
    let code = if code == 125 { super::failure::FAILED } else { code };
    let failure = Failure::new(code, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
