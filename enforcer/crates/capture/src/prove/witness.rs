//! Who says that a packet was there: a socket that sees every frame of a namespace, read by a thread.
//!
//! An attempt's own word does not count against it: a packet with its marks that is seen outside of the agent has left. The
//! witness looks for byte strings at most; of frames it reads one address.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{RecvFlags, sockopt};

use crate::netns::Netns;
use crate::sys;

/// How often the thread looks whether it shall stop.
const TICK: Duration = Duration::from_millis(50);
/// A packet that was sent is here long before; reports for groups come within a second, and their attempts wait for that.
const SETTLE: Duration = Duration::from_millis(150);
/// Of a host that is busy, between two turns of the thread.
const BUFFER: usize = 16 << 20;

/// Byte strings by which packets of each attempt are known.
pub(super) type Marks = BTreeMap<&'static str, Vec<Vec<u8>>>;

/// The name under which a witness is heard to be awake.
pub(super) const CONTROL: &str = "control";

/// What of a namespace is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sees {
    /// All of it.
    All,
    /// Packets that were to go further than the loopback addresses.
    Departing,
    /// Of a host's whole traffic only packets for the attempts' own addresses, chosen by the kernel.
    Targets,
}

/// Runs until asked what it saw.
pub(super) struct Witness {
    socket: Arc<OwnedFd>,
    seen: Arc<Mutex<BTreeMap<&'static str, u32>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What a witness has to say.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Packets by attempt.
    pub(super) packets: BTreeMap<&'static str, u32>,
    /// Packets that the kernel had no room for. More than none, and "nothing was seen" is not a proof.
    pub(super) lost: u32,
}

impl Witness {
    /// In `netns`, or where this thread is.
    pub(super) fn start(netns: Option<&Netns>, sees: Sees, marks: Arc<Marks>) -> io::Result<Self> {
        let open = || -> io::Result<OwnedFd> {
            let socket = sys::every_frame()?;
            if sees == Sees::Targets {
                sys::only_benchmarking_networks(socket.as_fd())?;
            }
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(TICK))?;
            // More than an ordinary user may have; the caller is root.
            sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
            Ok(socket)
        };
        let socket = Arc::new(match netns {
            Some(netns) => netns.within(open)?,
            None => open()?,
        });
        let (seen, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::Builder::new().name("witness".into()).spawn({
            let (socket, seen, stop) = (Arc::clone(&socket), Arc::clone(&seen), Arc::clone(&stop));
            move || watch(&socket, sees, &marks, &seen, &stop)
        })?;
        Ok(Witness { socket, seen, stop, thread: Some(thread) })
    }

    /// Sends a frame over loopback, where it stays, and waits until it is seen: a witness that is deaf is none.
    pub(super) fn check(&self, netns: Option<&Netns>, mark: &[u8]) -> io::Result<()> {
        let send = || sys::frame_on_loopback(mark);
        match netns {
            Some(netns) => netns.within(send)?,
            None => send()?,
        }
        for _ in 0..40 {
            if self.seen.lock().unwrap_or_else(|e| e.into_inner()).remove(CONTROL).is_some() {
                return Ok(());
            }
            std::thread::sleep(TICK);
        }
        Err(io::Error::other("the witness does not see a frame that is there"))
    }

    /// What was seen from the start until now.
    pub(super) fn finish(mut self) -> io::Result<Seen> {
        std::thread::sleep(SETTLE);
        self.end();
        let packets = std::mem::take(&mut *self.seen.lock().unwrap_or_else(|e| e.into_inner()));
        Ok(Seen { packets, lost: sys::frames_lost(self.socket.as_fd())? })
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.end();
    }
}

fn watch(
    socket: &OwnedFd,
    sees: Sees,
    marks: &Marks,
    seen: &Mutex<BTreeMap<&'static str, u32>>,
    stop: &AtomicBool,
) {
    let mut buffer = vec![0; 65536];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, _)) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) else {
            continue;
        };
        let packet = buffer.get(..length).unwrap_or_default();
        if sees == Sees::Departing && for_loopback(packet) {
            continue;
        }
        let holds = |mark: &Vec<u8>| packet.windows(mark.len()).any(|window| window == mark.as_slice());
        for (name, _) in marks.iter().filter(|(_, marks)| marks.iter().any(holds)) {
            *seen.lock().unwrap_or_else(|e| e.into_inner()).entry(*name).or_default() += 1;
        }
    }
}

/// Is it for 127.0.0.0/8 or ::1? Without a link-layer header. What cannot be read is not.
fn for_loopback(packet: &[u8]) -> bool {
    const LOOPBACK6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    match packet.first().map(|first| first >> 4) {
        Some(4) => packet.get(16) == Some(&127),
        Some(6) => packet.get(24..40) == Some(&LOOPBACK6[..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_loopback_does_not_depart() {
        let mut v4 = [0u8; 20];
        v4[0] = 0x45;
        assert!(!for_loopback(&v4));
        v4[16] = 127;
        assert!(for_loopback(&v4));
        let mut v6 = [0u8; 40];
        v6[0] = 0x60;
        assert!(!for_loopback(&v6));
        v6[39] = 1;
        assert!(for_loopback(&v6));
        assert!(!for_loopback(&[]) && !for_loopback(b"AF_PACKET was here"));
    }
}
