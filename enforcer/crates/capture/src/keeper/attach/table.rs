//! A session's nftables table in one network namespace: loaded, looked at each second, and loaded again when somebody has changed it.
//!
//! Whoever may do that is root of the host's or of the workload's: the programs do not depend on it, and hold meanwhile.

use tracing::{info, warn};

use crate::Error;
use crate::backstop::{Loaded, Shared, table_of};
use crate::keeper::Keeper;
use crate::kernel::Listening;
use crate::netns::Netns;
use crate::session::Record;

#[derive(Debug, Default)]
pub(super) struct Table {
    /// `None`: it is not in force, or the host has no `nft`.
    loaded: Option<Loaded>,
    /// Why it could not be loaded.
    gone: Option<String>,
    pub(super) reloads: u32,
}

impl Table {
    /// Puts it in place of whatever table of that name is there. What fails is tried again by each look.
    pub(super) fn load(
        &mut self,
        keeper: &Keeper,
        record: &Record,
        netns: &Netns,
        at: Listening,
    ) -> Result<(), Error> {
        let name = table_of(&record.session.id);
        let loaded = match at.private {
            true => keeper.backstop.load_as(&name, netns),
            false => Shared::of(&record.cgroup)
                .and_then(|whom| keeper.backstop.load_shared(&name, netns, &whom, at)),
        };
        self.gone = loaded.as_ref().err().map(|error| error.chain().to_string());
        loaded.map(|loaded| self.loaded = loaded).inspect_err(|_| self.loaded = None)
    }

    /// Loads it again unless it is as it was. True: something happened that is to be told.
    pub(super) fn look(&mut self, keeper: &Keeper, record: &Record, netns: &Netns, at: Listening) -> bool {
        let (session, cookie) = (&record.session.id, netns.cookie);
        if let Some(loaded) = &mut self.loaded {
            match keeper.backstop.holds(&table_of(session), netns, loaded) {
                Ok(true) => return false,
                Ok(false) => warn!(session, cookie, "somebody has changed its nftables table"),
                Err(error) => warn!(session, cookie, "its nftables table is not there: {error}"),
            }
        } else if self.gone.is_none() {
            return false;
        }
        let before = self.gone.take();
        match self.load(keeper, record, netns, at) {
            Ok(()) => {
                self.reloads += 1;
                info!(session, cookie, "its nftables table is loaded again");
                true
            }
            Err(error) => {
                let news = self.gone != before;
                if news {
                    warn!(session, cookie, "its nftables table cannot be loaded again: {}", error.chain());
                }
                news
            }
        }
    }

    /// It is in force.
    pub(super) fn holds(&self) -> bool {
        self.loaded.is_some()
    }

    pub(super) fn lacks(&self) -> Option<String> {
        let why = self.gone.as_ref()?;
        Some(format!("its nftables table is not in force, and cannot be loaded: {why}"))
    }
}
