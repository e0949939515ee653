//! What is held of one attached cgroup while the keeper runs.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, MutexGuard};

use super::grade;
use super::namespaces::Served;
use super::trust::Trust;
use crate::Error;
use crate::keeper::Keeper;
use crate::kernel::Attachment;
use crate::message::{Attached, ToWorker};
use crate::session::Record;

#[derive(Debug)]
pub(in crate::keeper) struct Live {
    pub(super) attachment: Attachment,
    /// Sockets from before that could not be ended, in words for a person.
    open_sockets: Mutex<Vec<String>>,
    trust: Mutex<Trust>,
    namespaces: Mutex<Vec<Served>>,
    /// Why it is weak, as of the last thorough look.
    weak: Mutex<Vec<String>>,
    /// What the worker was told last.
    told: Mutex<Attached>,
    wake: SyncSender<()>,
    waiting: Mutex<Option<Receiver<()>>>,
    /// It has ended; whoever looks at it stops.
    pub(super) ended: AtomicBool,
}

impl Live {
    pub(super) fn new(attachment: Attachment, open_sockets: Vec<String>) -> Self {
        // One waiting word is enough: a look sees everything that is there then.
        let (wake, waiting) = mpsc::sync_channel(1);
        Live {
            attachment,
            open_sockets: Mutex::new(open_sockets),
            trust: Mutex::default(),
            namespaces: Mutex::default(),
            weak: Mutex::default(),
            told: Mutex::default(),
            wake,
            waiting: Mutex::new(Some(waiting)),
            ended: AtomicBool::new(false),
        }
    }

    pub(in crate::keeper) fn namespaces(&self) -> MutexGuard<'_, Vec<Served>> {
        // Changed by one entry at a time; a panic leaves the others as they were.
        self.namespaces.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Has the next look taken at once.
    pub(super) fn look_soon(&self) {
        if let Err(mpsc::TrySendError::Disconnected(())) = self.wake.try_send(()) {
            tracing::debug!("an attached session ended meanwhile");
        }
    }

    /// For the one thread that watches.
    pub(super) fn wakes(&self) -> Option<Receiver<()>> {
        self.waiting.lock().unwrap_or_else(|e| e.into_inner()).take()
    }

    /// Has the running worker serve every namespace that it does not serve yet, and lets the session connect from there.
    pub(in crate::keeper) fn serve(&self, keeper: &Keeper, record: &Record) -> Result<(), Error> {
        self.namespaces().iter_mut().try_for_each(|served| served.serve(keeper, &record.session))
    }

    /// Tells the worker how the session stands, where that has changed.
    pub(super) fn tell(&self, keeper: &Keeper, record: &Record) -> Attached {
        let now = self.stand(record);
        let mut told = self.told.lock().unwrap_or_else(|e| e.into_inner());
        if *told != now {
            told.clone_from(&now);
            keeper
                .worker
                .tell(&ToWorker::Standing { session: record.session.id.clone(), attached: now.clone() });
        }
        now
    }

    /// The next worker knows nothing of it.
    pub(in crate::keeper) fn tell_again(&self, keeper: &Keeper, record: &Record) {
        *self.told.lock().unwrap_or_else(|e| e.into_inner()) = Attached::default();
        self.tell(keeper, record);
    }

    pub(super) fn found_open(&self, sockets: Vec<String>) {
        *self.open_sockets.lock().unwrap_or_else(|e| e.into_inner()) = sockets;
    }

    /// Mounts trust where it is missing; answers with the places. `all`: also where it failed before.
    pub(super) fn trust(&self, keeper: &Keeper, record: &Record, all: bool) -> Result<Vec<PathBuf>, Error> {
        // Changed by one entry at a time; a panic leaves the others as they were.
        self.trust.lock().unwrap_or_else(|e| e.into_inner()).look(keeper, record, all)
    }

    /// Finds out anew how firmly it is held.
    pub(super) fn grade(&self, record: &Record) {
        let open_sockets = self.open_sockets.lock().unwrap_or_else(|e| e.into_inner()).clone();
        let weak = grade::weak(self, record, &open_sockets);
        *self.weak.lock().unwrap_or_else(|e| e.into_inner()) = weak;
    }

    fn stand(&self, record: &Record) -> Attached {
        let namespaces = self.namespaces().iter().map(Served::shown).collect();
        let weak = self.weak.lock().unwrap_or_else(|e| e.into_inner()).clone();
        let untrusted = self.trust.lock().unwrap_or_else(|e| e.into_inner()).missing();
        Attached { cgroup: record.cgroup.clone(), weak, untrusted, namespaces }
    }
}
