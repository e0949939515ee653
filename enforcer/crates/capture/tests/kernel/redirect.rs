//! TCP reaches the injector with where it was going and who asked, whatever the spelling; and nobody else's.
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use enforcer_capture::records::{Origin, RecordError, Records};

use crate::stage::{Agent, Stage, unprivileged};

/// Accepts one connection as the worker does: without privilege.
fn accept(stage: &Stage, agent: &Agent, listener: &TcpListener) -> (Result<Origin, RecordError>, String) {
    let records = stage.kernel().records().unwrap();
    unprivileged(move || {
        let records = Records::new(records).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        let origin = records.take(socket.as_fd(), agent.cgroup_id, agent.netns.cookie);
        let mut said = String::new();
        socket.read_to_string(&mut said).unwrap();
        (origin, said)
    })
}

#[test]
fn a_connect_in_any_spelling_reaches_the_injector_with_its_destination() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let [v4, v6] = agent.netns.injectors();
    let cases = [
        ("AF_INET", "203.0.113.5", 443, "203.0.113.5:443", &v4),
        ("AF_INET", "169.254.169.254", 80, "169.254.169.254:80", &v4),
        ("AF_INET", "255.255.255.255", 1, "255.255.255.255:1", &v4),
        ("AF_INET6", "2001:db8::5", 443, "[2001:db8::5]:443", &v6),
        ("AF_INET6", "fe80::1", 8443, "[fe80::1]:8443", &v6),
        ("AF_INET6", "ff02::1", 8443, "[ff02::1]:8443", &v6),
        ("AF_INET6", "::ffff:203.0.113.5", 443, "203.0.113.5:443", &v4),
    ];
    for (family, host, port, expected, listener) in cases {
        let program = format!(
            "s = socket({family}, SOCK_STREAM)\n\
             s.connect(('{host}', {port}))\n\
             s.sendall(b'hello')\n\
             print(s.getpeername()[:2], os.getpid())"
        );
        let (printed, (origin, said)) = std::thread::scope(|scope| {
            let client = scope.spawn(|| agent.run(&program));
            let accepted = accept(&stage, &agent, listener);
            (client.join().unwrap(), accepted)
        });
        let origin = origin.unwrap();
        assert_eq!(origin.dst.0, expected.parse::<SocketAddr>().unwrap(), "{host}");
        assert_eq!(
            (origin.cgroup_id, origin.uid, origin.comm.as_str()),
            (agent.cgroup_id, 0, "python3"),
            "{host}"
        );
        assert_eq!(said, "hello");
        assert_eq!(
            printed,
            format!("('{host}', {port}) {}", origin.pid),
            "getpeername and the process are as asked"
        );
    }
    assert_eq!(stage.reasons(&agent), [""; 0]);
}

/// The same connection made from a thread of another user's, by fast open, or without blocking.
#[test]
fn other_ways_to_connect_are_redirected_too() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let [v4, _v6] = agent.netns.injectors();
    let cases = [
        ("fast open by send", "s.sendto(b'hello', MSG_FASTOPEN, ('203.0.113.5', 443))"),
        (
            "fast open by option",
            "s.setsockopt(IPPROTO_TCP, 30, 1); s.connect(('203.0.113.5', 443)); s.sendall(b'hello')",
        ),
        (
            "non-blocking",
            "s.setblocking(False); s.connect_ex(('203.0.113.5', 443)); s.setblocking(True)\n\
             import select; select.select([], [s], []); s.sendall(b'hello')",
        ),
        ("bound source", "s.bind(('127.0.0.9', 0)); s.connect(('203.0.113.5', 443)); s.sendall(b'hello')"),
        (
            "another user",
            "os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n\
             s.connect(('203.0.113.5', 443)); s.sendall(b'hello')",
        ),
    ];
    for (case, connect) in cases {
        let program = format!("s = socket(AF_INET, SOCK_STREAM)\n{connect}");
        let (origin, said) = std::thread::scope(|scope| {
            scope.spawn(|| agent.run(&program));
            accept(&stage, &agent, &v4)
        });
        let origin = origin.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(origin.dst.0, "203.0.113.5:443".parse::<SocketAddr>().unwrap(), "{case}");
        assert_eq!(origin.uid, if case == "another user" { 65534 } else { 0 });
        assert_eq!(said, "hello", "{case}");
    }
}

#[test]
fn a_socket_used_again_never_shows_the_destination_of_before() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let [v4, _v6] = agent.netns.injectors();
    // The first connection goes to the injector; after AF_UNSPEC the socket goes to the agent's own server, then out again.
    let program = "
server = socket(AF_INET, SOCK_STREAM); server.bind(('127.0.0.1', 3000)); server.listen()
import ctypes
libc = ctypes.CDLL(None)
s = socket(AF_INET, SOCK_STREAM)
s.connect(('203.0.113.5', 1001)); s.recv(1)
assert libc.connect(s.fileno(), bytes(16), 16) == 0
s.connect(('127.0.0.1', 3000)); print(s.getpeername())
accepted, _ = server.accept(); print(accepted.getpeername() == s.getsockname())
assert libc.connect(s.fileno(), bytes(16), 16) == 0
s.connect(('203.0.113.6', 1002)); print(s.getpeername()); s.recv(1)
";
    let (printed, first, second) = std::thread::scope(|scope| {
        let client = scope.spawn(|| agent.run(program));
        let records = Records::new(stage.kernel().records().unwrap()).unwrap();
        let take = || {
            let (socket, _) = v4.accept().unwrap();
            records.take(socket.as_fd(), agent.cgroup_id, agent.netns.cookie).unwrap().dst.0.to_string()
        };
        let (first, second) = (take(), take());
        (client.join().unwrap(), first, second)
    });
    assert_eq!((first.as_str(), second.as_str()), ("203.0.113.5:1001", "203.0.113.6:1002"));
    assert_eq!(printed, "('127.0.0.1', 3000)\nTrue\n('203.0.113.6', 1002)");
}

#[test]
fn a_record_is_taken_once_and_only_by_its_listener() {
    let stage = Stage::new();
    let agent = stage.agent("a");
    let [v4, _v6] = agent.netns.injectors();
    let records = Records::new(stage.kernel().records().unwrap()).unwrap();
    let connect = "s = socket(AF_INET, SOCK_STREAM); s.connect(('203.0.113.5', 443)); s.recv(1)";
    let taken = |cgroup_id, cookie| {
        std::thread::scope(|scope| {
            scope.spawn(|| agent.run(connect));
            let (socket, _) = v4.accept().unwrap();
            let first = records.take(socket.as_fd(), cgroup_id, cookie);
            let second = records.take(socket.as_fd(), agent.cgroup_id, agent.netns.cookie);
            (first.map(|origin| origin.dst.0.to_string()), second.unwrap_err())
        })
    };
    let (first, _gone) = taken(agent.cgroup_id, agent.netns.cookie);
    assert_eq!(first.unwrap(), "203.0.113.5:443");
    let (first, _gone) = taken(agent.cgroup_id + 1, agent.netns.cookie);
    assert!(matches!(first, Err(RecordError::Mismatch("agent"))), "{first:?}");
    let (first, _gone) = taken(agent.cgroup_id, agent.netns.cookie + 1);
    assert!(matches!(first, Err(RecordError::Mismatch("network namespace"))), "{first:?}");

    // A connection from outside the managed root: the host's own, without a tag.
    let outside = agent.netns.enter(|| std::net::TcpStream::connect("127.0.0.1:923").unwrap());
    let (socket, _) = v4.accept().unwrap();
    let refused = records.take(socket.as_fd(), agent.cgroup_id, agent.netns.cookie);
    assert!(matches!(refused, Err(RecordError::NoTag)), "{refused:?}");
    drop(outside);
}
