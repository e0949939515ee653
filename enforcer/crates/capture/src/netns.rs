//! A session's network namespace: nothing but `lo`, and our listeners opened inside it.
//!
//! Namespaces are entered by threads made for that, which end right after; the process stays where it is.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use enforcer_common::{RECORDS_PER_AGENT, SHARED_PORT_FIRST, SHARED_PORT_LAST};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::Error;
use crate::error::Doing;
use crate::kernel::Listening;
use crate::rtnetlink::{self, LO};
use crate::sys;

/// Connections of one session that wait to be accepted. Later ones try again by themselves: theirs are the records between this
/// and the share of an agent.
const BACKLOG: i32 = (RECORDS_PER_AGENT / 2) as i32;
/// On `lo` beside the loopback addresses, so that resolver libraries see a host with IPv4 and IPv6
/// (AI_ADDRCONFIG does not count 127.0.0.1 and ::1). RFC 7600: the dummy IPv4 address; RFC 6666: the discard prefix.
const DUMMY_ADDRESSES: [(IpAddr, u8); 2] = [
    (IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8)), 32),
    (IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)), 128),
];

/// Kind of socket and address.
pub(crate) type Listener = (SocketType, SocketAddr);

/// What is opened in each namespace, in the order of `ToWorker::Govern`.
pub(crate) const LISTENERS: [Listener; 6] = listeners_at(Listening::PRIVATE);
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

const fn listeners_at(at: Listening) -> [Listener; 6] {
    [
        (SocketType::STREAM, SocketAddr::new(V4, at.injector_port)),
        (SocketType::STREAM, SocketAddr::new(V6, at.injector_port)),
        (SocketType::DGRAM, SocketAddr::new(V4, at.resolver_port)),
        (SocketType::DGRAM, SocketAddr::new(V6, at.resolver_port)),
        (SocketType::STREAM, SocketAddr::new(V4, at.resolver_port)),
        (SocketType::STREAM, SocketAddr::new(V6, at.resolver_port)),
    ]
}

/// A network namespace, kept alive by this.
#[derive(Debug)]
pub(crate) struct Netns {
    pub(crate) cookie: u64,
    pub(crate) file: File,
}

/// Listeners in the order of `ToWorker::Govern`, and where they are.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) at: Listening,
    /// Without the IPv6 ones, every second of them, where the namespace has no ::1.
    pub(crate) sockets: Vec<OwnedFd>,
}

/// Sets what the resolver and injector need before `listen`: see `Records::prepare_listener`.
pub(crate) type PrepareListener<'a> = &'a (dyn Fn(BorrowedFd<'_>) -> io::Result<()> + Sync);

/// Makes `dir` a mount of its own, so that pins in it can be taken out of an agent's view in one step.
pub(crate) fn prepare_pin_dir(dir: &Path) -> Result<(), Error> {
    let doing = || format!("make {} a place for namespace pins", dir.display());
    let mounted = crate::cgroup::mounts().doing(doing)?.iter().any(|mount| mount.point == dir);
    if !mounted {
        rustix::mount::mount_bind(dir, dir).doing(doing)?;
    }
    rustix::mount::mount_change(dir, MountPropagationFlags::PRIVATE).doing(doing)
}

/// Opens what a daemon that was killed may still hold: its worker lives a moment longer, with its listeners.
pub(crate) fn once_free<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match open() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => return opened,
        }
    }
}

/// The reverse of [`prepare_pin_dir`], for when the last session is gone.
#[cfg(test)]
pub(crate) fn remove_pin_dir(dir: &Path) -> io::Result<()> {
    rustix::mount::unmount(dir, UnmountFlags::DETACH).map_err(io::Error::from)
}

impl Netns {
    /// Makes a namespace and pins it at `pin`.
    pub(crate) fn create(pin: &Path) -> Result<Self, Error> {
        File::create_new(pin).doing(|| format!("make the namespace pin {}", pin.display()))?;
        let made = in_own_thread(|| {
            sys::unshare(UnshareFlags::NEWNET)?;
            set_up()?;
            let cookie = cookie_here()?;
            rustix::mount::mount_bind("/proc/thread-self/ns/net", pin)?;
            Ok(cookie)
        });
        let opened = made
            .and_then(|cookie| Ok(Netns { cookie, file: File::open(pin)? }))
            .doing(|| "make a network namespace".into());
        if opened.is_err() {
            remove_pin(pin).doing(|| format!("remove the namespace pin {}", pin.display()))?;
        }
        opened
    }

    /// One that ends with the last descriptor, socket and process in it.
    pub(crate) fn unpinned() -> io::Result<Self> {
        in_own_thread(|| {
            sys::unshare(UnshareFlags::NEWNET)?;
            set_up()?;
            Ok(Netns { cookie: cookie_here()?, file: File::open("/proc/thread-self/ns/net")? })
        })
    }

    /// The namespace that an earlier keeper pinned.
    pub(crate) fn open(pin: &Path) -> Result<Self, Error> {
        let doing = || format!("open the namespace pin {}", pin.display());
        let file = File::open(pin).doing(doing)?;
        let cookie = inside(&file, cookie_here).doing(doing)?;
        Ok(Netns { cookie, file })
    }

    /// The namespace of a process that runs.
    pub(crate) fn of_process(pid: u32) -> io::Result<Self> {
        let file = File::open(format!("/proc/{pid}/ns/net"))?;
        let cookie = inside(&file, cookie_here)?;
        Ok(Netns { cookie, file })
    }

    /// The inode number by which `/proc` names it. No other namespace gets it while this one lives.
    pub(crate) fn inode(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    /// The [`LISTENERS`].
    pub(crate) fn open_listeners(&self, prepare: PrepareListener<'_>) -> Result<Vec<OwnedFd>, Error> {
        inside(&self.file, || once_free(|| listen(&LISTENERS, prepare))).doing(LISTENING)
    }

    /// The same in a namespace that we did not make: at the first pair of ports that nobody has there.
    pub(crate) fn open_shared_listeners(
        &self,
        private: bool,
        prepare: PrepareListener<'_>,
    ) -> Result<Listeners, Error> {
        let opened = inside(&self.file, || {
            for injector_port in (SHARED_PORT_FIRST..SHARED_PORT_LAST).step_by(2) {
                let at = Listening { private, injector_port, resolver_port: injector_port + 1 };
                match listen(&listeners_here(at), prepare) {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                    opened => return opened.map(|sockets| Some(Listeners { at, sockets })),
                }
            }
            Ok(None)
        });
        opened.doing(LISTENING)?.ok_or_else(|| {
            Error::refused(
                format!("no two ports of {SHARED_PORT_FIRST} to {SHARED_PORT_LAST} are free in the network namespace"),
                "each agent that is attached in it has two: detach one, or give the workload a namespace of its own",
            )
        })
    }

    /// What is listened at in a namespace that we did not make.
    pub(crate) fn shared_listeners(&self, at: Listening) -> io::Result<Vec<Listener>> {
        inside(&self.file, || Ok(listeners_here(at)))
    }

    /// Inside, for ordinary peers.
    pub(crate) fn listen(&self, at: &[SocketAddr]) -> io::Result<Vec<OwnedFd>> {
        inside(&self.file, || at.iter().map(|at| listen_at(*at)).collect())
    }

    /// A TCP socket inside, for connections to servers there. IPv4 as mapped addresses.
    pub(crate) fn socket(&self) -> io::Result<OwnedFd> {
        inside(&self.file, || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::STREAM, flags, None)?;
            rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
            Ok(socket)
        })
    }

    /// Runs `work` in a thread that has entered the namespace; programs it starts are inside as well.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        inside(&self.file, work)
    }

    /// Lets go of the namespace; it ends with the last socket and process in it.
    pub(crate) fn unpin(pin: &Path) -> io::Result<()> {
        remove_pin(pin)
    }
}

fn remove_pin(pin: &Path) -> io::Result<()> {
    match rustix::mount::unmount(pin, UnmountFlags::DETACH) {
        // Not a mount, or not there at all.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn in_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace panicked")))
    })
}

/// Runs `work` in a thread that has entered the namespace; programs it starts are inside as well.
fn inside<T: Send>(netns: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    in_own_thread(|| {
        rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    })
}

const LISTENING: fn() -> String =
    || "open the injector's and the resolver's listeners in the agent's network namespace".into();

fn listen(wanted: &[Listener], prepare: PrepareListener<'_>) -> io::Result<Vec<OwnedFd>> {
    wanted.iter().map(|(kind, address)| listener(*kind, *address, prepare)).collect()
}

/// Of the calling thread's namespace: without IPv6 where that has no ::1.
fn listeners_here(at: Listening) -> Vec<Listener> {
    let ipv6 = listener(SocketType::DGRAM, SocketAddr::new(V6, 0), &|_| Ok(())).is_ok();
    let mut wanted = listeners_at(at).to_vec();
    wanted.retain(|(_, address)| ipv6 || address.is_ipv4());
    wanted
}

/// Of the calling thread.
pub(crate) fn cookie_here() -> io::Result<u64> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sys::netns_cookie(socket.as_fd())
}

fn listener(kind: SocketType, address: SocketAddr, prepare: PrepareListener<'_>) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        // A restarted keeper binds over the closing connections of its predecessor. Never SO_REUSEPORT: it would
        // let another socket share the port.
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if kind == SocketType::STREAM {
        prepare(socket.as_fd())?;
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

/// A TCP socket at a free port, where the calling thread is.
pub(crate) fn bound_socket(address: IpAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(address, 0))?;
    Ok(socket)
}

/// A TCP listener for ordinary peers, where the calling thread is.
pub(crate) fn listen_at(at: SocketAddr) -> io::Result<OwnedFd> {
    listener(SocketType::STREAM, at, &|_| Ok(()))
}

/// In the new namespace: `lo` up with its addresses, no port below 1024 for agents, no ping sockets.
fn set_up() -> io::Result<()> {
    let ipv6 = Path::new("/proc/sys/net/ipv6/conf");
    if !ipv6.exists() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel runs without IPv6, which sessions need on their own lo: take `ipv6.disable=1` off its command line \
             (the setting net.ipv6.conf.all.disable_ipv6=1 is fine)",
        ));
    }
    // A host may hand its own settings to new namespaces (net.core.devconf_inherit_init_net).
    for which in ["all", "default", "lo"] {
        fs::write(ipv6.join(which).join("disable_ipv6"), "0")?;
    }
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "1024")?;
    fs::write("/proc/sys/net/ipv4/ping_group_range", "1 0")?;

    let netlink = rtnetlink::open()?;
    // Up first: the kernel adds 127.0.0.1/8 only to a loopback device without addresses.
    rtnetlink::link_up(&netlink, LO, false)?;
    for (address, prefix) in DUMMY_ADDRESSES {
        rtnetlink::add_address(&netlink, LO, address, prefix)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "netns_tests.rs"]
mod tests;
