//! `unmanage`: the only way our programs leave the kernel.
//!
//! Agents that still run would be free afterwards, so it refuses while there are any.

use std::process::ExitCode;

use clap::Args;
use enforcer_capture::kernel::{Kernel, Layout};

use super::failure::{FAILED, NOT_PERMITTED};
use super::{Context, Ended, Failure, Output};

#[derive(Debug, Args)]
pub(super) struct UnmanageArgs {
    /// Do it; without this, only say what would be removed
    #[arg(long)]
    yes: bool,
}

pub(super) fn unmanage(args: &UnmanageArgs, context: &Context, out: &mut Output) -> Ended {
    let config = context.settings()?;
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::text(NOT_PERMITTED, "only root may do this").hint("run it with `sudo`"));
    }
    if std::os::unix::net::UnixStream::connect(config.launch_socket()).is_ok() {
        return Err(
            Failure::text(FAILED, "the daemon is running").hint("stop it first: `systemctl stop enforcer`")
        );
    }
    let managed_root = enforcer_capture::cgroup::managed_root(&config.managed_root)
        .map_err(|error| Failure::new(FAILED, error))?;
    if populated(&managed_root)? {
        return Err(Failure::text(FAILED, format!("agents are running under {}", managed_root.display()))
            .hint("stop them first: they would be free to use the network (`enforcer agents` lists them)"));
    }
    if !args.yes {
        return Err(Failure::text(
            FAILED,
            format!("this detaches from {} and removes {}", managed_root.display(), config.pins.display()),
        )
        .hint("stop the daemon, then repeat it with `--yes`"));
    }
    let layout = Layout { managed_root, pins: config.pins };
    let found = Kernel::unmanage(&layout).map_err(|error| {
        let hint = error.hint();
        Failure::new(FAILED, error).hint(hint)
    })?;
    if context.json {
        let removed = found.then_some(&layout.pins);
        out.json(&serde_json::json!({ "removed": removed }), true)?;
    } else if found {
        out.line(format!("removed {}", layout.pins.display()))?;
    } else {
        out.line(format!("nothing to remove: there is no {}", layout.pins.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Is any process below the managed root? Unknown is yes; a root that is not there holds nobody.
fn populated(managed_root: &std::path::Path) -> Result<bool, Failure> {
    match std::fs::read_to_string(managed_root.join("cgroup.events")) {
        Ok(text) => Ok(!text.lines().any(|line| line == "populated 0")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::from(error)),
    }
}
