//! `enforcer unmanage`: the only way our programs leave the kernel as a whole, and not while they hold anybody: who runs would
//! be free to use the network.

use std::path::Path;

use crate::Error;
use crate::backstop::{self, Backstop};
use crate::cgroup::{self, Cgroup};
use crate::error::Doing;
use crate::kernel::{Kernel, Layout};
use crate::netns::Netns;

/// Refuses, with what to do, while processes run under the managed root or in a cgroup that is attached. The kernel is asked which
/// those are, so that one whose record is lost is among them.
pub fn check(layout: &Layout) -> Result<(), Error> {
    let root = &layout.managed_root;
    if populated(root, cgroup::id(root).unwrap_or_default())? {
        return Err(Error::refused(
            format!("agents are running under {}", root.display()),
            "stop them first: they would be free to use the network (`enforcer agents` lists them)",
        ));
    }
    for (session, id) in Kernel::attached_to(layout)? {
        let doing = || format!("find the cgroup of the attached session {session}");
        let hierarchy = cgroup::hierarchy()?;
        // Unknown is yes: an id that the kernel names and that is nowhere is looked for again by a person.
        let path = cgroup::find(&hierarchy, id).doing(doing)?.ok_or_else(|| {
            Error::refused(
                format!(
                    "the attached session {session} holds a cgroup that is not below {}",
                    hierarchy.display()
                ),
                "try again; in a container, do it on the host",
            )
        })?;
        if populated(&path, id)? {
            return Err(Error::refused(
                format!("processes run in {}, which is attached as session {session}", path.display()),
                format!(
                    "they would be free to use the network: end them, or have the daemon let go of them \
                     (`systemctl start enforcer`, `enforcer detach {session}`)"
                ),
            ));
        }
    }
    Ok(())
}

/// After [`check`]: detaches everything and removes the pins. `false`: there was nothing to let go of.
pub fn unmanage(layout: &Layout) -> Result<bool, Error> {
    check(layout)?;
    let here = Netns::of_process(std::process::id()).doing(|| "look at our own network namespace".into())?;
    for (session, _) in Kernel::attached_to(layout)? {
        // What is started in its cgroup later is nobody's agent. Its other namespaces have ended with their processes.
        Backstop::find().unload(&backstop::table_of(&session), &here)?;
    }
    Ok(Kernel::unmanage(layout)?)
}

fn populated(path: &Path, id: u64) -> Result<bool, Error> {
    let cgroup = Cgroup { path: path.to_owned(), id };
    cgroup.populated().doing(|| format!("look whether anything runs in {}", path.display()))
}
