//! Port 53 of any server is the resolver, and its answers come from the server that was asked. Other datagrams go nowhere.
use std::net::UdpSocket;

use crate::stage::{Agent, Stage, impatient};

/// Answers `questions` datagrams on each of the resolver's sockets with the question.
fn resolver(agent: &Agent) -> Vec<UdpSocket> {
    agent.netns.enter(|| {
        ["127.0.0.1:53", "[::1]:53"].map(|address| UdpSocket::bind(address).unwrap()).into_iter().collect()
    })
}

fn answer(socket: &UdpSocket, questions: usize) {
    impatient(socket);
    for _ in 0..questions {
        let mut question = [0; 512];
        let (len, from) = socket.recv_from(&mut question).unwrap();
        socket.send_to(&question[..len], from).unwrap();
    }
}

#[test]
fn answers_come_from_the_server_that_was_asked() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let sockets = resolver(&agent);
    let program = "
def show(s):
    data, address = s.recvfrom(100)
    return data.decode(), address[:2]
s = socket(AF_INET, SOCK_DGRAM); s.settimeout(5)
s.sendto(b'1', ('192.0.2.53', 53)); print('v4', *show(s))
s.sendto(b'2', ('192.0.2.54', 53)); print('v4 again', *show(s))
s.connect(('192.0.2.55', 53)); s.send(b'3'); print('v4 connected', *show(s), s.getpeername())
s = socket(AF_INET, SOCK_DGRAM); s.settimeout(5)
s.sendto(b'4', ('127.0.0.53', 53)); print('v4 stub', *show(s))
s = socket(AF_INET6, SOCK_DGRAM); s.settimeout(5)
s.sendto(b'5', ('2001:db8::53', 53)); print('v6', *show(s))
s.connect(('2001:db8::54', 53)); s.send(b'6'); print('v6 connected', *show(s), s.getpeername()[:2])
s = socket(AF_INET6, SOCK_DGRAM); s.settimeout(5)
s.sendto(b'7', ('::ffff:192.0.2.53', 53)); print('mapped', *show(s))
s = socket(AF_INET6, SOCK_DGRAM); s.settimeout(5)
s.connect(('::ffff:192.0.2.54', 53)); s.send(b'8'); print('mapped connected', *show(s), s.getpeername()[:2])
s.send(b'9'); print('mapped connected again', *show(s))
";
    let printed = std::thread::scope(|scope| {
        scope.spawn(|| answer(&sockets[0], 7));
        scope.spawn(|| answer(&sockets[1], 2));
        agent.run(program)
    });
    let expected = "\
v4 1 ('192.0.2.53', 53)
v4 again 2 ('192.0.2.54', 53)
v4 connected 3 ('192.0.2.55', 53) ('192.0.2.55', 53)
v4 stub 4 ('127.0.0.53', 53)
v6 5 ('2001:db8::53', 53)
v6 connected 6 ('2001:db8::54', 53) ('2001:db8::54', 53)
mapped 7 ('::ffff:192.0.2.53', 53)
mapped connected 8 ('::ffff:192.0.2.54', 53) ('::ffff:192.0.2.54', 53)
mapped connected again 9 ('::ffff:192.0.2.54', 53)";
    assert_eq!(printed, expected);
}

#[test]
fn a_question_by_tcp_goes_to_the_resolver() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let listener = agent.netns.enter(|| std::net::TcpListener::bind("127.0.0.1:53").unwrap());
    impatient(&listener);
    let program = "
for host in '192.0.2.53', '127.0.0.53', '0.0.0.0':
    s = socket(AF_INET, SOCK_STREAM); s.connect((host, 53)); print(s.getpeername())
";
    let printed = std::thread::scope(|scope| {
        scope.spawn(|| (0..3).for_each(|_| drop(listener.accept().unwrap())));
        agent.run(program)
    });
    assert_eq!(printed, "('192.0.2.53', 53)\n('127.0.0.53', 53)\n('0.0.0.0', 53)");
}

#[test]
fn other_datagrams_go_nowhere() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let program = "
s = socket(AF_INET, SOCK_DGRAM); s6 = socket(AF_INET6, SOCK_DGRAM)
s.setsockopt(SOL_SOCKET, SO_BROADCAST, 1)
print('send', attempt(s.sendto, b'x', ('203.0.113.5', 443)))
print('broadcast', attempt(s.sendto, b'x', ('255.255.255.255', 9)))
print('multicast', attempt(s.sendto, b'x', ('224.0.0.251', 5353)))
print('connect', attempt(s.connect, ('203.0.113.5', 443)))
print('injector', attempt(s.sendto, b'x', ('127.0.0.1', 923)))
print('v6 send', attempt(s6.sendto, b'x', ('2001:db8::5', 443)))
print('v6 connect', attempt(s6.connect, ('2001:db8::5', 443)))
print('mapped send', attempt(s6.sendto, b'x', ('::ffff:203.0.113.5', 443)))
print('mapped connect', attempt(s6.connect, ('::ffff:203.0.113.5', 443)))
# An address family of AF_UNSPEC is taken as IPv4.
import ctypes
unspec = struct.pack('=HH4s8x', 0, htons(443), inet_aton('203.0.113.5'))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.sendto(s.fileno(), b'x', 1, 0, unspec, 16) == -1
print('unspec', errno.errorcode[ctypes.get_errno()])
";
    let printed = agent.run(program);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 10);
    for line in lines {
        assert!(line.ends_with(" EPERM"), "{line}");
    }
    let refusals = stage.refusals();
    assert_eq!(refusals.len(), 10);
    let first = &refusals[0];
    assert_eq!((first.hook, first.reason, first.protocol), ("sendmsg4", "traffic_kind", 17));
    assert_eq!(first.address, Some("203.0.113.5:443".parse().unwrap()));
    assert_eq!((first.comm.as_str(), first.cgroup_id), ("python3", agent.cgroup_id));
    let reserved = refusals.iter().filter(|refused| refused.reason == "reserved_port").count();
    assert_eq!(reserved, 1, "the injector's port");
}

#[test]
fn datagrams_within_the_agent_pass() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let program = "
for family, host in (AF_INET, '127.0.0.1'), (AF_INET6, '::1'), (AF_INET, '192.0.0.8'), (AF_INET6, '100::1'):
    server = socket(family, SOCK_DGRAM); server.bind((host, 5000)); server.settimeout(5)
    client = socket(family, SOCK_DGRAM); client.sendto(b'x' * 9000, (host, 5000))
    data, address = server.recvfrom(10000)
    server.sendto(b'y', address)
    client.settimeout(5); print(len(data), client.recvfrom(10)[1][:2])
";
    assert_eq!(
        agent.run(program),
        "9000 ('127.0.0.1', 5000)\n9000 ('::1', 5000)\n9000 ('192.0.0.8', 5000)\n9000 ('100::1', 5000)"
    );
}
