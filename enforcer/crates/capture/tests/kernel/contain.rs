//! What is denied: unknown agents and namespaces, other kinds of socket, our ports, steering options, packets off `lo`.
use std::net::TcpListener;

use enforcer_capture::events::Counters;

use crate::stage::{Netns, Stage, ip, unprivileged};

#[test]
fn an_unknown_or_released_cgroup_may_nothing() {
    let stage = Stage::new();
    let agent = stage.stranger("a");
    let program = "
print(attempt(socket, AF_INET, SOCK_STREAM), attempt(socket, AF_INET6, SOCK_DGRAM), attempt(socket, AF_INET, SOCK_RAW, 1))
";
    assert_eq!(agent.run(program), "EPERM EPERM EPERM");
    assert_eq!(stage.reasons(&agent), ["sock_create unknown_agent"; 3]);

    // The control: the same program once it is an agent.
    stage.govern(&agent, true);
    assert_eq!(stage.kernel().governed().unwrap(), [agent.cgroup_id]);
    assert!(agent.run(program).starts_with("<socket.socket"));

    stage.kernel().release(agent.cgroup_id).unwrap();
    assert_eq!(stage.kernel().governed().unwrap(), [0; 0]);
    assert_eq!(agent.run(program), "EPERM EPERM EPERM");
    stage.kernel().release(agent.cgroup_id).unwrap();
}

#[test]
fn a_task_in_the_managed_root_itself_may_nothing() {
    let stage = Stage::new();
    let mut agent = stage.agent("a");
    agent.cgroup.clone_from(&stage.cgroups.root);
    assert_eq!(agent.run("print(attempt(socket, AF_INET, SOCK_STREAM))"), "EPERM");
}

#[test]
fn a_cgroup_below_an_agent_is_that_agent() {
    let stage = Stage::new();
    let mut agent = stage.agent("a");
    let [v4, _v6] = agent.netns.injectors();
    agent.cgroup = agent.cgroup.join("deeper/still");
    std::fs::create_dir_all(&agent.cgroup).unwrap();
    let connect = "s = socket(AF_INET, SOCK_STREAM); s.connect(('203.0.113.5', 443)); s.close()";
    agent.run(connect);
    let records = enforcer_capture::records::Records::new(stage.kernel().records().unwrap()).unwrap();
    let (socket, _) = v4.accept().unwrap();
    let origin =
        records.take(std::os::fd::AsFd::as_fd(&socket), agent.cgroup_id, agent.netns.cookie).unwrap();
    assert_eq!(origin.cgroup_id, agent.cgroup_id);
}

/// Ten deep, and a thousand beside each other: the programs of the root bind all of them.
#[test]
fn however_deep_or_many_the_cgroups_below_an_agent_are() {
    let stage = Stage::new();
    let mut agent = stage.agent("a");
    let own = agent.cgroup.clone();
    let deep = (0..10).fold(own.clone(), |path, level| path.join(format!("level-{level}")));
    std::fs::create_dir_all(&deep).unwrap();
    let wide: Vec<_> = (0..1000).map(|n| own.join(format!("beside-{n}"))).collect();
    wide.iter().for_each(|path| std::fs::create_dir(path).unwrap());
    let program = "
u = socket(AF_INET, SOCK_DGRAM)
print(attempt(socket, AF_INET, SOCK_RAW, 1), attempt(u.sendto, b'x', ('203.0.113.5', 443)))
";
    for cgroup in [&deep, &wide[0], &wide[499], &wide[999]] {
        agent.cgroup.clone_from(cgroup);
        assert_eq!(agent.run(program), "EPERM EPERM", "{}", cgroup.display());
        assert_eq!(stage.reasons(&agent), ["sock_create socket_kind", "sendmsg4 traffic_kind"]);
    }
}

#[test]
fn connections_are_cut_when_the_agent_is_released() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let [v4, _v6] = agent.netns.injectors();
    let program = "
s = socket(AF_INET, SOCK_STREAM); s.connect(('203.0.113.5', 443)); s.sendall(b'before'); s.recv(1); s.sendall(b'after')
import time; time.sleep(0.3)
";
    std::thread::scope(|scope| {
        use std::io::{Read, Write};
        scope.spawn(|| agent.run(program));
        let (mut socket, _) = v4.accept().unwrap();
        let mut said = [0; 6];
        socket.read_exact(&mut said).unwrap();
        stage.kernel().release(agent.cgroup_id).unwrap();
        socket.write_all(b"x").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(600))).unwrap();
        let mut rest = Vec::new();
        assert!(socket.read_to_end(&mut rest).is_err(), "no end of the connection comes through either");
        assert_eq!(rest, b"");
    });
    assert!(stage.reasons(&agent).contains(&"egress unknown_agent".to_owned()));
}

#[test]
fn another_network_namespace_is_denied() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let elsewhere = Netns::new();
    let _listeners = elsewhere.injectors();
    let program = "
s = socket(AF_INET, SOCK_STREAM); s6 = socket(AF_INET6, SOCK_STREAM); u = socket(AF_INET, SOCK_DGRAM)
print(attempt(s.connect, ('203.0.113.5', 443)), attempt(s6.connect, ('2001:db8::5', 443)), attempt(u.sendto, b'x', ('192.0.2.53', 53)))
";
    assert_eq!(agent.run_in(&elsewhere, program), "EPERM EPERM EPERM");
    assert_eq!(
        stage.reasons(&agent),
        ["connect4 unknown_netns", "connect6 unknown_netns", "sendmsg4 unknown_netns"]
    );
}

#[test]
fn a_socket_of_another_agent_is_denied() {
    let stage = Stage::new();
    let (a, b) = (stage.agent("a"), stage.agent("b"));
    stage.govern(&b, true);
    // Made as agent a, used as agent b: what a socket handed over looks like.
    let program = format!(
        "
s = socket(AF_INET, SOCK_STREAM); u = socket(AF_INET, SOCK_DGRAM)
open('{}/cgroup.procs', 'w').write('0')
print(attempt(s.connect, ('203.0.113.5', 443)), attempt(u.sendto, b'x', ('192.0.2.53', 53)))
",
        b.cgroup.display()
    );
    assert_eq!(a.run(&program), "EPERM EPERM");
    assert_eq!(stage.reasons(&b), ["connect4 foreign_socket", "sendmsg4 foreign_socket"]);
}

#[test]
fn only_tcp_and_udp_sockets_exist() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let program = "
for family in AF_INET, AF_INET6:
    icmp = 1 if family == AF_INET else 58
    print(attempt(socket, family, SOCK_RAW, icmp), attempt(socket, family, SOCK_RAW, 255), attempt(socket, family, SOCK_DGRAM, icmp),
          attempt(socket, family, SOCK_DGRAM, 136), attempt(socket, family, SOCK_STREAM, 262))
";
    agent.netns.enter(|| std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 65535").unwrap());
    assert_eq!(agent.run(program), ["EPERM EPERM EPERM EPERM EPROTONOSUPPORT"; 2].join("\n"));
    assert_eq!(stage.reasons(&agent), ["sock_create socket_kind"; 10]);

    // The control: in this namespace, outside the managed root, there are such sockets.
    let ping = agent.netns.enter(|| {
        std::process::Command::new("python3")
            .args([
                "-c",
                "from socket import *; socket(AF_INET, SOCK_DGRAM, 1); socket(AF_INET, SOCK_RAW, 1)",
            ])
            .status()
            .unwrap()
    });
    assert!(ping.success());
}

#[test]
fn our_ports_cannot_be_bound() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let program = "
for family, kind, host in (AF_INET, SOCK_STREAM, ''), (AF_INET6, SOCK_STREAM, '::'), (AF_INET, SOCK_DGRAM, '127.0.0.1'), (AF_INET6, SOCK_DGRAM, '::1'):
    def bind(port):
        s = socket(family, kind); s.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1); s.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1); s.bind((host, port))
    print(attempt(bind, 923), attempt(bind, 53), attempt(bind, 80), attempt(bind, 3000), attempt(bind, 0))
";
    assert_eq!(agent.run(program), ["EPERM EPERM None None None"; 4].join("\n"));
    assert_eq!(stage.reasons(&agent).len(), 8);
}

#[test]
fn the_injector_cannot_be_reached_directly() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let _listeners = agent.netns.injectors();
    let program = "
for family, host in (AF_INET, '127.0.0.1'), (AF_INET, '127.9.9.9'), (AF_INET, '0.0.0.0'), (AF_INET, '192.0.0.8'), \
 (AF_INET6, '::1'), (AF_INET6, '::'), (AF_INET6, '::ffff:127.0.0.1'), (AF_INET6, '::ffff:0.0.0.0'), (AF_INET6, '100::1'):
    print(attempt(socket(family, SOCK_STREAM).connect, (host, 923)))
";
    assert_eq!(agent.run(program), ["EPERM"; 9].join("\n"));
    assert!(stage.reasons(&agent).iter().all(|reason| reason.ends_with(" reserved_port")));
}

#[test]
fn the_agents_own_servers_are_reached_unchanged() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let program = "
for family, bound, host in (AF_INET, '127.0.0.1', '127.0.0.1'), (AF_INET, '', '0.0.0.0'), (AF_INET6, '::1', '::1'), \
 (AF_INET6, '::', '::ffff:127.0.0.1'), (AF_INET, '', '192.0.0.8'):
    server = socket(family, SOCK_STREAM); server.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1); server.bind((bound, 3000)); server.listen()
    client = socket(family, SOCK_STREAM); client.connect((host, 3000))
    accepted, _ = server.accept(); client.sendall(b'x'); print(accepted.recv(1).decode(), client.getpeername()[1])
    client.close(); accepted.close(); server.close()
print(attempt(socket(AF_INET, SOCK_STREAM).connect, ('127.0.0.1', 3001)))
";
    assert_eq!(agent.run(program), format!("{}\nECONNREFUSED", ["x 3000"; 5].join("\n")));
    assert_eq!(stage.reasons(&agent), [""; 0]);
}

#[test]
fn without_a_namespace_of_its_own_loopback_goes_to_the_injector_too() {
    let stage = Stage::new();
    let agent = stage.stranger("a");
    stage.govern(&agent, false);
    let [v4, _v6] = agent.netns.injectors();
    let _server = agent.netns.enter(|| TcpListener::bind("127.0.0.1:5432").unwrap());
    let program = "
s = socket(AF_INET, SOCK_STREAM); s.connect(('127.0.0.1', 5432)); s.close()
print(attempt(socket(AF_INET, SOCK_DGRAM).sendto, b'x', ('127.0.0.1', 5432)), attempt(socket(AF_INET, SOCK_STREAM).connect, ('127.0.0.1', 923)))
";
    assert_eq!(agent.run(program), "EPERM EPERM");
    let records = enforcer_capture::records::Records::new(stage.kernel().records().unwrap()).unwrap();
    let (socket, _) = v4.accept().unwrap();
    let origin =
        records.take(std::os::fd::AsFd::as_fd(&socket), agent.cgroup_id, agent.netns.cookie).unwrap();
    assert_eq!(origin.dst.0.to_string(), "127.0.0.1:5432");
}

#[test]
fn options_that_steer_packets_are_denied() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let program = "
s = socket(AF_INET, SOCK_STREAM); s6 = socket(AF_INET6, SOCK_DGRAM); u = socket(AF_INET, SOCK_DGRAM)
group = inet_aton('224.0.0.251') + bytes(4); group6 = inet_pton(AF_INET6, 'ff02::fb') + bytes(4)
denied = [
 (s, SOL_SOCKET, SO_BINDTODEVICE, b'lo'), (s, SOL_SOCKET, SO_MARK, 1), (s, SOL_SOCKET, 62, 1),
 (s, IPPROTO_IP, IP_OPTIONS, bytes([131, 7, 4, 203, 0, 113, 5, 0])), (s, IPPROTO_IP, 19, 1), (u, IPPROTO_IP, 50, htonl(1)),
 (u, IPPROTO_IP, IP_MULTICAST_IF, bytes(4)), (u, IPPROTO_IP, IP_ADD_MEMBERSHIP, group), (u, IPPROTO_IP, 39, bytes(12)),
 (u, IPPROTO_IP, 42, bytes(136)), (s6, IPPROTO_IPV6, IPV6_MULTICAST_IF, 1), (s6, IPPROTO_IPV6, IPV6_JOIN_GROUP, group6),
 (s6, IPPROTO_IPV6, 27, group6), (s6, IPPROTO_IPV6, IPV6_RTHDR, bytes(24)), (s6, IPPROTO_IPV6, IPV6_HOPOPTS, bytes(8)),
 (s6, IPPROTO_IPV6, IPV6_DSTOPTS, bytes(8)), (s6, IPPROTO_IPV6, IPV6_RTHDRDSTOPTS, bytes(8)), (s6, IPPROTO_IPV6, 6, bytes(24)),
 (s6, IPPROTO_IPV6, 32, bytes(32)), (s6, IPPROTO_IPV6, 75, 1), (s6, IPPROTO_IPV6, 76, htonl(1)), (s, IPPROTO_TCP, 19, 1),
]
print([option[1:3] for option in denied if attempt(option[0].setsockopt, *option[1:]) != 'EPERM'])
allowed = [
 (s, SOL_SOCKET, SO_KEEPALIVE, 1), (s, SOL_SOCKET, SO_REUSEPORT, 1), (s, IPPROTO_TCP, TCP_NODELAY, 1), (s, IPPROTO_IP, IP_TOS, 16),
 (s6, IPPROTO_IPV6, IPV6_V6ONLY, 1), (u, SOL_SOCKET, SO_BROADCAST, 1),
]
print([option[1:3] for option in allowed if attempt(option[0].setsockopt, *option[1:]) is not None])
# A program sees one page of an option; the kernel still has to take all of it.
s.setsockopt(SOL_SOCKET, SO_RCVBUF, struct.pack('i', 50000) + bytes(9000)); print(s.getsockopt(SOL_SOCKET, SO_RCVBUF))
";
    assert_eq!(agent.run(program), "[]\n[]\n100000");
    assert_eq!(stage.reasons(&agent), ["setsockopt socket_option"; 22]);
}

/// Source routes in a control message pass every hook but the last.
#[test]
fn packets_with_options_are_stopped_as_packets() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let program = "
s = socket(AF_INET, SOCK_DGRAM)
print(attempt(s.sendto, b'x', ('127.0.0.1', 5000)))
IP_RETOPTS = 7
print(attempt(s.sendmsg, [b'x'], [(IPPROTO_IP, IP_RETOPTS, bytes([131, 7, 4, 127, 0, 0, 1, 0]))], 0, ('127.0.0.1', 5000)))
s6 = socket(AF_INET6, SOCK_DGRAM)
print(attempt(s6.sendmsg, [b'x'], [(IPPROTO_IPV6, IPV6_DSTOPTS, bytes([0, 0, 1, 4, 0, 0, 0, 0]))], 0, ('::1', 5000)))
";
    assert_eq!(agent.run(program), "1\nEPERM\nEPERM");
    assert_eq!(stage.reasons(&agent), ["egress traffic_kind"; 2]);
}

#[test]
fn packets_leave_by_no_interface_but_lo() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    // The agent's namespace gets a way out, and an address that the connect hooks take for local leads there.
    agent.netns.enter(|| {
        ip("addr del 192.0.0.8/32 dev lo");
        ip("link add out0 type veth peer name out1");
        ip("addr add 198.51.100.1/24 dev out0");
        ip("link set out0 up");
        ip("link set out1 up");
        ip("neigh add 198.51.100.2 lladdr 02:00:00:00:00:02 dev out0");
        ip("route add 192.0.0.8/32 via 198.51.100.2");
    });
    let program = "print(attempt(socket(AF_INET, SOCK_DGRAM).sendto, b'x', ('192.0.0.8', 5000)))";
    assert_eq!(agent.run(program), "EPERM");
    let refusals = stage.refusals();
    assert_eq!(refusals.len(), 1);
    assert_eq!((refusals[0].hook, refusals[0].reason), ("egress", "not_loopback"));
    assert_eq!(refusals[0].address, Some("192.0.0.8:5000".parse().unwrap()));
    assert_eq!((refusals[0].pid, refusals[0].cgroup_id), (0, agent.cgroup_id));
}

#[test]
fn refusals_are_counted_also_when_their_events_are_lost() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    // More events than the ring buffer holds.
    agent.run("s = socket(AF_INET, SOCK_DGRAM)\nfor n in range(5000): attempt(s.sendto, b'x', ('203.0.113.5', 443))");
    let kept = stage.refusals().len() as u64;
    let counters = stage.kernel().counters().unwrap();
    let counts = unprivileged(move || Counters::new(counters).unwrap().read().unwrap());
    let of = |hook| counts.iter().find(|(name, _)| *name == hook).unwrap().1;
    assert_eq!(of("sendmsg4").refused, 5000);
    assert_eq!(of("sendmsg4").lost_events, 5000 - kept);
    assert!(kept > 3000, "256 KiB hold this many: {kept}");
    assert_eq!(of("sock_create").passed, 1);
    assert_eq!(of("connect4"), Default::default());
}
