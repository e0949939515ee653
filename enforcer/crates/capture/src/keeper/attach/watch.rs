//! An attached session while it lasts: a look each second, at once when the kernel tells of a new namespace, and its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use tracing::{error, info, warn};

use super::{trust, unit};
use crate::Error;
use crate::error::Doing;
use crate::events::NewNamespaces;
use crate::keeper::Keeper;
use crate::keeper::hand_over::{self, Inherited};
use crate::keeper::sessions::{self, Running};
use crate::message::ToWorker;
use crate::session::Record;

/// Devices and namespaces come without a word.
const TICK: Duration = Duration::from_secs(1);
/// Each so many looks also at what changes seldom: neighbours, and whether everything is still attached.
const THOROUGH: u32 = 10;

/// Watches the session, in a thread of its own, until its cgroup is gone or it is detached.
pub(super) fn start(keeper: &Arc<Keeper>, running: &Arc<Running>) -> Result<(), Error> {
    let (keeper, running) = (Arc::clone(keeper), Arc::clone(running));
    std::thread::Builder::new()
        .name("attached".into())
        .spawn(move || watch(&keeper, &running))
        .map(drop)
        .doing(|| "start a thread".into())
}

fn watch(keeper: &Arc<Keeper>, running: &Running) {
    let Some(live) = &running.attached else { return };
    let Some(wakes) = live.wakes() else { return };
    let record = &running.record;
    let session = &record.session.id;
    for look in 1_u32.. {
        match wakes.recv_timeout(TICK) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if live.ended.load(Ordering::SeqCst) || keeper.stopping() {
            return;
        }
        if !record.cgroup().exists() {
            return gone(keeper, running);
        }
        let thorough = look % THOROUGH == 0;
        let mut looked = live.look(keeper, record, &Inherited::default());
        // Before it may connect from where it is new.
        match live.trust(keeper, record, thorough) {
            Ok(places) if places.is_empty() => {}
            Ok(places) => info!(session, ?places, "trust mounted"),
            Err(error) => warn!(session, "{}", error.chain()),
        }
        looked = looked.and_then(|()| live.serve(keeper, record));
        if thorough {
            looked = looked.and(live.look_around(keeper, record));
            live.grade(record);
        }
        if let Err(error) = looked {
            warn!(session, "{}", error.chain());
        }
        live.tell(keeper, record);
    }
}

/// Ends the session of a cgroup that is gone, unless somebody else does.
fn gone(keeper: &Keeper, running: &Running) {
    let session = &running.record.session.id;
    if keeper.sessions().remove(session).is_some() {
        end(keeper, &running.record, Some(running));
        keeper.tell_status();
        info!(session, "the attached cgroup is gone: session ended");
    }
}

/// Whoever attaches may be the successor of what has just ended, in a cgroup of the same name.
pub(super) fn end_gone(keeper: &Keeper) {
    let attached: Vec<_> =
        keeper.sessions().values().filter(|running| running.attached.is_some()).cloned().collect();
    for running in attached {
        if !running.record.cgroup().exists() {
            gone(keeper, &running);
        }
    }
}

/// Takes an attached session apart: whatever of it is there, as far as this keeper held it. Its processes live on, free.
/// The caller has taken it out of the map. `false`: something is left, which the log names.
pub(super) fn end(keeper: &Keeper, record: &Record, running: Option<&Running>) -> bool {
    let session = &record.session;
    let mut clean = true;
    let mut complain = |what: &str, error: &dyn std::fmt::Display| {
        clean = false;
        warn!(session = session.id, "cannot {what}: {error}");
    };
    keeper.worker.tell(&ToWorker::Ended { session: session.id.clone() });
    hand_over::forget(&session.id);
    if let Err(error) = keeper.programs.release(session.cgroup_id) {
        complain("release the cgroup in the kernel", &error);
    }
    if let Err(error) = trust::remove(keeper, record) {
        complain("take back the trust", &error.chain());
    }
    if let Err(error) = unit::forget(keeper, record) {
        complain("take back what the unit's programs see", &error);
    }
    if let Some(live) = running.and_then(|running| running.attached.as_ref()) {
        live.ended.store(true, Ordering::SeqCst);
        live.look_soon();
        for served in live.namespaces().drain(..) {
            if let Err(error) = served.leave(keeper, live, session) {
                complain("leave a network namespace", &error.chain());
            }
        }
    }
    if let Err(error) = keeper.programs.detach(&session.id) {
        complain("detach the programs", &error);
    }
    if clean {
        sessions::remove_rest(keeper, &session.id);
    }
    clean
}

/// Has a look taken at a session as soon as the kernel refuses it a namespace that nobody listens in.
pub(in crate::keeper) fn follow_new_namespaces(keeper: &Arc<Keeper>) -> Result<(), Error> {
    let doing = || "read the kernel's new namespaces".into();
    let Some(map) = keeper.programs.new_namespaces().doing(doing)? else { return Ok(()) };
    let mut events = NewNamespaces::new(map).doing(doing)?;
    let keeper = Arc::clone(keeper);
    std::thread::Builder::new()
        .name("namespaces".into())
        .spawn(move || {
            loop {
                match rustix::event::poll(&mut [PollFd::new(&events, PollFlags::IN)], None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return error!("new namespaces are seen once a second only: {error}"),
                }
                while let Some(cgroup_id) = events.next() {
                    let sessions = keeper.sessions();
                    let tried =
                        sessions.values().find(|running| running.record.session.cgroup_id == cgroup_id);
                    // One that `enforcer run` started has the one namespace that it was given.
                    if let Some(live) = tried.and_then(|running| running.attached.as_ref()) {
                        live.look_soon();
                    }
                }
            }
        })
        .map(drop)
        .doing(|| "start a thread".into())
}
