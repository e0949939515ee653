//! `unmanage`: the only way our programs leave the kernel.
//!
//! Agents that still run would be free afterwards, so it refuses while there are any.

use std::process::ExitCode;

use clap::Args;
use enforcer_capture::kernel::Layout;
use enforcer_capture::unmanage;

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
    let layout = Layout { managed_root, pins: config.pins };
    unmanage::check(&layout).map_err(refused)?;
    if !args.yes {
        return Err(Failure::text(
            FAILED,
            format!(
                "this detaches from {} and removes {}",
                layout.managed_root.display(),
                layout.pins.display()
            ),
        )
        .hint("stop the daemon, then repeat it with `--yes`"));
    }
    let found = unmanage::unmanage(&layout).map_err(refused)?;
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

fn refused(error: enforcer_capture::Error) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(FAILED, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
