//! What a caller asks for, as far as the keeper can tell that it is allowed.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::Error;
use crate::channel::Channel;
use crate::error::Doing;
use crate::identity::{self, Identity};
use crate::keeper::Keeper;
use crate::launch::{Launch, PROTOCOL, Stdio, ToKeeper as FromCaller};
use crate::peer::Peer;
use crate::sys;

/// A caller sends its request at once.
const REQUEST: Duration = Duration::from_secs(10);

/// A request that is allowed as far as the keeper can tell.
pub(super) struct Asked {
    pub(super) launch: Launch,
    pub(super) identity: Identity,
    pub(super) stdio: [OwnedFd; 3],
    pub(super) cwd: OwnedFd,
}

/// `None`: the caller went away without a word.
pub(super) fn receive(keeper: &Keeper, channel: &Channel) -> Result<Option<Asked>, Error> {
    channel
        .set_receive_timeout(Some(REQUEST))
        .and_then(|()| channel.stream().set_write_timeout(Some(REQUEST)))
        .doing(|| "set a timeout".into())?;
    if keeper.stopping() {
        return Err(Error::refused("the daemon is stopping", "start it again, then run the agent"));
    }
    let peer =
        Peer::of(channel.as_fd(), &keeper.managed_root).doing(|| "see who asks for a launch".into())?;
    if peer.managed {
        return Err(Error::Refused {
            message: "an agent cannot start agents".into(),
            hint: Some("run the command from outside of any agent".into()),
            exit_code: 125,
        });
    }
    let Some(received) = channel.receive::<FromCaller>().doing(|| "read what to launch".into())? else {
        return Ok(None);
    };
    channel.set_receive_timeout(None).doing(|| "set a timeout".into())?;
    let FromCaller::Launch(launch) = received.message else {
        return Err(Error::refused("a launch must come first", "use `enforcer run` of the same version"));
    };
    if launch.protocol != PROTOCOL {
        return Err(Error::refused(
            "this `enforcer` and the running daemon are of different versions",
            "restart the daemon: systemctl restart enforcer",
        ));
    }
    let [stdin, stdout, stderr, cwd]: [OwnedFd; 4] =
        received.descriptors.try_into().map_err(|_descriptors| {
            Error::refused("a launch needs four descriptors", "use `enforcer run` of the same version")
        })?;
    let stdio = [stdin, stdout, stderr];
    check_descriptors(&stdio, &launch.stdio, &cwd, peer.uid)?;
    identity::check_name(&launch.agent)?;
    if launch.argv.is_empty() {
        return Err(Error::refused("there is no command to run", "enforcer run AGENT -- COMMAND"));
    }
    let settings = &keeper.settings;
    let identity = match &launch.user {
        Some(user) => identity::of_user(user, peer.uid)?,
        None => {
            // Two launches at once must not get the same number.
            let _one_at_a_time = keeper.ids.lock().unwrap_or_else(|e| e.into_inner());
            identity::own(&settings.state_dir, &settings.agent_ids, &launch.agent)?
        }
    };
    if identity.uid == settings.worker_id
        || (launch.user.is_some() && settings.agent_ids.contains(&identity.uid))
    {
        return Err(Error::refused(
            format!("`{}` has an id that is kept for the daemon and its agents", identity.name),
            "correct `ids` in the configuration, or run the agent as another user",
        ));
    }
    Ok(Some(Asked { launch, identity, stdio, cwd }))
}

/// Standard streams that would lead an agent out: directories and internet sockets made outside.
fn check_descriptors(
    stdio: &[OwnedFd; 3],
    kinds: &[Stdio; 3],
    cwd: &OwnedFd,
    caller: u32,
) -> Result<(), Error> {
    /// Numbers of pseudo-terminals' far sides (Documentation/admin-guide/devices.txt).
    const PTS: std::ops::RangeInclusive<u32> = 136..=143;
    let look = |fd: &OwnedFd| -> Result<fs::Metadata, Error> {
        let file = fd.try_clone().doing(|| "copy a descriptor".into())?;
        File::from(file).metadata().doing(|| "look at a descriptor".into())
    };
    for ((fd, kind), name) in stdio.iter().zip(kinds).zip(["input", "output", "error"]) {
        let metadata = look(fd)?;
        let flags = rustix::fs::fcntl_getfl(fd).doing(|| "look at a descriptor".into())?;
        let foreign_socket = metadata.file_type().is_socket()
            && !sys::socket_domain(fd.as_fd()).is_ok_and(|domain| domain == libc::AF_UNIX);
        if metadata.is_dir() || flags.contains(OFlags::PATH) || foreign_socket {
            return Err(Error::refused(
                format!("standard {name} is a network socket or a directory, which an agent must not have"),
                "pass a file, a pipe or a terminal; `| cat` in between is enough",
            ));
        }
        let theirs = metadata.file_type().is_char_device()
            && PTS.contains(&rustix::fs::major(metadata.rdev()))
            && metadata.uid() == caller;
        if *kind == Stdio::Terminal && !theirs {
            return Err(Error::refused(
                format!("standard {name} is not a terminal of the caller's own"),
                "use `enforcer run` of the same version",
            ));
        }
    }
    if !look(cwd)?.is_dir() {
        return Err(Error::refused("the working directory is no directory", "change to one and try again"));
    }
    Ok(())
}
