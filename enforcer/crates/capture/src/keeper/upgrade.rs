//! SIGUSR2: the daemon becomes what its file holds now, in the same process. Sessions go on, and no connection of an agent's is
//! refused: those made meanwhile wait in the listeners' queues.
//!
//! One worker after the other, never two: there is one writer of receipts and one place where a yes is taken back. Requests under
//! way get some seconds; whatever is longer is cut, and says so in its receipt.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, setrlimit};
use sd_notify::NotifyState;
use tracing::{info, warn};

use super::attach::{Live, Served};
use super::{Keeper, hand_over, notify, sessions, worker};
use crate::Error;
use crate::error::Doing;
use crate::sys;

/// A launch takes a second at most, one whose caller is slow to say what it wants ten.
const LAUNCHES: Duration = Duration::from_secs(15);
/// For requests under way, while the others wait.
const REQUESTS: Duration = Duration::from_secs(5);

/// Returns only when it was not to be: the daemon goes on as it was then.
pub(super) fn upgrade(keeper: &Arc<Keeper>) -> Error {
    let program = match program() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut states = vec![NotifyState::Reloading, NotifyState::Status("becoming the installed version")];
    // Without the clock's word the state is told all the same.
    states.extend(NotifyState::monotonic_usec_now());
    notify(&states);
    if !keeper.admission.close(LAUNCHES) {
        return Error::refused("a launch is under way and does not end", "try again later");
    }
    info!(program = %program.display(), sessions = keeper.sessions().len(), "the daemon replaces itself");
    keeper.worker.stop(REQUESTS);
    let error = execute(keeper, &program);

    keeper.worker.revive();
    match worker::begin(keeper).and_then(|first| worker::wait(&first)) {
        Ok(()) => sessions::govern_all_soon(keeper),
        Err(error) => warn!("no worker runs; restart the daemon: {}", error.chain()),
    }
    keeper.admission.open();
    error
}

fn execute(keeper: &Keeper, program: &Path) -> Error {
    let all: Vec<_> = keeper.sessions().values().cloned().collect();
    // Held until the end of this program: no namespace is added behind our back.
    let attached: Vec<_> =
        all.iter().filter_map(|running| running.attached.as_ref()).map(Live::namespaces).collect();
    let mut sockets: Vec<BorrowedFd<'_>> = vec![keeper.control.as_fd(), keeper.launches.as_fd()];
    sockets.extend(all.iter().flat_map(|running| running.listeners()));
    sockets.extend(attached.iter().flat_map(|served| served.iter()).flat_map(Served::listeners));
    let left = hand_over::leave_open(&sockets, true);
    let error = match left.doing(|| "leave the listeners open".into()) {
        Ok((name, numbers)) => {
            // What the daemon before us left to us is not left once more.
            let environment = std::env::vars_os().filter(|(other, _)| other != name);
            let environment = environment.chain([(name.into(), numbers.into())]);
            // It takes the limit that it is started with for the one of agents.
            let source = match setrlimit(Resource::Nofile, keeper.descriptors) {
                Ok(()) => sys::execute(program, std::env::args_os(), environment),
                Err(error) => error.into(),
            };
            Error::Io { what: format!("become {}", program.display()), source }
        }
        Err(error) => error,
    };
    if let Err(error) = sys::raise_descriptor_limit(true) {
        warn!("few descriptors are left for sessions: {error}");
    }
    if let Err(error) = hand_over::leave_open(&sockets, false) {
        warn!("listeners may stay open in other programs: {error}");
    }
    error
}

/// The file that this program was started from, as it is now. What others than root may write is not taken.
fn program() -> Result<PathBuf, Error> {
    let started_from = fs::read_link("/proc/self/exe").doing(|| "find this program's file".into())?;
    // The kernel says so when the file was replaced by another of the same name.
    let bytes = started_from.as_os_str().as_bytes();
    let name = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    let program = PathBuf::from(OsString::from_vec(name.to_vec()));
    let metadata = fs::metadata(&program).doing(|| format!("look at {}", program.display()))?;
    if !metadata.is_file()
        || metadata.uid() != 0
        || metadata.mode() & 0o022 != 0
        || metadata.mode() & 0o100 == 0
    {
        return Err(Error::refused(
            format!("{} is not a program that only root can change", program.display()),
            "install it with owner root and mode 0755",
        ));
    }
    Ok(program)
}
