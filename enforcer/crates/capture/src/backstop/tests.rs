//! Needs root and nft. Each way out first leaks from a namespace with a device, then does not with the table.
//!
//! No BPF program, no cgroup, and the caller is root with every capability: the table alone.

use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType};

use super::*;
use crate::netns::{prepare_pin_dir, remove_pin_dir};

const OUT4: &str = "198.51.100.7";
const OUT6: &str = "2001:db8::7";
/// Where the frame goes that ends each attempt.
const FENCE: &str = "198.51.100.250";

/// Name, program, where its packet must be seen.
const WAYS: &[(&str, &str, &str)] = &[
    ("tcp4", "tcp(AF_INET, OUT4)", OUT4),
    ("tcp6", "tcp(AF_INET6, OUT6)", OUT6),
    ("tcp4-mapped", "tcp(AF_INET6, '::ffff:' + OUT4)", OUT4),
    ("tcp-bindtodevice", "tcp(AF_INET, OUT4, (SOL_SOCKET, SO_BINDTODEVICE, b'out'))", OUT4),
    ("tcp-mark", "tcp(AF_INET, OUT4, (SOL_SOCKET, SO_MARK, 1))", OUT4),
    (
        "tcp-lsrr",
        "tcp(AF_INET, '203.0.113.9', (IPPROTO_IP, IP_OPTIONS, bytes([131, 7, 4]) + inet_aton(OUT4) + b'\\0'))",
        OUT4,
    ),
    ("fastopen", "socket(AF_INET, SOCK_STREAM).sendto(b'x', 0x20000000 | MSG_DONTWAIT, (OUT4, 443))", OUT4),
    ("mptcp", "tcp(AF_INET, OUT4, protocol=262)", OUT4),
    ("udp4", "send(AF_INET, SOCK_DGRAM, 0, OUT4)", OUT4),
    ("udp6", "send(AF_INET6, SOCK_DGRAM, 0, OUT6)", OUT6),
    ("udp-connected", "s = socket(AF_INET, SOCK_DGRAM); s.connect((OUT4, 443)); s.send(b'x')", OUT4),
    ("udplite", "send(AF_INET, SOCK_DGRAM, 136, OUT4)", OUT4),
    ("icmp-raw", "send(AF_INET, SOCK_RAW, IPPROTO_ICMP, OUT4, b'\\x08\\0\\xf7\\xff\\0\\0\\0\\0')", OUT4),
    ("icmp6-raw", "send(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6, OUT6, b'\\x80\\0\\0\\0\\0\\0\\0\\0')", OUT6),
    ("gre-raw", "send(AF_INET, SOCK_RAW, 47, OUT4)", OUT4),
    (
        "hdrincl",
        "send(AF_INET, SOCK_RAW, IPPROTO_RAW, OUT4, \
         bytes([0x45, 0, 0, 20, 0, 1, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0]) + inet_aton(OUT4))",
        OUT4,
    ),
    ("multicast4", "send(AF_INET, SOCK_DGRAM, 0, '239.1.2.3')", "239.1.2.3"),
    ("multicast6", "send(AF_INET6, SOCK_DGRAM, 0, 'ff02::abcd%out')", "ff02::abcd"),
    (
        "broadcast",
        "s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(SOL_SOCKET, SO_BROADCAST, 1); \
         s.sendto(b'x', ('198.51.100.255', 9))",
        "198.51.100.255",
    ),
    (
        "igmp-join",
        "s = socket(AF_INET, SOCK_DGRAM); \
         s.setsockopt(IPPROTO_IP, IP_ADD_MEMBERSHIP, inet_aton('239.9.9.9') + inet_aton(OWN4)); time.sleep(0.3)",
        "224.0.0.22",
    ),
];

const PRELUDE: &str = r"
from socket import *
import time
OUT4, OUT6, OWN4 = '198.51.100.7', '2001:db8::7', '198.51.100.1'
def tcp(family, to, *options, protocol=0):
    s = socket(family, SOCK_STREAM, protocol)
    for option in options: s.setsockopt(*option)
    s.setblocking(False)
    s.connect_ex((to, 443))
def send(family, kind, protocol, to, data=b'x'):
    s = socket(family, kind, protocol)
    s.sendto(data, getaddrinfo(to, 0 if kind == SOCK_RAW else 443, family, SOCK_DGRAM)[0][4])
";

/// An agent's namespace with a device that it should not have, and what is at its other end.
struct Stage {
    dir: tempfile::TempDir,
    agent: Netns,
    outside: Netns,
    sniffers: [OwnedFd; 2],
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare_pin_dir(dir.path()).unwrap();
        let agent = Netns::create(&dir.path().join("agent")).unwrap();
        let outside = Netns::create(&dir.path().join("outside")).unwrap();
        let peer = dir.path().join("agent");
        ip(
            &outside,
            &format!(
                "link add in address 02:00:00:00:00:02 type veth peer name out address 02:00:00:00:00:01 netns {}",
                peer.display()
            ),
        );
        for (netns, device, addresses) in
            [(&outside, "in", [OUT4, OUT6]), (&agent, "out", ["198.51.100.1", "2001:db8::1"])]
        {
            ip(netns, &format!("addr add {}/24 broadcast 198.51.100.255 dev {device}", addresses[0]));
            ip(netns, &format!("addr add {}/64 dev {device} nodad", addresses[1]));
            ip(netns, &format!("link set {device} up"));
        }
        for (netns, device, neighbours, mac) in [
            (&agent, "out", [OUT4, OUT6], "02:00:00:00:00:02"),
            (&outside, "in", ["198.51.100.1", "2001:db8::1"], "02:00:00:00:00:01"),
        ] {
            for neighbour in neighbours {
                ip(netns, &format!("neigh replace {neighbour} lladdr {mac} dev {device} nud permanent"));
            }
        }
        ip(&agent, &format!("route add default via {OUT4}"));
        ip(&agent, "route add multicast 224.0.0.0/4 dev out");
        ip(&outside, "route add 203.0.113.0/24 via 198.51.100.1");
        let sniffers =
            [libc::ETH_P_IP, libc::ETH_P_IPV6].map(|kind| outside.within(|| sniffer(kind)).unwrap());
        Stage { dir, agent, outside, sniffers }
    }

    /// Runs a program of the agent's.
    fn python(&self, program: &str) -> String {
        python(&self.agent, program, "")
    }

    /// Runs a program of the agent's. What it said, and where its packets went, the last one to the fence.
    fn attempt(&self, program: &str) -> (String, Vec<String>) {
        // AF_PACKET goes past the table, so it shows that the device still works with it.
        let fence = format!(
            "s = socket(AF_PACKET, SOCK_DGRAM)\n\
             s.sendto(bytes(16) + inet_aton('{FENCE}') + bytes(20), ('out', 0x0800, 0, 0, b'\\x02\\0\\0\\0\\0\\x02'))"
        );
        let said = python(&self.agent, program, &fence);
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut seen = Vec::new();
        while !seen.iter().any(|to| to == FENCE) {
            assert!(Instant::now() < deadline, "the fence was not seen");
            std::thread::sleep(Duration::from_millis(2));
            self.drain(&mut seen);
        }
        (said, seen)
    }

    fn drain(&self, seen: &mut Vec<String>) {
        let mut packet = [0u8; 2048];
        for sniffer in &self.sniffers {
            while let Ok((length, _)) = rustix::net::recv(sniffer, &mut packet, RecvFlags::DONTWAIT) {
                let to = match packet.get(..length).unwrap() {
                    // The fence is a frame that says it is IPv4; its header is zeros.
                    p if p.len() >= 40 && p[0] >> 4 == 6 => {
                        std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&p[24..40]).unwrap()).to_string()
                    }
                    p if p.len() >= 20 => {
                        std::net::Ipv4Addr::from(<[u8; 4]>::try_from(&p[16..20]).unwrap()).to_string()
                    }
                    _ => continue,
                };
                seen.push(to);
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for name in ["agent", "outside"] {
            Netns::unpin(&self.dir.path().join(name)).unwrap();
        }
        remove_pin_dir(self.dir.path()).unwrap();
    }
}

fn backstop() -> Backstop {
    let found = Backstop::find();
    assert!(matches!(found, Backstop::Nft(_)), "these tests need nft: apt-get install nftables");
    found
}

fn sniffer(kind: i32) -> io::Result<OwnedFd> {
    let kind = u32::from(u16::try_from(kind).unwrap().to_be());
    let protocol = rustix::net::RawProtocol::new(kind).map(Protocol::from_raw);
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, protocol)?)
}

fn ip(netns: &Netns, arguments: &str) {
    let output = netns.within(|| Command::new("ip").args(arguments.split(' ')).output()).unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `after` runs whatever becomes of the program.
fn python(netns: &Netns, program: &str, after: &str) -> String {
    let program = program.replace('\n', "\n ");
    let program = format!("{PRELUDE}\ntry:\n {program}\nexcept OSError as e: print(e.strerror)\n{after}");
    let output = netns.within(|| Command::new("python3").args(["-c", &program]).output()).unwrap();
    assert!(output.status.success(), "{program}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn every_way_out_leaks_without_the_table_and_none_with_it() {
    let stage = Stage::new();
    for (way, program, to) in WAYS {
        let (said, seen) = stage.attempt(program);
        assert!(seen.iter().any(|seen| seen == to), "{way} does not leak unguarded ({said}): {seen:?}");
    }
    backstop().load(&stage.agent).unwrap();
    stage.attempt("pass");
    for (way, program, _) in WAYS {
        assert_eq!(stage.attempt(program).1, [FENCE], "{way}");
    }
}

#[test]
fn nothing_comes_in_and_nothing_goes_through() {
    let stage = Stage::new();
    stage.agent.within(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    let listener = stage.agent.within(|| std::net::TcpListener::bind("0.0.0.0:4000")).unwrap();
    let attempt = || {
        let into = python(
            &stage.outside,
            "s = socket(); s.settimeout(0.5); s.connect(('198.51.100.1', 4000)); print('in')",
            "send(AF_INET, SOCK_DGRAM, 0, '203.0.113.5')",
        );
        let through = stage.attempt("pass").1.iter().any(|to| to == "203.0.113.5");
        (into == "in", through)
    };
    assert_eq!(attempt(), (true, true), "unguarded");
    backstop().load(&stage.agent).unwrap();
    assert_eq!(attempt(), (false, false));
    drop(listener);
}

#[test]
fn the_agents_own_servers_work_and_refusals_are_quick() {
    let stage = Stage::new();
    backstop().load(&stage.agent).unwrap();
    let said = stage.python(
        "for family, to in ((AF_INET, '127.0.0.1'), (AF_INET, '127.9.9.9'), (AF_INET, '192.0.0.8'), \
         (AF_INET6, '::1'), (AF_INET6, '100::1')):\n\
         \x20 l = socket(family); l.bind((to, 0)); l.listen(); c = socket(family); c.connect(l.getsockname())\n\
         \x20 a = l.accept()[0]; c.send(b'there'); a.send(a.recv(9) + b' and back'); print(c.recv(20).decode())\n\
         \x20 u = socket(family, SOCK_DGRAM); u.bind((to, 0)); u.sendto(b'x', u.getsockname()); print(u.recv(9).decode())",
    );
    assert_eq!(said.lines().collect::<Vec<_>>(), ["there and back", "x"].repeat(5));
    for (program, answer) in [
        // Nobody listens there: not ours to refuse, and told as always.
        ("socket().connect(('127.0.0.1', 9))", "Connection refused"),
        (
            "s = socket(AF_INET, SOCK_DGRAM); s.connect(('127.0.0.1', 9)); s.send(b'x'); s.recv(9)",
            "Connection refused",
        ),
        (
            "s = socket(AF_INET6, SOCK_DGRAM); s.connect(('::1', 9)); s.send(b'x'); s.recv(9)",
            "Connection refused",
        ),
        // Refused by the table.
        ("s = socket(); s.settimeout(5); s.connect((OUT4, 443))", "Connection refused"),
        ("s = socket(AF_INET6); s.settimeout(5); s.connect((OUT6, 443))", "Connection refused"),
        ("send(AF_INET, SOCK_DGRAM, 0, OUT4)", "Operation not permitted"),
        ("send(AF_INET6, SOCK_DGRAM, 0, OUT6)", "Operation not permitted"),
        (
            "send(AF_INET, SOCK_RAW, IPPROTO_ICMP, '127.0.0.1', b'\\x08\\0\\xf7\\xff\\0\\0\\0\\0')",
            "Operation not permitted",
        ),
    ] {
        assert_eq!(stage.python(program), answer, "{program}");
    }
}

#[test]
fn loading_it_again_changes_nothing() {
    let stage = Stage::new();
    let list = || {
        let Backstop::Nft(nft) = backstop() else { unreachable!() };
        let output = stage.agent.within(|| Command::new(nft).args(["list", "ruleset"]).output()).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    backstop().load(&stage.agent).unwrap();
    let once = list();
    assert!(once.contains("table inet enforcer"), "{once}");
    assert_eq!(once.matches("policy drop").count(), 3, "{once}");
    backstop().load(&stage.agent).unwrap();
    assert_eq!(list(), once);
}

#[test]
fn a_table_that_nobody_has_changed_is_known_again() {
    let stage = Stage::new();
    let load = || backstop().load(&stage.agent).unwrap().expect("nobody else is in this namespace");
    let mark = load();
    assert!(backstop().stands(&stage.agent, &mark));
    assert!(!Backstop::Absent.stands(&stage.agent, &mark));
    let text = serde_json::to_string(&mark).unwrap().replace("\"rules\":\"", "\"rules\":\"0");
    let other: Mark = serde_json::from_str(&text).unwrap();
    assert!(!backstop().stands(&stage.agent, &other), "rules of another version");
    let Backstop::Nft(nft) = backstop() else { unreachable!() };
    let flush = || Command::new(nft).args(["flush", "ruleset"]).status();
    assert!(stage.agent.within(flush).unwrap().success());
    assert!(!backstop().stands(&stage.agent, &mark));
    let again = load();
    assert!(backstop().stands(&stage.agent, &again) && !backstop().stands(&stage.agent, &mark));
}

#[test]
fn a_table_that_does_not_load_is_an_error_and_a_missing_nft_is_known() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(nft_in([dir.path()].into_iter()), None);
    std::fs::write(dir.path().join("nft"), "#!/bin/sh\ncat >/dev/null; exit 1\n").unwrap();
    std::fs::set_permissions(dir.path().join("nft"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let broken = nft_in([dir.path()].into_iter()).unwrap();
    let stage = Stage::new();
    let error = Backstop::Nft(broken).load(&stage.agent).unwrap_err();
    assert!(error.to_string().contains("cannot be loaded"), "{error}");
    assert!(error.hint().is_some());
    assert!(Backstop::Absent.load(&stage.agent).is_ok());
}
