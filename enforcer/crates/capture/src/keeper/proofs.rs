//! Proves on a timer that nothing gets out: starts `enforcer prove --all` and looks at how it ends.
//!
//! The prover is another process: it reads what attempts say, which the keeper does not. It tells the worker what it found.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::{Keeper, Prove};
use crate::Error;
use crate::error::Doing;
use crate::sys;

/// What `prove` ends with when something got out, or nobody knows.
const GOT_OUT: i32 = 8;
/// How often is looked whether the daemon stops.
const TICK: Duration = Duration::from_millis(500);

/// In a thread of its own, from now on, if the settings want it.
pub(super) fn start(keeper: &Arc<Keeper>) -> Result<(), Error> {
    let Some(prove) = keeper.settings.prove.clone() else { return Ok(()) };
    let keeper = Arc::clone(keeper);
    std::thread::Builder::new()
        .name("proofs".into())
        .spawn(move || {
            while wait(&keeper, prove.every) {
                once(&keeper, &prove);
            }
        })
        .map(drop)
        .doing(|| "start a thread".into())
}

/// `false`: the daemon stops.
fn wait(keeper: &Keeper, time: Duration) -> bool {
    let mut left = time;
    while !left.is_zero() && !keeper.stopping() {
        let step = left.min(TICK);
        std::thread::sleep(step);
        left -= step;
    }
    !keeper.stopping()
}

fn once(keeper: &Keeper, prove: &Prove) {
    let mut command = Command::new(&keeper.settings.executable);
    if let Some(config) = &prove.config {
        command.arg("--config").arg(config);
    }
    command.args(["prove", "--all"]).current_dir("/").env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    sys::end_with_parent(&mut command);
    match command.status() {
        Ok(status) if status.success() => info!("proved for every agent: nothing gets out"),
        Ok(status) if status.code() == Some(GOT_OUT) => {
            error!("NOT PROVED: an agent can get out, or nobody knows; `enforcer status` names the ways");
        }
        Ok(_) if keeper.stopping() => {}
        Ok(status) => {
            warn!("nothing was proved: `enforcer prove --all` ended with {status}; its words are above")
        }
        Err(error) => warn!("nothing was proved: `enforcer prove --all` cannot be started: {error}"),
    }
}
