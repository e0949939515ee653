//! What an agent is and what it cannot do.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use crate::world::World;

const PYTHON: &str = "/usr/bin/python3";

#[test]
fn an_agent_runs_as_itself_without_any_privilege() {
    let world = World::started();
    assert_eq!(world.shell("id -u; id -g; id -G"), "61600\n61600\n61600\n");
    assert_eq!(world.shell("id -un; echo $HOME $USER $LOGNAME; cd; pwd; umask"), {
        let home = world.dir.path().join("state/agents/bot");
        format!("bot\n{0} bot bot\n{0}\n0022\n", home.display())
    });
    let status = world.shell("cat /proc/self/status");
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim_start_matches(':').trim()
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
    assert_eq!(field("Groups"), "");
    assert_eq!(field("SigBlk"), "0000000000000000");
    assert_eq!(field("SigIgn"), "0000000000000000");
    assert_eq!(world.shell("ulimit -c; cat /proc/self/oom_score_adj"), "0\n0\n");

    let home = fs::metadata(world.dir.path().join("state/agents/bot")).unwrap();
    assert_eq!((home.uid(), home.permissions().mode() & 0o777), (61600, 0o700));
    world.await_clean();
}

#[test]
fn only_governed_socket_families_can_be_made() {
    let world = World::started();
    let script = r#"
import socket, errno, ctypes, os
for family, kind in [(40, 1), (17, 3), (38, 5), (29, 3), (30, 5), (31, 3), (44, 3), (42, 2)]:
    try:
        socket.socket(family, kind)
        print("made", family)
    except OSError as error:
        assert error.errno == errno.EPERM, (family, error)
for family, kind in [(socket.AF_UNIX, 1), (socket.AF_INET, 1), (socket.AF_INET6, 2), (16, 3)]:
    socket.socket(family, kind).close()
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    return libc.syscall(number, *arguments), ctypes.get_errno()
for number in (425, 438, 310, 311, 321, 250, 248, 249, 298, 323, 308):
    assert call(number, 0, 0, 0, 0, 0, 0) == (-1, errno.EPERM), number
assert call(435, 0, 0) == (-1, errno.ENOSYS)
assert call(0x40000000 + 39) == (-1, errno.ENOSYS)
assert call(101, 0, 0, 0, 0)[0] == 0
print("done")
"#;
    // Numbers of the x86-64 table.
    if cfg!(target_arch = "x86_64") {
        assert_eq!(world.shell(&format!("exec {PYTHON} - <<'EOF'\n{script}\nEOF\n")), "done\n");
    }
}

#[test]
fn the_network_is_loopback_alone() {
    let world = World::started();
    assert_eq!(world.shell("ls /sys/class/net"), "lo\n");
    let addresses = world.shell("ip -o addr");
    for address in ["127.0.0.1/8", "192.0.0.8/32", "::1/128", "100::1/128"] {
        assert!(addresses.contains(address), "{addresses}");
    }
    assert_eq!(world.shell("ip -o link | wc -l").trim(), "1");
    assert_eq!(world.shell("grep nameserver /etc/resolv.conf"), "nameserver 127.0.0.1\n");
    assert!(world.shell("grep ^hosts: /etc/nsswitch.conf").contains("files dns"));
    // The injector's listener is in there and the worker holds it.
    let answer = world.shell("bash -c 'exec 3<>/dev/tcp/127.0.0.1/923; cat <&3'");
    assert!(answer.starts_with("worker "), "{answer}");
}

#[test]
fn the_hosts_daemons_and_kernel_objects_are_out_of_reach() {
    let world = World::started();
    let run_name = world.run_dir.file_name().unwrap().to_str().unwrap();
    let mut seen: Vec<_> = world.shell("ls /run").lines().map(str::to_owned).collect();
    seen.sort();
    assert_eq!(seen, [run_name, "lock", "own", "user"]);
    assert_eq!(world.shell(&format!("ls {}", world.run_dir.display())), "trust\n");
    assert_eq!(world.shell("ls -A /sys/fs/bpf /tmp/.X11-unix 2>/dev/null | grep -v : | tr -d '\\n'"), "");
    let cgroup = world.root.display();
    assert_eq!(world.shell(&format!("cat {cgroup}/$ENFORCER_SESSION/cgroup.procs | grep -c $$")), "1\n");
    let moved = world.run(&["/bin/sh", "-c", &format!("echo 0 > {cgroup}/cgroup.procs")]);
    assert!(!moved.status.success());
    let mounts = world.shell("cat /proc/self/mountinfo");
    for line in mounts.lines().filter(|line| line.contains(" - cgroup")) {
        assert!(line.split(' ').nth(5).unwrap().starts_with("ro"), "{line}");
    }
    assert!(!mounts.contains("/netns/"), "other sessions' namespaces are not held: {mounts}");
    // What is hidden stays hidden, and a user namespace does not bring it back.
    assert!(!world.run(&["umount", "/run"]).status.success());
    let unhidden = world.run(&["unshare", "-Urm", "sh", "-c", "umount /run && ls /run"]);
    assert!(!unhidden.status.success());
}

#[test]
fn a_run_directory_elsewhere_is_hidden_as_well() {
    let mut world = World::in_run_dir(|name| std::path::Path::new("/var/tmp").join(name));
    world.start();
    let seen = world.shell(&format!("ls {}; cat $ENFORCER_GUIDE", world.run_dir.display()));
    assert_eq!(seen, "trust\nbe good\n");
    world.await_clean();
}

#[test]
fn no_descriptor_comes_along() {
    let world = World::started();
    let listed = world.shell("ls /proc/self/fd | tr '\\n' ' '");
    assert_eq!(listed, "0 1 2 3 ", "3 is ls's own");
}

#[test]
fn the_working_directory_is_kept_but_never_leads_behind_what_is_hidden() {
    let world = World::started();
    let run = |dir: &std::path::Path, script: &str| {
        let mut command = world.command("bot", None, &["/bin/sh", "-c", script]);
        let output = command.current_dir(dir).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run(std::path::Path::new("/usr/share"), "/bin/pwd").0, "/usr/share\n");

    let home = world.dir.path().join("state/agents/bot");
    let closed = world.dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let (out, err) = run(&closed, "/bin/pwd");
    assert_eq!(out.trim(), home.to_str().unwrap());
    assert!(err.contains("cannot work in") && err.contains("Permission denied"), "{err}");

    // The host's /run: an inherited descriptor would lead into it, the name does not.
    let (out, err) = run(std::path::Path::new("/run"), "/bin/pwd; ls -d ../run/*");
    assert_eq!(out.lines().next().unwrap(), home.to_str().unwrap());
    assert!(err.contains("hidden from agents"), "{err}");
}

#[test]
fn a_user_of_the_host_is_taken_without_groups_and_never_root() {
    let world = World::started();
    let script = "id -u; id -G | wc -w; echo $USER; grep CapEff /proc/self/status";
    let output = world.command("bot", Some("nobody"), &["/bin/sh", "-c", script]).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(out, "65534\n1\nnobody\nCapEff:\t0000000000000000\n");
    let mut traced = world.command("bot", Some("nobody"), &[
        PYTHON,
        "-c",
        "import ctypes; c=ctypes.CDLL(None, use_errno=True); print(c.ptrace(0,0,0,0), ctypes.get_errno())",
    ]);
    assert_eq!(String::from_utf8(traced.output().unwrap().stdout).unwrap(), "-1 1\n");

    let output = world.command("bot", Some("root"), &["/bin/true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("never runs as root"));
    world.await_clean();
}

#[test]
fn standard_streams_that_lead_out_are_refused() {
    let world = World::started();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut command = world.command("bot", None, &["/bin/true"]);
    let output = command.stdin(Stdio::from(std::os::fd::OwnedFd::from(socket))).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard input is a network socket"));

    let mut command = world.command("bot", None, &["/bin/true"]);
    let output = command.stdin(fs::File::open("/run").unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
}
