//! The kernel and what it has mounted: what the programs, the pins and an agent's confinement need of it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use enforcer_capture::{backstop, host as capture, kernel};

use super::{Check, Finding, Host};

pub(super) const CHECKS: &[Check] = &[
    Check { name: "kernel", run: version },
    Check { name: "btf", run: btf },
    Check { name: "cgroup2", run: cgroup2 },
    Check { name: "bpffs", run: bpffs },
    Check { name: "bpf-programs", run: programs },
    Check { name: "unprivileged-bpf", run: unprivileged_bpf },
    Check { name: "nftables", run: nftables },
    Check { name: "seccomp", run: seccomp },
    Check { name: "lsm", run: lsm },
    Check { name: "landlock", run: landlock },
    Check { name: "ipv6", run: ipv6 },
];

fn version(_: &Host) -> Finding {
    let (major, minor) = capture::OLDEST_KERNEL;
    match capture::kernel() {
        (release, Some(version)) if version < capture::OLDEST_KERNEL => Finding::fail(
            format!("{release} is too old"),
            format!("install a kernel from {major}.{minor} on"),
        ),
        (release, Some(_)) => Finding::ok(release),
        (release, None) => Finding::warn(
            format!("cannot tell the version of `{release}`"),
            format!("{major}.{minor} is the oldest supported"),
        ),
    }
}

fn btf(_: &Host) -> Finding {
    let path = "/sys/kernel/btf/vmlinux";
    if Path::new(path).exists() {
        Finding::ok(path)
    } else {
        Finding::warn(
            format!("there is no {path}"),
            "if `bpf-programs` fails: a kernel with CONFIG_DEBUG_INFO_BTF",
        )
    }
}

/// A line of a mount table, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    pub(super) kind: String,
    /// Options of the file system: for cgroup v1 its controllers.
    pub(super) options: String,
}

/// `/proc/self/mounts`. Places with a space in their name are written `\040` there and stay so.
pub(super) fn parse_mounts(table: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let mut words = line.split(' ').skip(1);
        Some(Mount {
            point: words.next()?.into(),
            kind: words.next()?.to_owned(),
            options: words.next()?.to_owned(),
        })
    };
    table.lines().filter_map(mount).collect()
}

/// `PROC_CGROUP_INIT_INO`: the initial cgroup namespace.
const INITIAL_CGROUP_NAMESPACE: u64 = 0xEFFF_FFFB;

fn cgroup2(_: &Host) -> Finding {
    let path = "/proc/self/mounts";
    let mounts = match fs::read_to_string(path) {
        Ok(text) => parse_mounts(&text),
        Err(error) => return Finding::unreadable(path, &error),
    };
    if fs::metadata("/proc/self/ns/cgroup").is_ok_and(|ns| ns.ino() != INITIAL_CGROUP_NAMESPACE) {
        return Finding::fail(
            "this is not the host's cgroup namespace: the daemon would not know its agents",
            "run it on the host, or its container with `--cgroupns=host`",
        );
    }
    judge_hierarchy(&mounts, capture::kernel().1)
}

pub(super) fn judge_hierarchy(mounts: &[Mount], version: Option<(u32, u32)>) -> Finding {
    let Some(v2) = mounts.iter().find(|mount| mount.kind == "cgroup2") else {
        return Finding::fail(
            "no cgroup2 hierarchy is mounted",
            "boot with `systemd.unified_cgroup_hierarchy=1`, or `mount -t cgroup2 none /sys/fs/cgroup/unified`",
        );
    };
    let at = v2.point.display();
    let old_controllers: Vec<&str> = mounts
        .iter()
        .filter(|mount| mount.kind == "cgroup")
        .flat_map(|mount| mount.options.split(','))
        .filter(|option| matches!(*option, "net_cls" | "net_prio"))
        .collect();
    let hybrid = mounts.iter().any(|mount| mount.kind == "cgroup");
    if version.is_some_and(|version| version < capture::OLDEST_KERNEL) && !old_controllers.is_empty() {
        return Finding::fail(
            format!(
                "{} of cgroup v1 can take sockets out of their cgroup on this kernel",
                old_controllers.join(", ")
            ),
            "boot with `systemd.unified_cgroup_hierarchy=1`, or use a kernel from 5.15 on",
        );
    }
    Finding::ok(format!("{}, at {at}", if hybrid { "hybrid with cgroup v1" } else { "unified" }))
}

fn bpffs(host: &Host) -> Finding {
    let Ok(config) = &host.config else { return Finding::needs_settings() };
    let mounts = match fs::read_to_string("/proc/self/mounts") {
        Ok(text) => parse_mounts(&text),
        Err(error) => return Finding::unreadable("/proc/self/mounts", &error),
    };
    let pins = config.pins.display();
    match mounts.iter().find(|mount| mount.kind == "bpf" && config.pins.starts_with(&mount.point)) {
        Some(mount) => Finding::ok(format!("at {}; pins go to {pins}", mount.point.display())),
        None if config.pins.starts_with("/sys/fs/bpf") => Finding::warn(
            "none is mounted at /sys/fs/bpf; the daemon mounts one when it starts",
            "mount -t bpf bpf /sys/fs/bpf",
        ),
        None => Finding::fail(
            format!("{pins} (`pins`) is not in a bpffs"),
            "mount -t bpf bpf DIRECTORY, and set `pins` to a directory in it",
        ),
    }
}

fn programs(host: &Host) -> Finding {
    if !host.root {
        return Finding::needs_root();
    }
    match kernel::try_programs() {
        Ok(count) => Finding::ok(format!("the kernel takes all {count}")),
        Err(error) => {
            let hint = error.hint();
            Finding::fail(format!("{:#}", anyhow::Error::new(error)), hint)
        }
    }
}

fn unprivileged_bpf(_: &Host) -> Finding {
    let path = "/proc/sys/kernel/unprivileged_bpf_disabled";
    match fs::read_to_string(path) {
        Ok(text) if text.trim() == "0" => Finding::warn(
            "every user may load BPF programs (kernel.unprivileged_bpf_disabled is 0)",
            "sysctl -w kernel.unprivileged_bpf_disabled=1, and a file in /etc/sysctl.d",
        ),
        Ok(text) => Finding::ok(format!("kernel.unprivileged_bpf_disabled is {}", text.trim())),
        Err(error) => Finding::unreadable(path, &error),
    }
}

fn nftables(host: &Host) -> Finding {
    let Some(nft) = backstop::nft() else {
        return Finding::warn(
            "nft is not installed: agents get the BPF programs and the empty namespace, but no second line",
            "apt-get install nftables, then restart the daemon",
        );
    };
    if host.root {
        let asked = Command::new(&nft).args(["list", "tables"]).stdin(Stdio::null()).output();
        let trouble = match asked {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(trouble) = trouble {
            return Finding::fail(
                format!("{} does not work, so no agent can be launched: {trouble}", nft.display()),
                "modprobe nf_tables nft_reject_inet; the kernel needs CONFIG_NF_TABLES_INET and CONFIG_NFT_REJECT_INET",
            );
        }
    }
    let without = matches!(&host.status, Ok(status) if status["backstop"] != "nftables");
    if without {
        return Finding::warn(
            format!("{} is there, but was not when the running daemon started", nft.display()),
            "systemctl restart enforcer",
        );
    }
    Finding::ok(nft.display().to_string())
}

fn seccomp(_: &Host) -> Finding {
    let path = "/proc/sys/kernel/seccomp/actions_avail";
    match fs::read_to_string(path) {
        Ok(text) if text.split_whitespace().any(|action| action == "errno") => Finding::ok("filters work"),
        Ok(_) | Err(_) => Finding::fail(
            "this kernel has no seccomp filters: no agent can be launched",
            "a kernel with CONFIG_SECCOMP_FILTER",
        ),
    }
}

fn lsm(_: &Host) -> Finding {
    let path = "/sys/kernel/security/lsm";
    match fs::read_to_string(path) {
        Ok(text) => Finding::ok(text.trim()),
        Err(error) => Finding::warn(
            format!("not checked: cannot read {path}: {error}"),
            "mount -t securityfs securityfs /sys/kernel/security",
        ),
    }
}

fn landlock(_: &Host) -> Finding {
    match capture::landlock_abi() {
        Ok(Some(abi)) => Finding::ok(format!("ABI {abi}")),
        Ok(None) => Finding::warn(
            "this kernel has none, or it is switched off",
            "add `landlock` to `lsm=` on the kernel's command line; CONFIG_SECURITY_LANDLOCK",
        ),
        Err(error) => {
            Finding::warn(format!("cannot ask for it: {error}"), "is this a container that forbids it?")
        }
    }
}

fn ipv6(_: &Host) -> Finding {
    match fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6") {
        Ok(text) if text.trim() == "0" => Finding::ok("on"),
        Ok(_) => Finding::ok("switched off on this host by sysctl; agents have it on their own lo"),
        Err(_) => Finding::fail(
            "this kernel runs without IPv6: sessions need it on their own lo",
            "take `ipv6.disable=1` off the kernel's command line; net.ipv6.conf.all.disable_ipv6=1 is fine",
        ),
    }
}
