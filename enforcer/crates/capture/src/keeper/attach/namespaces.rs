//! The network namespaces of an attached session: found by its processes, listened in, held by nftables and at the devices.
//!
//! A namespace that is not here is one that nobody listens in: connects from it are refused in the kernel, and that refusal
//! is what brings the keeper here.

use std::os::fd::{AsFd, BorrowedFd};

use tracing::{info, warn};

use super::table::Table;
use super::{Live, members};
use crate::Error;
use crate::backstop::table_of;
use crate::cgroup;
use crate::error::Doing;
use crate::keeper::Keeper;
use crate::keeper::hand_over::{self, Inherited};
use crate::keeper::sessions::unexpected;
use crate::kernel::Listening;
use crate::message::{Namespace, Session, ToKeeper, ToWorker};
use crate::netns::{Listeners, Netns};
use crate::session::Record;
use crate::sys;

/// Each holds six sockets of ours and keeps the namespace; a workload that makes more is refused in the others.
const MAX_NAMESPACES: usize = 32;
/// The loopback device has index 1 in every namespace.
const LO: u32 = 1;

/// One namespace that we listen in.
#[derive(Debug)]
pub(in crate::keeper) struct Served {
    netns: Netns,
    inode: u64,
    listeners: Listeners,
    devices: Vec<(u32, String)>,
    table: Table,
    /// Devices that cannot be guarded, or the kernel's lack of a way to.
    unguarded: Vec<String>,
    /// The worker that serves it, by generation. Before the first one there is none.
    by: Option<u64>,
}

impl Live {
    /// Brings what we listen in together with what the session's processes are in.
    pub(super) fn look(&self, keeper: &Keeper, record: &Record, inherited: &Inherited) -> Result<(), Error> {
        let in_use =
            members::in_use(&record.cgroup).doing(|| "see the session's network namespaces".into())?;
        let mut namespaces = self.namespaces();
        let (stay, gone): (Vec<_>, Vec<_>) =
            namespaces.drain(..).partition(|served| in_use.iter().any(|(inode, _)| *inode == served.inode));
        *namespaces = stay;
        let mut changed = !gone.is_empty();
        for served in gone {
            info!(session = record.session.id, cookie = served.netns.cookie, "network namespace left");
            if let Err(error) = served.leave(keeper, self, &record.session) {
                warn!(session = record.session.id, "cannot leave it: {}", error.chain());
            }
        }
        for (inode, pid) in in_use {
            if namespaces.iter().any(|served| served.inode == inode) {
                continue;
            }
            if namespaces.len() >= MAX_NAMESPACES {
                warn!(
                    session = record.session.id,
                    "over {MAX_NAMESPACES} network namespaces: the others stay denied"
                );
                break;
            }
            match Served::open(keeper, self, record, pid, inherited) {
                Ok(served) => {
                    info!(
                        session = record.session.id,
                        cookie = served.netns.cookie,
                        private = served.listeners.at.private,
                        "listening in a network namespace"
                    );
                    namespaces.push(served);
                    changed = true;
                }
                // Its processes may be gone by now; what is there next second is tried again.
                Err(error)
                    if namespaces.is_empty()
                        && cgroup::processes(&record.cgroup).is_ok_and(|all| all.contains(&pid)) =>
                {
                    return Err(error);
                }
                Err(error) => warn!(
                    session = record.session.id,
                    pid,
                    "its network namespace stays denied: {}",
                    error.chain()
                ),
            }
        }
        let mut told = false;
        for served in namespaces.iter_mut() {
            served.guard_devices(self);
            told |= served.table.look(keeper, record, &served.netns, served.listeners.at);
        }
        if changed {
            hand_over::forget(&record.session.id);
            for served in namespaces.iter() {
                hand_over::store(&record.session.id, &served.listeners.sockets);
            }
        }
        drop(namespaces);
        if told {
            self.grade(record);
        }
        Ok(())
    }

    /// A namespace that others have come into is not the session's own any more, and the reverse.
    pub(super) fn look_around(&self, keeper: &Keeper, record: &Record) -> Result<(), Error> {
        for served in self.namespaces().iter_mut() {
            let private =
                members::is_private(served.inode, &record.cgroup).doing(|| "look for neighbours".into())?;
            if private != served.listeners.at.private {
                info!(
                    session = record.session.id,
                    cookie = served.netns.cookie,
                    private,
                    "network namespace"
                );
                served.listeners.at.private = private;
                served.table.load(keeper, record, &served.netns, served.listeners.at)?;
                served.guard_devices(self);
                if served.by.is_some() {
                    keeper.programs.admit(
                        record.session.cgroup_id,
                        served.netns.cookie,
                        served.listeners.at,
                    )?;
                }
            }
        }
        Ok(())
    }
}

impl Served {
    fn open(
        keeper: &Keeper,
        live: &Live,
        record: &Record,
        pid: u32,
        inherited: &Inherited,
    ) -> Result<Self, Error> {
        let doing = || format!("enter the network namespace of process {pid}");
        let netns = Netns::of_process(pid).doing(doing)?;
        let inode = netns.inode().doing(doing)?;
        let private = members::is_private(inode, &record.cgroup).doing(|| "look for neighbours".into())?;
        let listeners = match handed_over(keeper, record, &netns, private, inherited)? {
            Some(listeners) => listeners,
            None => {
                netns.open_shared_listeners(private, &|socket| keeper.programs.prepare_listener(socket))?
            }
        };
        let mut served = Served {
            netns,
            inode,
            listeners,
            devices: Vec::new(),
            table: Table::default(),
            unguarded: Vec::new(),
            by: None,
        };
        served.table.load(keeper, record, &served.netns, served.listeners.at)?;
        served.guard_devices(live);
        Ok(served)
    }

    /// Has the running worker serve it, then lets the session connect from it.
    pub(super) fn serve(&mut self, keeper: &Keeper, session: &Session) -> Result<(), Error> {
        if self.by == Some(keeper.worker.generation()) {
            return Ok(());
        }
        let descriptors: Vec<_> = self.listeners().collect();
        let (id, netns_cookie) = (session.id.clone(), self.netns.cookie);
        let serve = |seq| ToWorker::Serve { seq, session: id, netns_cookie };
        let (generation, answer) = keeper.worker.call(serve, &descriptors)?;
        match answer {
            ToKeeper::Done { .. } => {}
            ToKeeper::Refused { message, hint, .. } => {
                return Err(Error::Refused { message, hint, exit_code: 125 });
            }
            ToKeeper::Ready
            | ToKeeper::Prepared { .. }
            | ToKeeper::Disabled { .. }
            | ToKeeper::Switch { .. }
            | ToKeeper::Socket { .. }
            | ToKeeper::Look { .. } => {
                return Err(unexpected());
            }
        }
        keeper.programs.admit(session.cgroup_id, netns_cookie, self.listeners.at)?;
        self.by = Some(generation);
        Ok(())
    }

    /// Takes back what was done in the namespace: all of it that can be; then the first failure is told.
    pub(super) fn leave(&self, keeper: &Keeper, live: &Live, session: &Session) -> Result<(), Error> {
        let cookie = self.netns.cookie;
        keeper.worker.tell(&ToWorker::Left { session: session.id.clone(), netns_cookie: cookie });
        let expelled = keeper.programs.expel(session.cgroup_id, cookie).map_err(Error::from);
        let unloaded = keeper.backstop.unload(&table_of(&session.id), &self.netns);
        let released = live.attachment.release_devices(cookie).doing(|| "let go of the devices".into());
        expelled.and(unloaded).and(released)
    }

    /// Attaches to devices that are new. `lo` of a namespace of its own is the session's.
    fn guard_devices(&mut self, live: &Live) {
        let private = self.listeners.at.private;
        let known = &self.devices;
        let guard = || {
            let mut guarded = Vec::new();
            let mut unguarded = Vec::new();
            for (index, name) in sys::network_devices()? {
                if index == LO && private {
                    continue;
                }
                if known.contains(&(index, name.clone())) {
                    guarded.push((index, name));
                    continue;
                }
                match live.attachment.guard_device(self.netns.cookie, index) {
                    Ok(true) => guarded.push((index, name)),
                    Ok(false) => unguarded.push(format!("the kernel has no tcx (Linux 6.6) for {name}")),
                    Err(error) => unguarded.push(format!("{name} is not guarded: {error}")),
                }
            }
            Ok((guarded, unguarded))
        };
        match self.netns.within(guard) {
            Ok((guarded, unguarded)) => {
                self.devices = guarded;
                self.unguarded = unguarded;
            }
            Err(error) => self.unguarded = vec![format!("its devices cannot be listed: {error}")],
        }
    }

    pub(in crate::keeper) fn listeners(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.listeners.sockets.iter().map(AsFd::as_fd)
    }

    pub(super) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Why it is held less firmly than it was meant to be.
    pub(super) fn lacks(&self) -> impl Iterator<Item = String> {
        self.unguarded.iter().cloned().chain(self.table.lacks())
    }

    /// Nobody but the session is in it.
    pub(super) fn private(&self) -> bool {
        self.listeners.at.private
    }

    pub(super) fn shown(&self) -> Namespace {
        Namespace {
            cookie: self.netns.cookie,
            private: self.listeners.at.private,
            nftables: self.table.holds(),
            reloads: self.table.reloads,
            devices: self.devices.iter().map(|(_, name)| name.clone()).collect(),
        }
    }
}

/// The listeners that an earlier keeper opened for this session. Which ones: the kernel redirects its connects to them still.
fn handed_over(
    keeper: &Keeper,
    record: &Record,
    netns: &Netns,
    private: bool,
    inherited: &Inherited,
) -> Result<Option<Listeners>, Error> {
    let Some(before) = keeper.programs.admitted(record.session.cgroup_id, netns.cookie)? else {
        return Ok(None);
    };
    let at = Listening { private, ..before };
    let wanted = netns.shared_listeners(at).doing(|| "look into the network namespace".into())?;
    Ok(inherited.listeners(netns.cookie, &wanted).map(|sockets| Listeners { at, sockets }))
}
