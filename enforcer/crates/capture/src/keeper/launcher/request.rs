//! What a caller asks for, as far as the keeper can tell that it is allowed.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::Error;
use crate::attach::{Attach, Detach};
use crate::channel::Channel;
use crate::error::Doing;
use crate::forward::MOST;
use crate::identity::{self, Identity};
use crate::keeper::Keeper;
use crate::launch::{Launch, PROTOCOL, Stdio, ToKeeper as FromCaller};
use crate::peer::Peer;
use crate::sys;

/// A caller sends its request at once.
const REQUEST: Duration = Duration::from_secs(10);

/// What a caller wants.
pub(super) enum Request {
    Launch(Box<Asked>),
    /// And the process that asks.
    Attach(Attach, u32),
    Detach(Detach),
}

/// A launch that is allowed as far as the keeper can tell.
pub(super) struct Asked {
    pub(super) launch: Launch,
    pub(super) identity: Identity,
    pub(super) stdio: [OwnedFd; 3],
    pub(super) cwd: OwnedFd,
}

/// `None`: the caller went away without a word.
pub(super) fn receive(keeper: &Keeper, channel: &Channel) -> Result<Option<Request>, Error> {
    channel
        .set_receive_timeout(Some(REQUEST))
        .and_then(|()| channel.stream().set_write_timeout(Some(REQUEST)))
        .doing(|| "set a timeout".into())?;
    if keeper.stopping() {
        return Err(Error::refused("the daemon is stopping", "start it again, then run the agent"));
    }
    let peer =
        Peer::of(channel.as_fd(), &keeper.governed_cgroups()).doing(|| "see who asks for a launch".into())?;
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
    match received.message {
        FromCaller::Launch(launch) => {
            same_version(launch.protocol)?;
            allowed(keeper, launch, received.descriptors, peer.uid)
                .map(|asked| Some(Request::Launch(asked.into())))
        }
        FromCaller::Attach(attach) => {
            same_version(attach.protocol)?;
            root_only(peer.uid, "attach")?;
            Ok(Some(Request::Attach(attach, peer.pid)))
        }
        FromCaller::Detach(detach) => {
            same_version(detach.protocol)?;
            root_only(peer.uid, "detach")?;
            Ok(Some(Request::Detach(detach)))
        }
        FromCaller::Signal { .. } => {
            Err(Error::refused("a launch must come first", "use `enforcer run` of the same version"))
        }
    }
}

fn same_version(protocol: u32) -> Result<(), Error> {
    if protocol == PROTOCOL {
        return Ok(());
    }
    Err(Error::refused(
        "this `enforcer` and the running daemon are of different versions",
        "restart the daemon: systemctl restart enforcer",
    ))
}

/// Other people's processes are concerned: the group may start agents, not govern what runs.
fn root_only(uid: u32, verb: &str) -> Result<(), Error> {
    if uid == 0 {
        return Ok(());
    }
    Err(Error::Refused {
        message: format!("only root may {verb} what runs already"),
        hint: Some("run it with `sudo`".into()),
        exit_code: 4,
    })
}

fn allowed(keeper: &Keeper, launch: Launch, descriptors: Vec<OwnedFd>, caller: u32) -> Result<Asked, Error> {
    let [stdin, stdout, stderr, cwd]: [OwnedFd; 4] = descriptors.try_into().map_err(|_descriptors| {
        Error::refused("a launch needs four descriptors", "use `enforcer run` of the same version")
    })?;
    let stdio = [stdin, stdout, stderr];
    check_descriptors(&stdio, &launch.stdio, &cwd, caller)?;
    identity::check_name(&launch.agent)?;
    if launch.argv.is_empty() {
        return Err(Error::refused("there is no command to run", "enforcer run AGENT -- COMMAND"));
    }
    if launch.publish.len() > MOST {
        return Err(Error::refused(format!("at most {MOST} ports can be published"), "publish fewer"));
    }
    launch.publish.iter().try_for_each(|publish| publish.check(caller))?;
    let settings = &keeper.settings;
    let identity = match &launch.user {
        Some(user) => identity::of_user(user, caller)?,
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
    Ok(Asked { launch, identity, stdio, cwd })
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
