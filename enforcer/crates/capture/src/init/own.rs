//! What is the agent's own in its view: `/tmp`, its home, its runtime directory; and [`OWN_VIEW`], through which it
//! connects to unix sockets.
//!
//! A place is the agent's own if nobody else can put anything there. Each is a mount of its own, so that no hard link leads
//! in, and stands in the view a second time without following symbolic links, so that none leads out.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::mount::MountFlags;

use super::view::{Tree, detach, make_dirs};
use super::{OWN_VIEW, Spec};
use crate::Error;
use crate::cgroup::mounts;
use crate::error::Doing;
use crate::sys;

pub(super) const TMP: &str = "/tmp";

/// Taken while the host's files are all in sight.
pub(super) struct Own {
    /// Only of an agent with an id of its own: where it is a user's, that user's programs make sockets there, too.
    home: Option<(Tree, PathBuf)>,
    /// The directory to start in, where it lies in the host's `/tmp`.
    here: Option<(Tree, PathBuf)>,
    runtime: PathBuf,
    sockets: Vec<(Tree, PathBuf)>,
    absent: Vec<PathBuf>,
}

impl Own {
    pub(super) fn take(spec: &Spec, cwd: &Path) -> Result<Self, Error> {
        let home = match spec.own_uid {
            true => Some((Tree::take(&spec.home)?, spec.home.clone())),
            false => None,
        };
        let inside = cwd.starts_with(TMP) && cwd != Path::new(TMP);
        let here = match inside && !(spec.own_uid && cwd.starts_with(&spec.home)) {
            true => Some((Tree::take_recursive(cwd)?, cwd.to_owned())),
            false => None,
        };
        let (mut sockets, mut absent) = (Vec::new(), Vec::new());
        for path in &spec.unix {
            match socket(path)? {
                Some(tree) => sockets.push((tree, plain(path))),
                None => absent.push(path.clone()),
            }
        }
        Ok(Own { home, here, runtime: format!("/run/user/{}", spec.uid).into(), sockets, absent })
    }

    /// After the host's places are hidden.
    pub(super) fn show_places(&self) -> Result<(), Error> {
        private_tmp()?;
        for (tree, place) in self.home.iter().chain(&self.here) {
            make_dirs(place)?;
            tree.put(place)?;
        }
        Ok(())
    }

    /// Last, when the places are as they will be. Returns the sockets that are not there.
    pub(super) fn show_sockets(self) -> Result<Vec<PathBuf>, Error> {
        let view = Path::new(OWN_VIEW);
        make_dirs(view)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("tmpfs", view, "tmpfs", flags, Some(c"mode=0755,size=1m"))
            .doing(|| format!("make {OWN_VIEW}"))?;
        // By both of its names; the link is root's, and below it nothing else is.
        make_dirs(&inside(Path::new("/run")))?;
        make_dirs(&inside(Path::new("/var")))?;
        symlink("../run", inside(Path::new("/var/run"))).doing(|| format!("make {OWN_VIEW}/var/run"))?;

        let home = self.home.as_ref().map(|(_, place)| place.as_path());
        for place in [Some(Path::new(TMP)), Some(&self.runtime), home].into_iter().flatten() {
            let again = inside(place);
            make_dirs(&again)?;
            Tree::take(place)?.put(&again)?;
            match sys::mount_without_symlinks(&again) {
                // Before Linux 5.14. No hook leads here on such a kernel.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => detach(&again)?,
                other => other.doing(|| format!("follow no symbolic links below {}", again.display()))?,
            }
        }
        for (tree, path) in self.sockets {
            let again = inside(&path);
            make_file(&again)?;
            tree.put(&again)?;
            // Where the agent looks for it, if that place is its own and so empty; elsewhere it is in sight.
            if path.starts_with("/run") || path.starts_with(TMP) {
                make_file(&path)?;
                Tree::take(&again)?.put(&path)?;
            }
        }
        Ok(self.absent)
    }
}

/// The very socket, whatever is put in its place later. `None`: there is none.
fn socket(path: &Path) -> Result<Option<Tree>, Error> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map(drop).doing(|| format!("look at {}", path.display()))?,
    }
    let tree = Tree::take(path)?;
    let status = rustix::fs::fstat(&tree.0).doing(|| format!("look at {}", path.display()))?;
    Ok((FileType::from_raw_mode(status.st_mode) == FileType::Socket).then_some(tree))
}

/// `/var/run` is a link to `/run`, and in the agent's view both are the agent's own.
fn plain(path: &Path) -> PathBuf {
    path.strip_prefix("/var/run").map_or_else(|_| path.to_owned(), |rest| Path::new("/run").join(rest))
}

fn inside(place: &Path) -> PathBuf {
    Path::new(OWN_VIEW).join(place.strip_prefix("/").unwrap_or(place))
}

fn make_file(path: &Path) -> Result<(), Error> {
    make_dirs(path.parent().unwrap_or(Path::new("/")))?;
    fs::write(path, "").doing(|| format!("make {}", path.display()))
}

/// Sockets of others lie in `/tmp`, and files that others trust.
fn private_tmp() -> Result<(), Error> {
    let real = fs::canonicalize(TMP).doing(|| format!("look at {TMP}"))?;
    for mount in mounts().doing(|| "read the mount table".into())? {
        if mount.point.starts_with(&real) {
            detach(&mount.point)?;
        }
    }
    // As large as the kernel makes one by itself: half of the memory.
    rustix::mount::mount("tmpfs", &real, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=1777"))
        .doing(|| format!("give the agent its own {TMP}"))
}
