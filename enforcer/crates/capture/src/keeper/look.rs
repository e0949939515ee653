//! Looks at an agent's process for the worker, which may not: what it runs, and which of our trust variables it lacks.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags};

use super::Keeper;
use crate::Error;
use crate::cgroup;
use crate::error::Doing;
use crate::message::{Process, ToWorker};
use crate::trust;

/// Reading a process' environment may wait for its memory, which is its own to arrange: what hangs must stay little.
const AT_ONCE: usize = 4;
/// The kernel's own bound for arguments and environment is 6 MiB; trust variables of a larger one are not found.
const ENVIRONMENT: u64 = 512 * 1024;

static LOOKING: AtomicUsize = AtomicUsize::new(0);

/// In a thread of its own.
pub(super) fn soon(keeper: &Arc<Keeper>, seq: u64, session: String, pid: u32) {
    let no = |why: String| keeper.worker.tell(&ToWorker::Looked { seq, process: Err(why) });
    if LOOKING.fetch_add(1, Ordering::Relaxed) >= AT_ONCE {
        LOOKING.fetch_sub(1, Ordering::Relaxed);
        return no("too many looks at once".into());
    }
    let looking = Arc::clone(keeper);
    let started = std::thread::Builder::new().name("look".into()).spawn(move || {
        let process = look(&looking, &session, pid).map_err(|error| error.chain());
        LOOKING.fetch_sub(1, Ordering::Relaxed);
        looking.worker.tell(&ToWorker::Looked { seq, process });
    });
    if let Err(error) = started {
        LOOKING.fetch_sub(1, Ordering::Relaxed);
        no(format!("cannot start a thread: {error}"));
    }
}

/// Only a process that is in the session's cgroup: whoever asks is told of no other.
fn look(keeper: &Keeper, session: &str, pid: u32) -> Result<Process, Error> {
    let running = keeper.sessions().get(session).cloned();
    let running = running.ok_or_else(|| Error::refused("the session has ended", "start another"))?;
    let doing = || format!("look at process {pid}");
    // Stays with this process, whoever gets its number afterwards.
    let directory = rustix::fs::open(
        format!("/proc/{pid}"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .doing(doing)?;
    let cgroup = cgroup::of_process(pid, &cgroup::hierarchy()?).doing(doing)?;
    if !cgroup.starts_with(&running.record.cgroup) {
        return Err(Error::refused(format!("process {pid} is not of session {session}"), "report this"));
    }
    let exe = rustix::fs::readlinkat(&directory, "exe", Vec::new()).doing(doing)?;
    let environment =
        rustix::fs::openat(&directory, "environ", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .doing(doing)?;
    let mut bytes = Vec::new();
    // What has ended meanwhile reads as empty or not at all, so the cgroup above was this process'.
    File::from(environment).take(ENVIRONMENT).read_to_end(&mut bytes).doing(doing)?;
    Ok(Process {
        exe: PathBuf::from(std::ffi::OsString::from_vec(exe.into_bytes())),
        lacks: lacking(&bytes, &keeper.paths.trust()),
    })
}

/// The variables of `enforcer run` that are not in this environment, or have another value.
fn lacking(environment: &[u8], shown_at: &Path) -> Vec<(String, String)> {
    let has = |name: &str, value: &str| {
        environment.split(|byte| *byte == 0).any(|entry| {
            let rest = entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            // A list of options may hold more than ours.
            rest.is_some_and(|rest| {
                rest.windows(value.len()).any(|part| part == std::ffi::OsStr::new(value).as_bytes())
            })
        })
    };
    trust::variables(shown_at, false).into_iter().filter(|(name, value)| !has(name, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_lacking_that_are_not_there_or_say_something_else() {
        let given = trust::variables(Path::new("/shown"), false);
        let all: Vec<u8> =
            given.iter().flat_map(|(name, value)| format!("{name}={value}\0").into_bytes()).collect();
        assert_eq!(lacking(&all, Path::new("/shown")), []);
        assert_eq!(lacking(b"", Path::new("/shown")), given);
        let names = |environment: &[u8]| -> Vec<String> {
            lacking(environment, Path::new("/shown")).into_iter().map(|(name, _)| name).collect()
        };
        let node = "NODE_EXTRA_CA_CERTS".to_owned();
        assert!(!names(b"A=b\0NODE_EXTRA_CA_CERTS=/shown/ca.pem\0").contains(&node));
        assert!(names(b"NODE_EXTRA_CA_CERTS=/theirs.pem\0").contains(&node));
        assert!(names(b"NOT_NODE_EXTRA_CA_CERTS=/shown/ca.pem\0").contains(&node));
        let java = "JAVA_TOOL_OPTIONS=-Xmx1g -Djavax.net.ssl.trustStore=/shown/cacerts -Djavax.net.ssl.trustStorePassword=changeit";
        assert!(!names(java.as_bytes()).contains(&"JAVA_TOOL_OPTIONS".to_owned()));
    }
}
