//! One keeper with everything of its own, taken apart at the end.

use std::collections::BTreeMap;
use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

pub(crate) const ROLES: &str = env!("CARGO_BIN_EXE_enforcer-capture-roles");

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) run_dir: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) keeper: Option<Child>,
    notices: UnixDatagram,
}

impl World {
    pub(crate) fn new() -> Self {
        World::in_run_dir(|name| Path::new("/run").join(name))
    }

    pub(crate) fn in_run_dir(place: impl FnOnce(&str) -> PathBuf) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "these tests make namespaces and need root");
        let name = format!("enforcer-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let dir = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in("/var/tmp")
            .unwrap();
        let run_dir = place(&name);
        let notices = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        notices.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let world = World {
            root: enforcer_capture::cgroup::managed_root(&name).unwrap(),
            run_dir,
            keeper: None,
            notices,
            dir,
        };
        world.put("run_dir", world.run_dir.to_str().unwrap());
        world.put("managed_root", &name);
        world.put("config", &world.certificate("ca"));
        world
    }

    pub(crate) fn started() -> Self {
        let mut world = World::new();
        world.start();
        world
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    pub(crate) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// A self-signed root, as PEM, with its key beside it.
    pub(crate) fn certificate(&self, name: &str) -> String {
        let path = |extension: &str| self.dir.path().join(format!("{name}.{extension}"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-days", "2", "-subj", &format!("/CN=test {name}"), "-keyout"])
            .arg(path("key"))
            .arg("-out")
            .arg(path("pem"))
            .output()
            .unwrap();
        assert!(made.status.success());
        fs::read_to_string(path("pem")).unwrap()
    }

    pub(crate) fn spawn_keeper(&mut self) {
        self.spawn_keeper_with(Vec::new());
    }

    /// With descriptors passed as systemd does.
    pub(crate) fn spawn_keeper_with(&mut self, stored: Vec<OwnedFd>) {
        let log = fs::OpenOptions::new().append(true).create(true).open(self.dir.path().join("log")).unwrap();
        // Of root's alone, wherever the tests were built: what a daemon becomes must be.
        let program = self.dir.path().join("program");
        if !program.exists() {
            fs::copy(ROLES, &program).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = match stored.len() {
            0 => Command::new(&program),
            number => {
                let mut shell = Command::new("/bin/sh");
                let line = format!("LISTEN_FDS={number} LISTEN_PID=$$ exec \"$0\" \"$@\"");
                shell.args(["-c", &line]).arg(&program);
                pass(&mut shell, stored);
                shell
            }
        };
        let child = command
            .arg("keeper")
            .arg(self.dir.path())
            .env("NOTIFY_SOCKET", self.dir.path().join("notify"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.keeper = Some(child);
    }

    pub(crate) fn start(&mut self) {
        self.spawn_keeper();
        self.await_notice("READY=1");
    }

    /// What the keeper has had stored so far, and not removed again: the descriptors of each name.
    pub(crate) fn stored(&self) -> BTreeMap<String, Vec<OwnedFd>> {
        let mut store = BTreeMap::<String, Vec<OwnedFd>>::new();
        let mut buffer = [0u8; 4096];
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let received = rustix::net::recvmsg(
                &self.notices,
                &mut [IoSliceMut::new(&mut buffer)],
                &mut beside,
                RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
            );
            let Ok(received) = received else { return store };
            let words = String::from_utf8_lossy(&buffer[..received.bytes]).into_owned();
            let name = words.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or_default();
            if words.contains("FDSTORE=1") {
                let fds = store.entry(name.to_owned()).or_default();
                for message in beside.drain() {
                    if let RecvAncillaryMessage::ScmRights(passed) = message {
                        fds.extend(passed);
                    }
                }
            } else if words.contains("FDSTOREREMOVE=1") {
                store.remove(name);
            }
        }
    }

    pub(crate) fn await_notice(&self, wanted: &str) {
        let mut buffer = [0u8; 4096];
        loop {
            let n = self
                .notices
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("no {wanted}: {error}\n{}", self.file("log")));
            if String::from_utf8_lossy(&buffer[..n]).contains(wanted) {
                return;
            }
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.run_dir.join("launch.sock")
    }

    /// `enforcer run AGENT -- COMMAND…`, not started yet.
    pub(crate) fn command(&self, agent: &str, user: Option<&str>, command: &[&str]) -> Command {
        let mut run = Command::new(ROLES);
        run.arg("run").arg(self.socket()).arg(agent).arg(user.unwrap_or("-")).args(command);
        run.current_dir("/").stdin(Stdio::null());
        run
    }

    pub(crate) fn run(&self, command: &[&str]) -> Output {
        self.command("bot", None, command).output().unwrap()
    }

    /// Runs a script as `bot` and returns its output; it must succeed.
    pub(crate) fn shell(&self, script: &str) -> String {
        let output = self.run(&["/bin/sh", "-c", script]);
        assert!(
            output.status.success(),
            "{}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.file("log")
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn sessions(&self) -> Vec<String> {
        names(&self.run_dir.join("sessions"))
    }

    pub(crate) fn signal_keeper(&self, signal: rustix::process::Signal) {
        let child = self.keeper.as_ref().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
    }

    pub(crate) fn worker_pid(&self) -> u32 {
        let keeper = self.keeper.as_ref().unwrap().id();
        // It is a child of the thread that keeps it running.
        for task in fs::read_dir(format!("/proc/{keeper}/task")).unwrap() {
            let path = task.unwrap().path().join("children");
            for pid in fs::read_to_string(path).unwrap_or_default().split_whitespace() {
                let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                if arguments.split(|byte| *byte == 0).nth(1) == Some(b"worker") {
                    return pid.parse().unwrap();
                }
            }
        }
        panic!("no worker runs\n{}", self.file("log"));
    }

    /// Nothing of any session is left.
    pub(crate) fn await_clean(&self) {
        eventually("sessions are taken apart", || {
            ["sessions", "netns", "trust"].iter().all(|place| names(&self.run_dir.join(place)).is_empty())
                && cgroups(&self.root).is_empty()
                && self.mounts().len() <= 1
        });
    }

    /// Mount points below the run directory: the directory of pins alone when no session runs.
    pub(crate) fn mounts(&self) -> Vec<String> {
        fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|point| Path::new(point).starts_with(&self.run_dir))
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        self.signal_keeper(rustix::process::Signal::TERM);
        self.keeper.take().unwrap().wait().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.kill());
            drop(keeper.wait());
        }
        for cgroup in cgroups(&self.root) {
            let cgroup = self.root.join(cgroup);
            drop(fs::write(cgroup.join("cgroup.kill"), "1"));
            for _ in 0..100 {
                if fs::remove_dir(&cgroup).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        drop(fs::remove_dir(&self.root));
        rustix::mount::unmount(self.run_dir.join("netns"), rustix::mount::UnmountFlags::DETACH).ok();
        drop(fs::remove_dir_all(&self.run_dir));
        if std::thread::panicking() {
            #[allow(clippy::print_stderr, reason = "shows why a test failed")]
            {
                eprintln!("{}", self.file("log"));
            }
        }
    }
}

/// As descriptors from 3 on.
fn pass(command: &mut Command, descriptors: Vec<OwnedFd>) {
    use std::os::unix::process::CommandExt;
    // Above all numbers that they get.
    let high: Vec<_> =
        descriptors.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 100).unwrap()).collect();
    // SAFETY: system calls only, between fork and exec.
    unsafe {
        command.pre_exec(move || {
            for (number, fd) in (3..).zip(&high) {
                if libc::dup2(fd.as_raw_fd(), number) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

pub(crate) fn cgroups(root: &Path) -> Vec<String> {
    names(root).into_iter().filter(|name| root.join(name).is_dir()).collect()
}

pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !check() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
