//! The attacker's machine: answers everything it is asked, at once, and runs the name server.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread;

use anyhow::{Context, Result};
use enforcer_tests::world::plan;

use crate::dns;

pub(crate) fn serve() -> Result<()> {
    let attacker: [IpAddr; 2] = [plan::ATTACKER_V4.into(), plan::ATTACKER_V6.into()];
    for ip in attacker {
        for port in plan::TCP_PORTS {
            banner(SocketAddr::new(ip, port))?;
        }
        for port in plan::UDP_PORTS {
            datagrams(SocketAddr::new(ip, port))?;
        }
        names(SocketAddr::new(ip, 53))?;
    }
    banner(SocketAddr::new(plan::METADATA_V4.into(), 80))?;
    // The good name server, which the daemon is told to ask.
    let server: [IpAddr; 2] = [plan::SERVER_V4.into(), plan::SERVER_V6.into()];
    for ip in server {
        names(SocketAddr::new(ip, 53))?;
    }
    // A datagram for any other address of this machine.
    datagrams(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 5000))?;
    crate::ready()
}

/// Speaks first, so that a client that got here knows it whatever it meant to say.
pub(crate) fn banner(at: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(at).with_context(|| format!("listen on {at}"))?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _whoever = stream.write_all(plan::BANNER.as_bytes());
                thread::sleep(plan::ATTACKER_LINGERS);
            });
        }
    });
    Ok(())
}

fn datagrams(at: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(at).with_context(|| format!("bind {at}"))?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _whoever = socket.send_to(plan::BANNER.as_bytes(), from);
        }
    });
    Ok(())
}

fn names(at: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(at).with_context(|| format!("bind {at} for names"))?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = buffer.get(..length).and_then(dns::answer) {
                let _whoever = socket.send_to(&answer, from);
            }
        }
    });
    Ok(())
}
