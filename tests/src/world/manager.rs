//! Plays the service manager for a daemon: reads what it tells, at once, as a real one does, and keeps the descriptors that it
//! is given, where a test asks for that.

use std::collections::BTreeMap;
use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

/// Nothing that a daemon says.
const END: &[u8] = b"the stage is over";
/// Above all numbers that passed descriptors get.
const HIGH: i32 = 200;
/// Moves the descriptors to where they belong and becomes the daemon. Not a shell: those use numbers from 10 on for themselves.
const PASS: &str = "import os, sys\n\
    numbers = [int(number) for number in sys.argv[1].split(',')]\n\
    for to, number in enumerate(numbers, 3): os.dup2(number, to)\n\
    for number in numbers: os.close(number)\n\
    os.environ.update(LISTEN_FDS=str(len(numbers)), LISTEN_PID=str(os.getpid()))\n\
    os.execvp(sys.argv[2], sys.argv[2:])";

/// By name, as systemd keeps them.
type Store = BTreeMap<String, Vec<OwnedFd>>;

#[derive(Debug)]
pub(super) struct Manager {
    pub(super) socket: PathBuf,
    heard: Arc<Heard>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Heard {
    said: Mutex<String>,
    store: Mutex<Store>,
    /// `FileDescriptorStoreMax=` is not zero.
    keeps: AtomicBool,
}

impl Manager {
    pub(super) fn start(socket: PathBuf) -> Result<Self> {
        let listener = UnixDatagram::bind(&socket).context("bind the notify socket")?;
        let heard = Arc::<Heard>::default();
        let hearing = Arc::clone(&heard);
        let thread = std::thread::spawn(move || while hearing.one(&listener) {});
        Ok(Manager { socket, heard, thread: Some(thread) })
    }

    /// Everything it was told so far.
    pub(super) fn said(&self) -> String {
        self.heard.said.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Descriptors are kept from now on.
    pub(super) fn keep(&self) {
        self.heard.keeps.store(true, Ordering::SeqCst);
    }

    /// How many descriptors are kept under each name.
    pub(super) fn stored(&self) -> BTreeMap<String, usize> {
        self.heard.store().iter().map(|(name, fds)| (name.clone(), fds.len())).collect()
    }

    /// Makes `command` one that is passed what is kept, as systemd does; `None` when there is nothing. The copies that are
    /// returned must live until it is started.
    pub(super) fn passing(&self, command: &Command) -> Result<Option<(Command, Vec<OwnedFd>)>> {
        let store = self.heard.store();
        let kept: Vec<&OwnedFd> = store.values().flatten().collect();
        if kept.is_empty() {
            return Ok(None);
        }
        let mut copies = Vec::with_capacity(kept.len());
        for fd in kept {
            copies.push(rustix::io::fcntl_dupfd_cloexec(fd, HIGH)?);
        }
        for copy in &copies {
            rustix::io::fcntl_setfd(copy, rustix::io::FdFlags::empty())?;
        }
        let numbers: Vec<_> = copies.iter().map(|copy| copy.as_raw_fd().to_string()).collect();
        let mut passing = Command::new("python3");
        passing.args(["-c", PASS, &numbers.join(",")]).arg(command.get_program()).args(command.get_args());
        passing.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ok(Some((passing, copies)))
    }
}

impl Heard {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes one message; `false`: the last.
    fn one(&self, listener: &UnixDatagram) -> bool {
        let mut buffer = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            listener,
            &mut [IoSliceMut::new(&mut buffer)],
            &mut beside,
            RecvFlags::CMSG_CLOEXEC,
        );
        let Ok(received) = received else { return false };
        let message = buffer.get(..received.bytes).unwrap_or_default();
        if message == END {
            return false;
        }
        let words = String::from_utf8_lossy(message);
        let name = words.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or_default();
        let mut passed = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                passed.extend(fds);
            }
        }
        if self.keeps.load(Ordering::SeqCst) && words.contains("FDSTORE=1") {
            self.store().entry(name.to_owned()).or_default().extend(passed);
        } else if words.contains("FDSTOREREMOVE=1") {
            self.store().remove(name);
        }
        let mut said = self.said.lock().unwrap_or_else(|e| e.into_inner());
        said.push_str(&words);
        said.push('\n');
        true
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let told = UnixDatagram::unbound().and_then(|s| s.send_to(END, &self.socket));
        if let (Ok(_), Some(thread)) = (told, self.thread.take()) {
            let _ended = thread.join();
        }
        let _gone = fs::remove_file(&self.socket);
    }
}
