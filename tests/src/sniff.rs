//! Counts what arrives outside: an AF_PACKET socket in the outside namespace, read by a thread.
//!
//! It is the judge of the bypass tests: a probe may believe what it likes, a packet that is here
//! has left.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketType, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::packet::Packet;
use crate::world::plan;

/// `ETH_P_ALL` in network order, as socket(2) wants it.
const ETH_P_ALL: u32 = (3u16).to_be() as u32;
/// How often the thread looks whether it shall stop.
const TICK: Duration = Duration::from_millis(50);
/// A packet that was sent is here long before: both ends of a veth pair are one queue.
const SETTLE: Duration = Duration::from_millis(60);

/// Runs until dropped.
#[derive(Debug)]
pub struct Sniffer {
    seen: Arc<Mutex<Vec<Packet>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sniffer {
    /// Listens in the namespace `netns` to frames sent by `source_mac`.
    pub fn start(netns: &Path, source_mac: [u8; 6]) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let socket = socket_in(netns).context("open the packet counter")?;
        let (packets, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || read(&socket, source_mac, &packets, &stopped));
        Ok(Sniffer { seen, stop, thread: Some(thread) })
    }

    /// Where we are once earlier attempts have said goodbye: once the last packet is older than the attacker keeps a
    /// connection. Packets from here on are asked for with [`Sniffer::since`], and are nobody else's.
    pub fn mark(&self) -> usize {
        let deadline = Instant::now() + Duration::from_secs(5);
        let recent = || {
            let last = self.lock().iter().rev().find(|p| !p.is_housekeeping()).map(|p| p.arrived);
            last.is_some_and(|last| last.elapsed() < plan::ATTACKER_LINGERS + SETTLE * 2)
        };
        loop {
            let position = self.position();
            if !recent() || Instant::now() > deadline {
                return position;
            }
        }
    }

    /// Where we are, whatever is still under way: for [`Sniffer::saw`], which knows what it waits for.
    pub fn position(&self) -> usize {
        std::thread::sleep(SETTLE);
        self.lock().len()
    }

    /// Every packet since `mark` but the kernel's own housekeeping.
    pub fn since(&self, mark: usize) -> Vec<Packet> {
        std::thread::sleep(SETTLE);
        self.lock().iter().skip(mark).filter(|p| !p.is_housekeeping()).cloned().collect()
    }

    /// Waits until a packet since `mark` satisfies `wanted`.
    pub fn saw(&self, mark: usize, wait: Duration, wanted: impl Fn(&Packet) -> bool) -> bool {
        let deadline = Instant::now() + wait;
        loop {
            if self.lock().iter().skip(mark).any(&wanted) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Packet>> {
        self.seen.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// A socket keeps the namespace it was made in, so a short-lived thread goes there to make it.
fn socket_in(netns: &Path) -> Result<OwnedFd> {
    let namespace =
        std::fs::File::open(netns).with_context(|| format!("open namespace {}", netns.display()))?;
    let made = std::thread::spawn(move || -> io::Result<OwnedFd> {
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))?;
        let all = rustix::net::RawProtocol::new(ETH_P_ALL).map(Protocol::from_raw);
        let socket = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, all)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(TICK))?;
        sockopt::set_socket_recv_buffer_size(&socket, 8 << 20)?;
        Ok(socket)
    });
    let socket =
        made.join().map_err(|_panic| anyhow::anyhow!("the thread that makes the socket panicked"))??;
    Ok(socket)
}

fn read(socket: &OwnedFd, source_mac: [u8; 6], seen: &Mutex<Vec<Packet>>, stop: &AtomicBool) {
    let mut buffer = vec![0; 65536];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, _)) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) else {
            continue;
        };
        if let Some(packet) = buffer.get(..length).and_then(Packet::parse)
            && packet.source_mac == source_mac
        {
            seen.lock().unwrap_or_else(|e| e.into_inner()).push(packet);
        }
    }
}
