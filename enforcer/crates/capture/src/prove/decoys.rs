//! What attempts on the host itself aim at: servers on unix sockets and on loopback, and a process to take hold of. All ours, all
//! harmless, gone with their owner.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use enforcer_probe::BANNER;

use crate::channel::Channel;
use crate::netns::Netns;
use crate::sys;

/// Agents see it, and so does everybody.
const PLACE: &str = "/tmp";
const PREFIX: &str = "enforcer-prove-";

/// Everybody may reach them, on purpose.
pub(super) struct Decoys {
    pub(super) dir: PathBuf,
    /// Of a service on the host's loopback.
    pub(super) port: u16,
    victim: Child,
}

impl Decoys {
    /// `beyond`: a namespace with a way out; sockets that are handed over or taken lead there, to `givers` and `victims`.
    pub(super) fn new(beyond: &Netns, giver: Ipv4Addr, victim: Ipv4Addr, ordinary: u32) -> io::Result<Self> {
        let dir = Path::new(PLACE).join(format!("{PREFIX}{}", std::process::id()));
        sweep();
        DirBuilder::new().mode(0o700).create(&dir)?;
        fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
        let made = Self::fill(&dir, beyond, giver, victim, ordinary);
        if made.is_err() {
            let _first_error_counts = fs::remove_dir_all(&dir);
        }
        made
    }

    fn fill(
        dir: &Path,
        beyond: &Netns,
        giver: Ipv4Addr,
        victim: Ipv4Addr,
        ordinary: u32,
    ) -> io::Result<Self> {
        for name in ["deputy.sock", "docker.sock"] {
            greet(open_to_all(&dir.join(name), |path| UnixListener::bind(path))?)?;
        }
        let orders = open_to_all(&dir.join("deputy.dgram"), |path| UnixDatagram::bind(path))?;
        served(move || while orders.recv(&mut [0; 64]).is_ok() {})?;
        greet(UnixListener::bind_addr(&SocketAddr::from_abstract_name(
            dir.as_os_str().as_encoded_bytes(),
        )?)?)?;
        let outward = |to: Ipv4Addr| {
            beyond.within(|| {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
                socket.connect((to, 4444))?;
                Ok(OwnedFd::from(socket))
            })
        };
        let giving = open_to_all(&dir.join("giver.sock"), |path| UnixListener::bind(path))?;
        let given = outward(giver)?;
        served(move || {
            for stream in giving.incoming().flatten() {
                let _whoever = Channel::new(stream).send(&"!", &[given.as_fd()]);
            }
        })?;
        let loopback = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = loopback.local_addr()?.port();
        served(move || {
            for mut stream in loopback.incoming().flatten() {
                let _whoever = stream.write_all(BANNER.as_bytes());
            }
        })?;
        let held = outward(victim)?;
        let mut command = Command::new("/proc/self/exe");
        command.args(["attempt", "--hold"]).env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        sys::become_ordinary(&mut command, None, ordinary, &[], Some(held.as_raw_fd()));
        Ok(Decoys { dir: dir.to_owned(), port, victim: command.spawn()? })
    }

    pub(super) fn victim(&self) -> u32 {
        self.victim.id()
    }
}

impl Drop for Decoys {
    fn drop(&mut self) {
        let _it_may_be_gone = self.victim.kill();
        let _reaped = self.victim.wait();
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!("{} is left: {error}", self.dir.display());
        }
    }
}

/// What a prover left that was killed.
fn sweep() {
    for entry in fs::read_dir(PLACE).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
        // Of root's making only: the place is open to all.
        let roots = entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == 0);
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) && roots {
            let _another_may_sweep_too = fs::remove_dir_all(entry.path());
        }
    }
}

fn open_to_all<S>(path: &Path, bind: impl FnOnce(&Path) -> io::Result<S>) -> io::Result<S> {
    let socket = bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o666))?;
    Ok(socket)
}

fn greet(listener: UnixListener) -> io::Result<()> {
    served(move || {
        for mut stream in listener.incoming().flatten() {
            let _whoever = stream.write_all(BANNER.as_bytes());
        }
    })
}

/// In a thread that ends with the process.
fn served(serve: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("decoy".into()).spawn(serve).map(drop)
}
