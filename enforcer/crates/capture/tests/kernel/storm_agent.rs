//! What agents do in the storms: `enforcer-capture-storm WHAT …`, run inside of an agent. Says on its output how it went.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test support")]

use std::io::{BufRead, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = |at: usize| arguments[at].parse::<usize>().unwrap();
    match arguments[0].as_str() {
        "connect" => connect(count(1)),
        "flood" => flood(count(1)),
        "fork" => fork(count(1)),
        "wander" => wander(),
        other => panic!("what is {other}?"),
    }
}

/// Connections that may wait at the listener: more would not be refused, but tried again after a second.
const WAITING: usize = 512;
const THREADS: usize = 4;

/// Says where it wanted to go, and resets the connection before or after it was accepted; one in 16 without a word. Each byte
/// on standard input is one that was accepted.
fn connect(count: usize) {
    let waiting = Arc::new((Mutex::new(0usize), Condvar::new()));
    let accepted = Arc::clone(&waiting);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = std::io::stdin().read(&mut bytes) {
            *accepted.0.lock().unwrap() -= n;
            accepted.1.notify_all();
        }
    });
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let waiting = &waiting;
            scope.spawn(move || {
                let mut random = Random(thread as u64 + 1);
                for number in 0..count / THREADS {
                    let room = waiting.1.wait_while(waiting.0.lock().unwrap(), |waiting| *waiting >= WAITING);
                    *room.unwrap() += 1;
                    let to = random.destination();
                    let mut stream = loop {
                        let socket = socket(SocketFlags::empty());
                        match rustix::net::connect(&socket, &to) {
                            Ok(()) => break TcpStream::from(socket),
                            // All 64 ports are taken, or the reset of a port's last user is still on its way.
                            Err(
                                rustix::io::Errno::ADDRNOTAVAIL
                                | rustix::io::Errno::CONNRESET
                                | rustix::io::Errno::CONNREFUSED,
                            ) => {}
                            Err(error) => panic!("{to}: {error}"),
                        }
                    };
                    if number % 16 != 0 {
                        stream.write_all(to.to_string().as_bytes()).unwrap();
                    }
                }
            });
        }
    });
    println!("{}", count / THREADS * THREADS);
}

/// Nobody accepts these, and none waits for an answer.
fn flood(count: usize) {
    let mut random = Random(7);
    let mut begun = 0;
    for _ in 0..count {
        let socket = socket(SocketFlags::NONBLOCK);
        match rustix::net::connect(&socket, &random.destination()) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => begun += 1,
            Err(error) => panic!("{error}"),
        }
    }
    println!("{begun}");
}

/// Each connection by a process of its own, which says its number and is gone.
fn fork(count: usize) {
    for number in 0..count {
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            0 => {
                let mut stream = TcpStream::connect(Random(number as u64 + 1).destination()).unwrap();
                write!(stream, "{}", std::process::id()).unwrap();
                std::process::exit(0);
            }
            child @ 1.. => {
                // Four at a time.
                if number >= 4 {
                    rustix::process::wait(rustix::process::WaitOptions::empty()).unwrap();
                }
                assert!(child > 0);
            }
            _ => panic!("fork: {}", std::io::Error::last_os_error()),
        }
    }
    while rustix::process::wait(rustix::process::WaitOptions::empty()).is_ok() {}
    println!("{count}");
}

/// Goes into each cgroup that it is told, and tells how a connection from there went.
fn wander() {
    for cgroup in std::io::stdin().lock().lines() {
        let cgroup = cgroup.unwrap();
        std::fs::write(format!("{cgroup}/cgroup.procs"), "0").unwrap();
        let went = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).and_then(|socket| {
            rustix::net::connect(&socket, &SocketAddr::from((Ipv4Addr::new(203, 0, 113, 5), 443)))?;
            Ok(TcpStream::from(socket).write_all(cgroup.as_bytes()))
        });
        match went {
            Ok(written) => {
                println!("{}", written.map_or_else(|error| error.to_string(), |()| "went".to_owned()))
            }
            Err(error) => println!("errno {}", error.raw_os_error()),
        }
    }
}

/// Closing it resets the connection.
fn socket(flags: SocketFlags) -> OwnedFd {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
    socket
}

/// Xorshift: the same storm each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn destination(&mut self) -> SocketAddr {
        let [low, high, port, more, ..] = self.next().to_le_bytes();
        SocketAddr::from((
            Ipv4Addr::new(198, 18 | (high & 1), high, low),
            1024 + u16::from_le_bytes([port, more]) % 60000,
        ))
    }
}
