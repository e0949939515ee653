//! What the programs in the kernel cost: one process, on one processor, is now an agent and now nobody, in short bursts.
//!
//! `cargo xtask bench kernel`. Each figure is the mean of a burst; minimum and median are over the bursts. The minimum is the cost
//! on a quiet machine, the median what this machine was like.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement on a terminal"
)]

#[path = "../../tests/kernel/stage.rs"]
#[allow(dead_code, reason = "the tests' stage has more than a measurement needs")]
mod stage;

mod programs;
mod table;

use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use enforcer_capture::records::Records;
use rustix::net::{AddressFamily, SocketType};

use crate::stage::{Agent, Stage};
use crate::table::Row;

/// Bursts of each side, and connections in one: short enough that both sides see the same machine.
const BURSTS: usize = 150;
const CONNECTIONS: u32 = 64;
const ROUNDS: u32 = 64;

fn main() {
    // `cargo bench` passes arguments of its own.
    if !rustix::process::geteuid().is_root() {
        eprintln!("this measurement loads eBPF programs and makes namespaces: run it as root");
        std::process::exit(1);
    }
    on_one_processor();
    let stage = Stage::new();
    let agent = stage.agent("bench");
    let listeners = agent.netns.injectors();
    let bench = Bench {
        outside: own_cgroup(),
        records: Records::new(stage.kernel().records().unwrap()).unwrap(),
        agent: &agent,
        listener: &listeners[0],
    };
    let rows = agent.netns.enter(|| bench.rows());
    println!("{}", table::draw(&rows));
    let per_connection = agent.netns.enter(|| {
        programs::runs(CONNECTIONS, || {
            bench.enter(Side::Agent);
            let _times = bench.connections(Side::Agent);
            bench.enter(Side::Nobody);
        })
    });
    println!("{}", programs::draw(&per_connection));
}

/// Under which rules a burst runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Not below the managed root: no program runs.
    Nobody,
    Agent,
}

struct Bench<'a> {
    /// Where this process was at its start.
    outside: PathBuf,
    records: Records,
    agent: &'a Agent,
    listener: &'a TcpListener,
}

/// Means over one burst.
struct Times {
    connect: Duration,
    accept: Duration,
    identify: Duration,
}

impl Bench<'_> {
    fn rows(&self) -> Vec<Row> {
        let mut connect = Row::new("connect");
        let mut accepted = Row::new("connect + accept");
        let mut identified = Row::new("connect + accept + identify");
        let mut socket = Row::new("socket + close");
        let mut bulk = Row::new("64 KiB write + read");
        let mut small = Row::new("512 B write + read");
        let streams = [Side::Nobody, Side::Agent].map(|side| (side, self.stream(side)));
        for burst in 0..BURSTS + 1 {
            for (side, stream) in &streams {
                self.enter(*side);
                let Times { connect: a, accept: b, identify: c } = self.connections(*side);
                let bare = self.sockets();
                let large = transfer(stream, 64 * 1024);
                let little = transfer(stream, 512);
                // The first burst warms caches and makes what is made once.
                if burst > 0 {
                    connect.add(*side, a);
                    accepted.add(*side, a + b);
                    identified.add(*side, a + b + c);
                    socket.add(*side, bare);
                    bulk.add(*side, large);
                    small.add(*side, little);
                }
            }
        }
        self.enter(Side::Nobody);
        vec![socket, connect, accepted, identified, bulk, small]
    }

    /// A socket belongs to the cgroup that its maker was in.
    fn enter(&self, side: Side) {
        let cgroup = match side {
            Side::Nobody => &self.outside,
            Side::Agent => &self.agent.cgroup,
        };
        fs::write(cgroup.join("cgroup.procs"), "0").unwrap();
    }

    /// An agent asks for somewhere and comes out at the listener; nobody asks for the listener.
    fn destination(&self, side: Side) -> SocketAddr {
        match side {
            Side::Nobody => self.listener.local_addr().unwrap(),
            Side::Agent => ([203, 0, 113, 5], 443).into(),
        }
    }

    fn connections(&self, side: Side) -> Times {
        let destination = self.destination(side);
        let mut times = Times { connect: Duration::ZERO, accept: Duration::ZERO, identify: Duration::ZERO };
        for _ in 0..CONNECTIONS {
            let start = Instant::now();
            let client = socket();
            rustix::net::connect(&client, &destination).unwrap();
            let connected = Instant::now();
            let (server, _) = self.listener.accept().unwrap();
            let accepted = Instant::now();
            if side == Side::Agent {
                let (cgroup, netns) = (self.agent.cgroup_id, self.agent.netns.cookie);
                black_box(self.records.take(server.as_fd(), cgroup, netns).unwrap());
            }
            times.identify += accepted.elapsed();
            times.connect += connected - start;
            times.accept += accepted - connected;
            // Without TIME_WAIT, or the ports run out.
            rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        }
        times.connect /= CONNECTIONS;
        times.accept /= CONNECTIONS;
        times.identify /= CONNECTIONS;
        times
    }

    fn sockets(&self) -> Duration {
        let start = Instant::now();
        for _ in 0..CONNECTIONS {
            drop(black_box(socket()));
        }
        start.elapsed() / CONNECTIONS
    }

    /// Both ends of a connection whose client is on this side.
    fn stream(&self, side: Side) -> (TcpStream, TcpStream) {
        self.enter(side);
        let client = socket();
        rustix::net::connect(&client, &self.destination(side)).unwrap();
        let (server, _) = self.listener.accept().unwrap();
        if side == Side::Agent {
            self.records.take(server.as_fd(), self.agent.cgroup_id, self.agent.netns.cookie).unwrap();
        }
        let client = TcpStream::from(client);
        for stream in [&client, &server] {
            rustix::net::sockopt::set_socket_send_buffer_size(stream, 1 << 20).unwrap();
            rustix::net::sockopt::set_socket_recv_buffer_size(stream, 1 << 20).unwrap();
            stream.set_nodelay(true).unwrap();
        }
        (client, server)
    }
}

/// The agent writes, the other end reads: one message at a time.
fn transfer((client, server): &(TcpStream, TcpStream), size: usize) -> Duration {
    let (mut client, mut server) = (client, server);
    let mut buffer = vec![0u8; size];
    let start = Instant::now();
    for _ in 0..ROUNDS {
        client.write_all(&buffer).unwrap();
        server.read_exact(&mut buffer).unwrap();
    }
    start.elapsed() / ROUNDS
}

fn socket() -> OwnedFd {
    rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()
}

fn on_one_processor() {
    let mut processors = rustix::thread::sched_getaffinity(None).unwrap();
    let last = (0..rustix::thread::CpuSet::MAX_CPU).rev().find(|cpu| processors.is_set(*cpu)).unwrap();
    processors.clear();
    processors.set(last);
    rustix::thread::sched_setaffinity(None, &processors).unwrap();
}

/// The cgroup2 that this process is in.
fn own_cgroup() -> PathBuf {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).expect("cgroup2 is mounted");
    stage::cgroup2().join(path)
}
