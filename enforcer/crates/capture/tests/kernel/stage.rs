//! A stage for one test: managed root, agents, network namespaces, listeners.
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aya::programs::links::{FdLink, PinnedLink};
use enforcer_capture::events::{Events, Refused};
use enforcer_capture::kernel::{Kernel, KernelError, Layout, Listening};
use enforcer_capture::records::Records;
use rustix::thread::LinkNameSpaceType;

/// Longer than any agent here should take, shorter than a hanging connect; full storms take as long as they take.
fn agent_seconds() -> &'static str {
    if std::env::var_os("ENFORCER_STORM").is_some() { "1800" } else { "60" }
}

pub(crate) struct Stage {
    pub(crate) kernel: Option<Kernel>,
    // Dropped in this order: what holds on to something goes before what it holds on to.
    pub(crate) cgroups: Cgroups,
    bpffs: Bpffs,
}

impl Stage {
    /// A managed root with the programs attached and no agent yet.
    pub(crate) fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests load eBPF programs and make namespaces: run them as root"
        );
        let bpffs = Bpffs::new();
        let cgroups = Cgroups::new();
        let mut stage = Stage { kernel: None, cgroups, bpffs };
        stage.start().unwrap_or_else(|error| panic!("{error}: {:?}\nhint: {}", error, error.hint()));
        stage
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout { managed_root: self.cgroups.root.clone(), pins: self.bpffs.mount.path().join("pins") }
    }

    pub(crate) fn start(&mut self) -> Result<(), KernelError> {
        self.kernel = Some(Kernel::start(&self.layout())?);
        Ok(())
    }

    /// As `kill -9` of the keeper: its descriptors are closed, nothing is undone.
    pub(crate) fn kill_keeper(&mut self) {
        self.kernel = None;
    }

    pub(crate) fn kernel(&self) -> &Kernel {
        self.kernel.as_ref().unwrap()
    }

    /// A governed agent with a namespace of its own.
    pub(crate) fn agent(&self, name: &str) -> Agent {
        let agent = self.stranger(name);
        self.govern(&agent, true);
        agent
    }

    /// From now on it may connect from its namespace.
    pub(crate) fn govern(&self, agent: &Agent, private: bool) {
        let at = Listening { private, ..Listening::PRIVATE };
        self.kernel().admit(agent.cgroup_id, agent.netns.cookie, at).unwrap();
        self.kernel().govern(agent.cgroup_id).unwrap();
    }

    /// The same, but the programs do not know it.
    pub(crate) fn stranger(&self, name: &str) -> Agent {
        let cgroup = self.cgroups.root.join(name);
        fs::create_dir(&cgroup).unwrap();
        let cgroup_id = fs::metadata(&cgroup).unwrap().ino();
        Agent { cgroup, cgroup_id, netns: Netns::new() }
    }

    /// The refusals so far.
    pub(crate) fn refusals(&self) -> Vec<Refused> {
        let events = self.kernel().events().unwrap();
        unprivileged(move || {
            let mut events = Events::new(events).unwrap();
            std::iter::from_fn(|| events.next()).collect()
        })
    }

    /// `hook reason` of each, for one agent.
    pub(crate) fn reasons(&self, agent: &Agent) -> Vec<String> {
        let mine = self.refusals().into_iter().filter(|refused| refused.cgroup_id == agent.cgroup_id);
        mine.map(|refused| format!("{} {}", refused.hook, refused.reason)).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.cgroups.kill();
        self.kernel = None;
        if let Err(error) = Kernel::unmanage(&self.layout()) {
            eprintln!("the stage was not taken down: {error}: {error:?}");
        }
    }
}

/// One agent: a child of the managed root, and a network namespace.
pub(crate) struct Agent {
    pub(crate) cgroup: PathBuf,
    pub(crate) cgroup_id: u64,
    pub(crate) netns: Netns,
}

impl Agent {
    /// Runs a Python program as this agent and gives what it printed.
    pub(crate) fn run(&self, program: &str) -> String {
        self.run_in(&self.netns, program)
    }

    /// The same in another namespace.
    pub(crate) fn run_in(&self, netns: &Netns, program: &str) -> String {
        let Output { status, stdout, stderr } = self.command(netns, program);
        let stdout = String::from_utf8(stdout).unwrap();
        assert!(status.success(), "{status}\n{stdout}\n{}", String::from_utf8_lossy(&stderr));
        stdout.trim_end().to_owned()
    }

    fn command(&self, netns: &Netns, program: &str) -> Output {
        let mut command = self.prepare("python3", &["-c", &format!("{PRELUDE}{program}")]);
        netns.enter(|| command.output().unwrap())
    }

    /// A program of this agent's, to be started in a namespace.
    pub(crate) fn prepare(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        // Into the cgroup first: a socket belongs to the cgroup that it was made in.
        command.args([agent_seconds(), "sh", "-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]);
        command.arg(&self.cgroup).arg(program).args(arguments);
        command
    }
}

/// What the agents' programs have at hand.
const PRELUDE: &str = r"
import socket, os, sys, errno, struct
from socket import *
def name(error): return errno.errorcode[error.errno]
def attempt(what, *arguments):
    try: return what(*arguments)
    except OSError as error: return name(error)
";

/// A network namespace with only `lo`, up, and the dummy addresses.
pub(crate) struct Netns {
    fd: OwnedFd,
    pub(crate) cookie: u64,
}

impl Netns {
    pub(crate) fn new() -> Self {
        std::thread::spawn(|| {
            // SAFETY: only this thread, which makes the namespace, starts children in it and ends, is concerned.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
            ip("link set lo up");
            ip("addr add 192.0.0.8/32 dev lo");
            ip("-6 addr add 100::1/128 dev lo");
            let fd = OwnedFd::from(fs::File::open("/proc/thread-self/ns/net").unwrap());
            let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            Netns { fd, cookie: netns_cookie(&probe) }
        })
        .join()
        .unwrap()
    }

    /// Runs `work` on a thread in this namespace.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    rustix::thread::move_into_link_name_space(
                        self.fd.as_fd(),
                        Some(LinkNameSpaceType::Network),
                    )
                    .unwrap();
                    work()
                })
                .join()
                .unwrap()
        })
    }

    /// The injector's listeners: 127.0.0.1 and ::1.
    pub(crate) fn injectors(&self) -> [TcpListener; 2] {
        self.enter(|| {
            [listener((Ipv4Addr::LOCALHOST, 923).into()), listener((Ipv6Addr::LOCALHOST, 923).into())]
        })
    }
}

pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Listens with the SYN kept, and as long a queue as the keeper's.
fn listener(address: SocketAddr) -> TcpListener {
    let family =
        if address.is_ipv4() { rustix::net::AddressFamily::INET } else { rustix::net::AddressFamily::INET6 };
    let socket = rustix::net::socket(family, rustix::net::SocketType::STREAM, None).unwrap();
    Records::prepare_listener(socket.as_fd()).unwrap();
    rustix::net::bind(&socket, &address).unwrap();
    rustix::net::listen(&socket, (enforcer_common::RECORDS_PER_AGENT / 2) as i32).unwrap();
    impatient(&socket);
    TcpListener::from(socket)
}

/// Accepting and receiving fail after a while: when an agent fails, its test fails too, and the stage is taken down.
pub(crate) fn impatient(socket: &impl AsFd) {
    let timeout = Some(Duration::from_secs(20));
    rustix::net::sockopt::set_socket_timeout(socket, rustix::net::sockopt::Timeout::Recv, timeout).unwrap();
}

fn netns_cookie(socket: &impl AsFd) -> u64 {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the descriptor is open (borrowed); the kernel writes at most len bytes to cookie.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    assert_eq!(result, 0, "SO_NETNS_COOKIE: {}", io::Error::last_os_error());
    cookie
}

/// Runs `work` on a thread of user 65534 without capabilities: what the worker may do.
pub(crate) fn unprivileged<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let nobody = 65534;
                let gid = rustix::fs::Gid::from_raw(nobody);
                let uid = rustix::fs::Uid::from_raw(nobody);
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_res_gid(Some(gid), Some(gid), Some(gid)).unwrap();
                // Leaving user 0 with all three ids empties the permitted and effective sets of this thread.
                rustix::thread::set_thread_res_uid(Some(uid), Some(uid), Some(uid)).unwrap();
                let left = rustix::thread::capabilities(None).unwrap();
                assert!(left.effective.is_empty() && left.permitted.is_empty(), "{left:?}");
                work()
            })
            .join()
            .unwrap()
    })
}

/// A managed root with a name that nobody else uses.
pub(crate) struct Cgroups {
    pub(crate) root: PathBuf,
}

impl Cgroups {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("enforcer-kernel-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let root = cgroup2().join(name);
        fs::create_dir(&root).unwrap();
        Cgroups { root }
    }

    pub(crate) fn kill(&self) {
        // Nothing to do when a test removed the root itself.
        _ = fs::write(self.root.join("cgroup.kill"), "1");
    }

    /// Kills what is in it and removes it with its children.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.kill();
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match remove_tree(&self.root) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => return other,
            }
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("cannot remove {}: {error}", self.root.display());
        }
    }
}

/// The programs that the links pinned in a directory hold, by name of the pin.
pub(crate) fn programs(pins: &Path) -> BTreeMap<String, u32> {
    let links = fs::read_dir(pins).unwrap().map(|entry| entry.unwrap());
    let links = links.filter(|entry| entry.file_name().to_string_lossy().starts_with("link_"));
    let program = |entry: fs::DirEntry| {
        let link = FdLink::from(PinnedLink::from_pin(entry.path()).unwrap());
        (entry.file_name().to_string_lossy().into_owned(), link.info().unwrap().program_id())
    };
    links.map(program).collect()
}

/// Pins a map of agents with room for more than this version's, in the place of what is pinned there.
pub(crate) fn pin_other_agents(pin: &Path, agents: &[u64]) {
    let mut map = aya::maps::HashMap::<_, u64, u64>::create(4096, 0).unwrap();
    for cgroup_id in agents {
        map.insert(cgroup_id, 0, 0).unwrap();
    }
    fs::remove_file(pin).unwrap();
    map.pin(pin).unwrap();
}

/// Cgroups are removed bottom up; the files in them are the kernel's.
fn remove_tree(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

pub(crate) fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next() == Some("cgroup2")).then(|| PathBuf::from(path))
    });
    mounts.next().expect("cgroup2 is mounted")
}

/// A bpffs of the test's own, so that nothing of it can meet the host's pins.
struct Bpffs {
    mount: tempfile::TempDir,
}

impl Bpffs {
    fn new() -> Self {
        let mount = tempfile::Builder::new().prefix("enforcer-kernel-test-").tempdir().unwrap();
        rustix::mount::mount("bpf", mount.path(), "bpf", rustix::mount::MountFlags::empty(), c"mode=0700")
            .unwrap();
        Bpffs { mount }
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        if let Err(error) = rustix::mount::unmount(self.mount.path(), rustix::mount::UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.mount.path().display());
        }
    }
}
