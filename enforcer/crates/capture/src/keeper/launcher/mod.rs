//! Serves `launch.sock`: one caller from its request to its agent's end.

mod request;
mod start;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use enforcer_common::AGENT_SLOTS;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, WaitOptions};
use tracing::{debug, error, info, warn};

use self::request::{Request, receive};
use self::start::{Started, launch};
use super::admission::Admitted;
use super::{Keeper, attach};
use crate::Error;
use crate::channel::Channel;
use crate::error::Doing;
use crate::launch::{Exit, FromKeeper, ToKeeper as FromCaller};
use crate::sys;

/// Launches and running stand-ins at one time; each holds a thread and a few descriptors. One for each session that there can be,
/// and some for who attaches, detaches, or is told that there is no room.
const MAX_CALLERS: usize = AGENT_SLOTS as usize + 256;
/// What may be passed on: what people and supervisors send to a command.
const SIGNALS: [i32; 10] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCONT,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGKILL,
];

/// Accepts callers in a thread of its own, from now on.
pub(super) fn serve(keeper: &Arc<Keeper>) -> Result<(), Error> {
    // Whoever was here when it was last looked may be gone when it is accepted.
    keeper.launches.set_nonblocking(true).doing(|| "set up the socket for launches".into())?;
    let keeper = Arc::clone(keeper);
    let callers = Arc::new(AtomicUsize::new(0));
    std::thread::Builder::new()
        .name("launches".into())
        .spawn(move || {
            loop {
                let accepted = rustix::event::poll(&mut [PollFd::new(&keeper.launches, PollFlags::IN)], None)
                    .map_err(io::Error::from)
                    // While the daemon replaces itself callers wait where they are.
                    .and_then(|_| Ok((keeper.admission.enter(), keeper.launches.accept()?)));
                match accepted {
                    Ok((admitted, (stream, _))) => admit(&keeper, &callers, admitted, stream),
                    Err(error)
                        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: they come back when sessions end.
                        error!("cannot accept a launch: {error}");
                        std::thread::sleep(Duration::from_millis(200));
                    }
                }
            }
        })
        .map(drop)
        .doing(|| "start a thread".into())
}

fn admit(keeper: &Arc<Keeper>, callers: &Arc<AtomicUsize>, admitted: Admitted, stream: UnixStream) {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let before = callers.fetch_add(1, Ordering::SeqCst);
    let counted = Counted(Arc::clone(callers));
    if before >= MAX_CALLERS {
        warn!("too many launches at once: one is turned away");
        let channel = Channel::new(stream);
        let full = Error::refused(
            format!(
                "{MAX_CALLERS} launches and attended sessions are under way: there is no room for another"
            ),
            "end some of them, or turn to a second host",
        );
        // Of a few hundred bytes, into a buffer that nobody has written to: it does not wait.
        refuse(&channel, &full);
        return;
    }
    let keeper = Arc::clone(keeper);
    let started = std::thread::Builder::new().name("launch".into()).spawn(move || {
        let _counted = counted;
        attend(&keeper, admitted, &Arc::new(Channel::new(stream)));
    });
    if let Err(error) = started {
        error!("cannot start a thread for a launch: {error}");
    }
}

/// One caller from its request to its end.
fn attend(keeper: &Arc<Keeper>, admitted: Admitted, channel: &Arc<Channel>) {
    let answered = receive(keeper, channel).and_then(|request| match request {
        Some(Request::Launch(asked)) => {
            launch(keeper, *asked).map(|started| accompany(channel, admitted, started))
        }
        Some(Request::Attach(asked, caller)) => {
            let report = attach::attach(keeper, &asked, caller)?;
            tell(channel, &FromKeeper::Attached(report), &[]);
            Ok(())
        }
        Some(Request::Detach(asked)) => {
            let sessions = attach::detach(keeper, &asked)?;
            tell(channel, &FromKeeper::Detached { sessions }, &[]);
            Ok(())
        }
        None => {
            // Is anybody listening? That is how it is found out.
            debug!("a caller left without a request");
            Ok(())
        }
    });
    if let Err(error) = answered {
        info!("request refused: {}", error.chain());
        refuse(channel, &error);
    }
}

fn refuse(channel: &Channel, error: &Error) {
    let refused =
        FromKeeper::Refused { message: error.chain(), hint: error.hint(), exit_code: error.exit_code() };
    tell(channel, &refused, &[]);
    channel.discard();
}

/// Stays with an agent that runs for as long as its caller does.
fn accompany(channel: &Arc<Channel>, admitted: Admitted, started: Started) {
    let Started { session, uid, mut child, pidfd } = started;
    let launched = FromKeeper::Launched { session: session.clone(), pid: child.id() };
    tell(channel, &launched, &[pidfd.as_fd()]);
    // From here on the agent does without us.
    drop(admitted);
    info!(session, uid, pid = child.id(), "agent started");
    // Its thread outlives a caller that goes away: somebody must wait for the child.
    let waiter = std::thread::Builder::new().name("wait".into()).spawn({
        let channel = Arc::clone(channel);
        move || {
            let exit = match child.wait() {
                Ok(status) => Exit::from_status(status),
                Err(error) => {
                    error!(session, "cannot see how the agent ended: {error}");
                    Exit::Code(125)
                }
            };
            tell(&channel, &FromKeeper::Exited(exit), &[]);
        }
    });
    if let Err(error) = waiter {
        error!("cannot start a thread, the agent's end will not be told: {error}");
    }
    while let Ok(Some(received)) = channel.receive::<FromCaller>() {
        if let FromCaller::Signal { number, group } = received.message
            && SIGNALS.contains(&number)
            && let Err(error) = sys::pidfd_signal(pidfd.as_fd(), number, group)
            // It ended in between.
            && error.raw_os_error() != Some(libc::ESRCH)
        {
            warn!(number, "cannot pass a signal on: {error}");
        }
    }
}

/// Waits for the agents that the program before this one started in this process, as their stand-ins learn how they ended only
/// from then on. Before the process has children of its own.
pub(super) fn await_inherited() -> Result<(), Error> {
    let doing = || "see which agents are this process's".into();
    for task in fs::read_dir("/proc/self/task").doing(doing)? {
        let children = fs::read_to_string(task.doing(doing)?.path().join("children")).doing(doing)?;
        for pid in children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            std::thread::Builder::new()
                .name("wait".into())
                .spawn(move || {
                    if let Err(error) = rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
                        warn!(?pid, "cannot wait for an agent of the daemon before: {error}");
                    }
                })
                .doing(|| "start a thread".into())?;
        }
    }
    Ok(())
}

/// A caller that is gone does not stop its agent.
fn tell(channel: &Channel, message: &FromKeeper, descriptors: &[std::os::fd::BorrowedFd<'_>]) {
    if let Err(error) = channel.send(message, descriptors) {
        debug!("the caller is gone: {error}");
    }
}
