//! Containers as an engine starts them: runc, a root file system of their own, Docker's capabilities, and a cgroup below one that
//! somebody named (`--cgroup-parent`). They share the network of the stage's box, as the containers of one pod do.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::command::{self, Output};
use super::{PATH, World, net, sweep};

/// One command in it, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// What Docker gives to root in a container.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
];
/// Programs of the stage, and who signs its servers, as a container finds them.
pub const STAGE: &str = "/stage";
pub const UPSTREAM_CA: &str = "/etc/upstream.pem";

/// The containers of one cgroup.
#[derive(Debug)]
pub struct Pod<'w> {
    world: &'w World,
    dir: PathBuf,
    /// What was named with `--cgroup-parent`.
    pub cgroup: PathBuf,
}

impl World {
    /// A place for containers, without one.
    pub fn pod(&self) -> Result<Pod<'_>> {
        if !sweep::box_netns(&self.name).exists() {
            net::make_box(&self.name)?;
        }
        let pod = Pod {
            world: self,
            dir: self.dir.join("pod"),
            cgroup: sweep::cgroup_root()?.join(format!("{}.pod", self.name)),
        };
        let rootfs = pod.dir.join("rootfs");
        for place in ["usr", "etc/ssl/certs", "proc", "sys", "dev", "tmp", "stage"] {
            fs::create_dir_all(rootfs.join(place))?;
        }
        for place in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(place), rootfs.join(place))?;
        }
        for file in ["etc/passwd", "etc/group", "etc/nsswitch.conf", "etc/ssl/certs/ca-certificates.crt"] {
            let from = Path::new("/").join(file);
            fs::copy(&from, rootfs.join(file)).with_context(|| format!("copy {}", from.display()))?;
        }
        fs::copy(self.upstream_ca(), rootfs.join(UPSTREAM_CA.trim_start_matches('/')))?;
        Ok(pod)
    }
}

impl Pod<'_> {
    /// Starts a container with this as its first process.
    pub fn start(&self, name: &str, words: &[&str]) -> Result<()> {
        let bundle = self.dir.join(name);
        fs::create_dir(&bundle)?;
        fs::write(bundle.join("config.json"), self.config(name, words)?.to_string())?;
        let log = bundle.join("log");
        // Not by pipes, which its first process would hold.
        let said = fs::File::create(&log)?;
        let mut run = self.runc(&["run", "--detach", "--bundle"]);
        run.arg(&bundle).arg(self.id(name)).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let status = run.status().context("start runc. Is it installed? Run: cargo xtask setup")?;
        ensure!(status.success(), "runc: {status}\n{}", fs::read_to_string(&log)?);
        Ok(())
    }

    /// One more command in a container that runs.
    pub fn exec<S: AsRef<std::ffi::OsStr>>(&self, name: &str, words: &[S]) -> Result<Output> {
        let mut exec = self.runc(&["exec", "--cwd", "/tmp"]);
        exec.arg(self.id(name)).args(words.iter().map(AsRef::as_ref));
        command::run(exec, LIMIT)
    }

    /// A file of theirs.
    pub fn file(&self, path: &str) -> String {
        fs::read_to_string(self.dir.join("rootfs").join(path)).unwrap_or_default()
    }

    /// The cgroup as the product is told it.
    pub fn path(&self) -> &str {
        self.cgroup.to_str().unwrap_or_default()
    }

    fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.world.name)
    }

    fn runc(&self, words: &[&str]) -> Command {
        let mut command = Command::new("runc");
        command.env_clear().env("PATH", PATH).arg("--root").arg(self.dir.join("state")).args(words);
        command
    }

    fn config(&self, name: &str, words: &[&str]) -> Result<serde_json::Value> {
        let mount = |to: &str, kind: &str, from: &str, options: &[&str]| json!({ "destination": to, "type": kind, "source": from, "options": options });
        let stage = self.world.dir.join("bin");
        let stage = stage.to_str().context("a path of the stage is no text")?;
        let netns = sweep::box_netns(&self.world.name);
        let parent = self.cgroup.file_name().and_then(|name| name.to_str()).context("a cgroup has a name")?;
        let capabilities = json!({
            "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
        });
        Ok(json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": words,
                "env": [format!("PATH={PATH}"), "HOME=/root", "LANG=C.UTF-8"],
                "cwd": "/tmp",
                "capabilities": capabilities,
                "noNewPrivileges": true,
            },
            "root": { "path": self.dir.join("rootfs") },
            "hostname": name,
            "mounts": [
                mount("/proc", "proc", "proc", &[]),
                mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
                mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
                mount("/usr", "bind", "/usr", &["rbind", "ro"]),
                mount(STAGE, "bind", stage, &["rbind", "ro"]),
            ],
            "linux": {
                "cgroupsPath": format!("/{parent}/{name}"),
                "namespaces": [
                    { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "cgroup" },
                    { "type": "network", "path": netns },
                ],
            },
        }))
    }
}
