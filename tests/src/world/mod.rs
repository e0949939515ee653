//! The stage: two network namespaces, real servers in one, the daemon and its agents in the other.
//!
//! Stages stand side by side: every name, path, cgroup and namespace carries the owner's pid and
//! number. Everything is gone when [`World`] is dropped, and a janitor does the same when the
//! owner is killed before it could.

pub mod agent;
pub mod command;
pub mod container;
pub mod daemon;
mod manager;
pub(crate) mod net;
pub mod outside;
mod pki;
pub mod plan;
mod sweep;
pub mod workload;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub use self::command::{Output, Running};
pub use self::daemon::Daemon;
pub use self::outside::Seen;
pub use self::sweep::{all, cgroup_root, leftovers, processes, sweep};
use crate::sniff::Sniffer;

/// The user that runs a probe without a guard. No agent gets it: agents are given 61600 and up
/// from the bottom.
pub const UNGUARDED_UID: u32 = 61_990;

/// Where Debian has programmes, in its order.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Values that must be found nowhere but in the upstream's log.
#[derive(Clone, Debug)]
pub struct Canaries {
    pub bearer: String,
    pub api_key: String,
    pub git_password: String,
}

impl Canaries {
    fn random() -> Result<Self> {
        let value = || -> Result<String> {
            let mut bytes = [0; 20];
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
            Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
        };
        Ok(Canaries {
            bearer: format!("canary-b-{}", value()?),
            api_key: format!("canary-k-{}", value()?),
            git_password: format!("canary-g-{}", value()?),
        })
    }

    /// What git sends after `Basic `.
    pub fn basic(&self) -> String {
        base64(format!("bot:{}", self.git_password).as_bytes())
    }

    pub fn all(&self) -> [&str; 3] {
        [&self.bearer, &self.api_key, &self.git_password]
    }
}

/// A stage. See the module.
#[derive(Debug)]
pub struct World {
    pub name: String,
    /// Everything that is a file.
    pub dir: PathBuf,
    pub host_netns: PathBuf,
    pub outside_netns: PathBuf,
    pub canaries: Canaries,
    pub sniffer: Sniffer,
    children: Mutex<Vec<Child>>,
    janitor: Child,
}

impl World {
    /// Builds the stage without a daemon; see [`World::daemon`].
    pub fn new() -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the stage needs root for its namespaces, cgroups and BPF programs. Run: sudo -E cargo xtask test"
        );
        sweep::sweep_abandoned();
        let tools = Tools::find()?;
        let name = sweep::fresh_name();
        let dir = sweep::dir(&name);
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        tools.install(&dir.join("bin"))?;
        let janitor = janitor(&dir, &name)?;
        let (host_netns, outside_netns) = (sweep::host_netns(&name), sweep::outside_netns(&name));
        let built = build(&name, &dir, &host_netns, &outside_netns);
        let (canaries, children, sniffer) = match built {
            Ok(parts) => parts,
            Err(error) => {
                // The janitor would do it too; the caller should find nothing when it reads the error.
                let _first_error_counts = sweep(&name);
                return Err(error.context(format!("build the stage {name}")));
            }
        };
        let children = Mutex::new(children);
        Ok(World { name, dir, host_netns, outside_netns, canaries, sniffer, children, janitor })
    }

    /// A programme of the stage or of the product, as installed for this stage.
    pub fn bin(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }

    /// A command as root on the host.
    pub fn on_host<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Command {
        inside(&self.host_netns, words)
    }

    /// A command as root outside.
    pub fn outside<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Command {
        inside(&self.outside_netns, words)
    }

    /// A command on the host as an ordinary user, with no guard at all.
    pub fn unguarded<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Command {
        let uid = UNGUARDED_UID.to_string();
        let mut command =
            self.on_host(&["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups", "--"]);
        command.args(words.iter().map(AsRef::as_ref));
        command
    }

    /// Everything that nginx was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        outside::seen(&self.dir.join("outside"))
    }

    /// Waits for a request upstream; nginx writes its log after the answer.
    pub fn wait_seen(&self, wanted: impl Fn(&Seen) -> bool) -> Option<Seen> {
        self.watch(Duration::from_secs(20), wanted)
    }

    /// Whether no such request comes for a while.
    pub fn never_seen(&self, wanted: impl Fn(&Seen) -> bool) -> bool {
        self.watch(Duration::from_secs(2), wanted).is_none()
    }

    fn watch(&self, limit: Duration, wanted: impl Fn(&Seen) -> bool) -> Option<Seen> {
        let deadline = Instant::now() + command::patient(limit);
        loop {
            if let Some(seen) = self.seen().into_iter().rev().find(|s| wanted(s)) {
                return Some(seen);
            }
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The certificate authority of the servers outside.
    pub fn upstream_ca(&self) -> PathBuf {
        self.dir.join("pki/ca.pem")
    }

    /// Where the host's own unix sockets are.
    pub fn deputies(&self) -> PathBuf {
        self.dir.join("deputies")
    }

    /// A process of user `uid` that holds a socket which leads outside.
    pub fn victim(&self, uid: u32) -> Result<u32> {
        let id = uid.to_string();
        let stage = self.bin("stage");
        let mut command = self.on_host(&["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
        command.arg(stage).arg("victim");
        self.server(command, &self.dir.join("outside/victim.log"))
    }

    /// A server that says `ready` on its first line; it lives as long as the stage. Returns its process.
    pub fn server(&self, command: Command, log: &Path) -> Result<u32> {
        let child = server(command, log)?;
        let pid = child.id();
        self.children.lock().unwrap_or_else(|e| e.into_inner()).push(child);
        Ok(pid)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            daemon::keep_log(self);
        }
        let swept = sweep(&self.name);
        for child in self.children.get_mut().unwrap_or_else(|e| e.into_inner()) {
            let _reaped = child.wait();
        }
        drop(self.janitor.stdin.take());
        let _reaped = self.janitor.wait();
        if let Err(error) = swept {
            use std::io::Write;
            // A second panic would abort and hide the first; the leftover test catches this too.
            let _best_effort = writeln!(std::io::stderr(), "stage {} was not removed: {error:#}", self.name);
        }
    }
}

type Parts = (Canaries, Vec<Child>, Sniffer);

fn build(name: &str, dir: &Path, host: &Path, beyond: &Path) -> Result<Parts> {
    net::prepare()?;
    net::make(name)?;
    pki::make(&dir.join("pki"))?;
    let canaries = Canaries::random()?;
    let mut children = outside::start(beyond, &dir.join("outside"), &canaries)?;
    let stage = dir.join("bin/stage");
    let mut servers = inside(beyond, &[&stage]);
    servers.arg("outside");
    children.push(server(servers, &dir.join("outside/servers.log"))?);
    let mut deputies = inside(host, &[&stage]);
    deputies.arg("host").arg(dir.join("deputies"));
    children.push(server(deputies, &dir.join("outside/deputies.log"))?);
    let bpffs = dir.join("bpf");
    fs::create_dir(&bpffs)?;
    command::must(&["mount", "-t", "bpf", "bpf", &bpffs.display().to_string()])?;
    let sniffer = Sniffer::start(beyond, plan::HOST_MAC)?;
    Ok((canaries, children, sniffer))
}

/// `nsenter`, not `ip netns exec`: the latter mounts a new /sys, without the cgroups. The environment
/// is a small known one: trust variables of the person who runs the tests would decide tests.
fn inside<S: AsRef<std::ffi::OsStr>>(netns: &Path, words: &[S]) -> Command {
    let mut command = clean("nsenter");
    command.arg(format!("--net={}", netns.display())).arg("--");
    command.args(words);
    command
}

fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).env("HOME", "/root").env("LANG", "C.UTF-8");
    command
}

/// Starts a server that says `ready` on its first line.
fn server(mut command: Command, log: &Path) -> Result<Child> {
    let typed = command::typed(&command);
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(log)?)
        .spawn()
        .with_context(|| format!("start `{typed}`"))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    ensure!(line == "ready\n", "`{typed}` did not start:\n{}", fs::read_to_string(log)?);
    Ok(child)
}

/// In a process group of its own, so that Ctrl-C at the terminal ends the owner and not the janitor.
fn janitor(dir: &Path, name: &str) -> Result<Child> {
    // Named by /proc/self/exe of a copy elsewhere: it must outlive the directory it removes, and
    // not be taken for a part of the stage.
    let stage = Tools::find()?.dir.join("stage");
    Command::new(stage)
        .args(["janitor", name])
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start the janitor of {}", dir.display()))
}

/// Where cargo puts the programmes.
struct Tools {
    dir: PathBuf,
}

impl Tools {
    fn find() -> Result<Self> {
        let me = std::env::current_exe()?;
        let dir = me.ancestors().skip(1).find(|d| d.join("stage").is_file() && d.join("probe").is_file());
        let dir =
            dir.context("the stage's programmes are not built. Run: cargo build -p enforcer-tests --bins")?;
        Ok(Tools { dir: dir.to_owned() })
    }

    /// Into a directory that every user can reach, as a package would; the checkout may be private.
    fn install(&self, to: &Path) -> Result<()> {
        fs::create_dir(to)?;
        let product =
            std::env::var_os("ENFORCER_BIN").map_or_else(|| self.dir.join("enforcer"), PathBuf::from);
        let ours = ["stage", "probe", "traffic"].map(|name| (self.dir.join(name), name));
        for (from, name) in ours.into_iter().chain([(product, "enforcer")]) {
            // The daemon's absence is told when a daemon is asked for: half of the tests need none.
            if from.exists() {
                let target = to.join(name);
                // The programmes are large: a second name is enough where it can be had.
                if fs::hard_link(&from, &target).is_err() {
                    fs::copy(&from, &target).with_context(|| format!("install {}", from.display()))?;
                }
            }
        }
        Ok(())
    }
}

pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, b| (w << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let index = (word >> (18 - 6 * i)) & 63;
            out.push(if i <= chunk.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_has_the_published_vectors() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(super::base64(plain.as_bytes()), coded);
        }
    }
}
