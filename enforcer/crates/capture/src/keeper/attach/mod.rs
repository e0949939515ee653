//! `enforcer attach` and `enforcer detach`: a workload that already runs becomes a governed session where it is.
//!
//! | file | duty |
//! |---|---|
//! | `target` | which cgroups may be attached |
//! | `live` | what is held of one attached cgroup |
//! | `members` | who is in which network namespace |
//! | `namespaces` | listeners, nftables and devices in each network namespace it uses |
//! | `sockets` | the end of what was open before |
//! | `table` | its nftables table in a namespace, loaded again when somebody has changed it |
//! | `trust` | our root in its trust stores, by mounts that it alone sees |
//! | `unit` | what the programs of a unit are to see, as files |
//! | `grade` | `strict` or `weak`, with each reason |
//! | `watch` | the look at it each second, and its end |
//! | `workload` | what its policy may select it by |
//!
//! The programs are attached first, so that the cgroup is denied everything until all the rest stands. A step that fails lets
//! go of it again; a keeper that dies half way leaves it denied, with a record by which the next one goes on.

mod grade;
mod live;
mod members;
mod namespaces;
mod sockets;
mod table;
mod target;
mod trust;
mod unit;
mod watch;
mod workload;

use std::path::Path;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::Keeper;
use super::hand_over::Inherited;
use super::sessions::{Prepared, Running, Standing, govern, prepare};
use crate::Error;
use crate::attach::{Attach, Detach, Report};
use crate::cgroup;
use crate::error::Doing;
use crate::identity;
use crate::message::Session;
use crate::session::{self, Changes, Record};

pub(super) use live::Live;
pub(super) use namespaces::Served;
pub(super) use watch::follow_new_namespaces;

/// Governs what runs in a cgroup, as an agent. `caller`: the process that asks.
pub(super) fn attach(keeper: &Arc<Keeper>, asked: &Attach, caller: u32) -> Result<Report, Error> {
    keeper.programs.verify()?;
    asked.agent.as_deref().map_or(Ok(()), identity::check_name)?;
    asked.unit.as_deref().map_or(Ok(()), unit::check_name)?;
    watch::end_gone(keeper);
    let cgroup = target::check(keeper, &asked.cgroup)?;
    let processes = cgroup::processes(&cgroup).doing(|| format!("list what runs in {}", cgroup.display()))?;
    let workload = workload::of(&cgroup, &processes, asked.container.clone())?;
    let prepared = prepare(keeper, asked.agent.as_deref(), workload)?;
    let id = session::new_id(&prepared.agent)?;
    let mut record = Record {
        session: Session {
            id,
            agent: prepared.agent.clone(),
            cgroup_id: cgroup::id(&cgroup).doing(|| format!("look at {}", cgroup.display()))?,
            netns_cookie: 0,
            uid: processes.first().map_or(0, |pid| user_of(*pid)),
            forwards: Vec::new(),
        },
        cgroup,
        pid: processes.first().copied().unwrap_or(0),
        backstop: None,
        attached: Some(Changes { open_sockets: Vec::new(), unit: asked.unit.clone() }),
    };
    let outcome = hold(keeper, &mut record, prepared, caller);
    if let Ok(report) = &outcome {
        let (session, mode) = (&report.session, report.attached.mode());
        info!(session, cgroup = %record.cgroup.display(), mode, "attached");
    } else {
        let running = keeper.sessions().remove(&record.session.id);
        watch::end(keeper, &record, running.as_deref());
    }
    outcome
}

fn hold(keeper: &Arc<Keeper>, record: &mut Record, prepared: Prepared, caller: u32) -> Result<Report, Error> {
    record.save(&keeper.paths)?;
    trust::prepare(keeper, record, &prepared.ca_pem)?;
    let running = raise(keeper, record, &Inherited::default())?;
    let live = running.attached.as_ref().expect("`raise` makes attached sessions");
    // Before it may connect again: what it opens then is governed, and is not ended.
    let swept = sockets::sweep(&record.cgroup, live.namespaces().iter().map(Served::netns), caller)
        .doing(|| "end the sockets that are open".into())?;
    if let Some(changes) = &mut record.attached {
        changes.open_sockets.clone_from(&swept.left);
    }
    record.save(&keeper.paths)?;
    live.found_open(swept.left);
    let trusted_at = live.trust(keeper, record, true)?;
    unit::write(keeper, record, prepared)?;
    if let Standing::Off { message, hint } = govern(keeper, &running)? {
        return Err(Error::Refused { message, hint, exit_code: 125 });
    }
    live.serve(keeper, record)?;
    live.grade(record);
    let attached = live.tell(keeper, record);
    watch::start(keeper, &running)?;
    Ok(Report {
        session: record.session.id.clone(),
        agent: record.session.agent.clone(),
        attached,
        processes: cgroup::processes(&record.cgroup).map_or(0, |all| all.len()),
        sockets_ended: swept.ended,
        trusted_at,
        unit: unit::place(keeper, record),
    })
}

/// Attaches the programs, and opens what is needed in the namespaces in use. The session is known from then on.
fn raise(keeper: &Arc<Keeper>, record: &Record, inherited: &Inherited) -> Result<Arc<Running>, Error> {
    let id = &record.session.id;
    let attachment = keeper.programs.attach(id, &record.cgroup)?;
    if attachment.cgroup_id() != record.session.cgroup_id {
        return Err(Error::refused("the cgroup was made anew meanwhile", "attach it again"));
    }
    let open_sockets = record.attached.clone().unwrap_or_default().open_sockets;
    let running = Running::attached(record.clone(), Live::new(attachment, open_sockets));
    // Known before there is anything in a namespace to be taken back.
    keeper.sessions().insert(id.clone(), Arc::clone(&running));
    keeper.tell_status();
    running.attached.as_ref().map_or(Ok(()), |live| live.look(keeper, record, inherited))?;
    Ok(running)
}

/// Lets go of what was attached under this name. Answers with the sessions.
pub(super) fn detach(keeper: &Keeper, asked: &Detach) -> Result<Vec<String>, Error> {
    let mut all: Vec<_> = keeper.sessions().values().cloned().collect();
    all.retain(|running| {
        let session = &running.record.session;
        running.attached.is_some() && (session.id == asked.name || session.agent == asked.name)
    });
    if all.is_empty() {
        return Err(Error::Refused {
            message: format!("nothing is attached as `{}`", asked.name.escape_debug()),
            hint: Some("`enforcer status` lists what is".into()),
            exit_code: 1,
        });
    }
    let mut sessions = Vec::new();
    for running in all {
        let id = &running.record.session.id;
        // Whoever takes it out of the map ends it.
        if keeper.sessions().remove(id).is_none() {
            continue;
        }
        if !watch::end(keeper, &running.record, Some(&running)) {
            return Err(Error::refused(
                format!("session {id} is not wholly detached"),
                "the daemon's log says what is left; restart the daemon, then detach again",
            ));
        }
        sessions.push(id.clone());
    }
    keeper.tell_status();
    sessions.sort();
    Ok(sessions)
}

/// Takes up what an earlier keeper attached. What cannot be taken up stays denied.
pub(super) fn take_up(keeper: &Arc<Keeper>, record: Record, inherited: &Inherited) {
    let session = record.session.id.clone();
    if !record.cgroup().exists() {
        watch::end(keeper, &record, None);
        info!(session, "the attached cgroup has gone while the daemon was away");
        return;
    }
    let taken_up = raise(keeper, &record, inherited).and_then(|running| {
        // Watched even when the worker refuses it: it must end some day.
        watch::start(keeper, &running)?;
        let standing = govern(keeper, &running)?;
        if let Some(live) = &running.attached {
            live.grade(&record);
            live.tell(keeper, &record);
        }
        Ok(standing)
    });
    match taken_up {
        Ok(Standing::On) => info!(session, "attached session taken up again"),
        Ok(Standing::Off { message, .. }) => info!(session, "the attached session stays shut in: {message}"),
        Err(error) => error!(session, "the attached session stays denied: {}", error.chain()),
    }
}

/// Attachments that no session is known for: nobody lets go of them but a person.
pub(super) fn complain_of_strays(keeper: &Keeper) -> Result<(), Error> {
    for name in keeper.programs.attached()? {
        if !keeper.paths.record(&name).exists() {
            warn!(
                session = name,
                "a cgroup is attached whose record is lost: it stays denied; when nothing runs in it any more, \
                 `enforcer unmanage` frees it"
            );
        }
    }
    Ok(())
}

/// The user that a process runs as; root when it is gone.
fn user_of(pid: u32) -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(Path::new("/proc").join(pid.to_string())).map_or(0, |process| process.uid())
}
