//! What a host has running for itself, and an agent must not reach: a database on loopback,
//! deputies on unix sockets, one of which hands out a connected socket.

use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use enforcer_tests::world::plan;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::outside::banner;

/// Sockets go to `dir`; the abstract one is called like it.
pub(crate) fn serve(dir: &Path) -> Result<()> {
    banner(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), plan::HOST_LOOPBACK_PORT))?;
    banner(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), plan::HOST_ANY_PORT))?;
    std::fs::create_dir_all(dir)?;
    for name in ["deputy.sock", "docker.sock"] {
        greet(path(dir, name)?);
    }
    take_orders(dir)?;
    let name = UnixAddr::from_abstract_name(dir.as_os_str().as_encoded_bytes())?;
    greet(UnixListener::bind_addr(&name).context("bind the abstract socket")?);
    hand_out(path(dir, "giver.sock")?);
    crate::ready()
}

/// Waits with a connected socket in its hands, for `pidfd_getfd` and ptrace.
pub(crate) fn victim() -> Result<()> {
    let _held = outward()?;
    crate::ready()
}

fn path(dir: &Path, name: &str) -> Result<UnixListener> {
    let path = dir.join(name);
    let listener = UnixListener::bind(&path).with_context(|| format!("bind {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

fn greet(listener: UnixListener) {
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _whoever = stream.write_all(plan::BANNER.as_bytes());
        }
    });
}

/// As a system log or a supervisor does: whoever can send a datagram is served.
fn take_orders(dir: &Path) -> Result<()> {
    let path = dir.join("deputy.dgram");
    let socket = UnixDatagram::bind(&path).with_context(|| format!("bind {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    thread::spawn(move || while socket.recv(&mut [0; 64]).is_ok() {});
    Ok(())
}

fn hand_out(listener: UnixListener) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(socket) = outward() else { continue };
            let fds = [socket.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&fds));
            let _whoever = sendmsg(&stream, &[IoSlice::new(b"!")], &mut control, SendFlags::NOSIGNAL);
        }
    });
}

/// A socket that leads outside already.
fn outward() -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((plan::ATTACKER_V4, 4444)).context("connect to the attacker")?;
    Ok(socket)
}
