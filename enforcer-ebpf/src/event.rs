//! Refusals: the verdict, a counter, and an event for the audit log. When the ring buffer is full the loss is counted.
use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns,
};
use enforcer_common::{RefusalEvent, counter};

use crate::maps::{COUNTERS, EVENTS};

/// A refusal: one of `enforcer_common::reason`. The caller gets EPERM unless the program set another errno.
pub(crate) struct Denial(pub(crate) u16);

/// What was tried, for the event.
#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) hook: u16,
    pub(crate) cgroup_id: u64,
    /// IPv4 in the first word.
    pub(crate) addr_be: [u32; 4],
    /// Host order.
    pub(crate) port: u16,
    /// AF_*.
    pub(crate) family: u16,
    pub(crate) sock_type: u32,
    pub(crate) protocol: u32,
}

/// Who was current; packets may be sent on behalf of nobody.
#[derive(Clone, Copy)]
pub(crate) struct Task {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    comm: [u64; 2],
}

impl Task {
    pub(crate) const NONE: Task = Task { pid: 0, uid: 0, comm: [0; 2] };

    #[inline(always)]
    pub(crate) fn current() -> Self {
        // As words: bytes would be copied one by one.
        let mut comm = [0u64; 2];
        // SAFETY: helpers without arguments, and one that fills exactly the given buffer.
        unsafe {
            let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
            let uid = bpf_get_current_uid_gid() as u32;
            bpf_get_current_comm(comm.as_mut_ptr().cast(), 16);
            Task { pid, uid, comm }
        }
    }

    #[inline(always)]
    pub(crate) fn comm(&self) -> [u8; 16] {
        // SAFETY: both are 16 bytes without a meaning of their own.
        unsafe { core::mem::transmute(self.comm) }
    }
}

#[inline(always)]
pub(crate) fn count(hook: u16, what: u32) {
    if let Some(slot) = COUNTERS.get_ptr_mut(u32::from(hook) * counter::WIDTH + what) {
        // SAFETY: the slot of this CPU; programs of one CPU do not run into each other here but for packets, where a lost
        // increment is only a count.
        unsafe { *slot += 1 };
    }
}

/// Counts and reports a refusal.
#[inline(always)]
pub(crate) fn report(denial: &Denial, attempt: &Attempt, task: &Task) {
    count(attempt.hook, counter::REFUSED);
    let event = RefusalEvent {
        cgroup_id: attempt.cgroup_id,
        // SAFETY: a helper without arguments.
        at_ns: unsafe { bpf_ktime_get_ns() },
        addr_be: attempt.addr_be,
        port_be: attempt.port.to_be(),
        family: attempt.family,
        hook: attempt.hook,
        reason: denial.0,
        sock_type: attempt.sock_type,
        protocol: attempt.protocol,
        pid: task.pid,
        uid: task.uid,
        comm: task.comm(),
    };
    if EVENTS.output(&event, 0).is_err() {
        count(attempt.hook, counter::LOST_EVENT);
    }
}
