//! The program for connecting and sending to named unix sockets: an agent reaches those of its own view, and no others.
//!
//! A path does not tell whose socket it is: an agent makes symbolic links. So the path is not judged but moved: `/tmp/x`
//! becomes `/run/own/tmp/x`, where the launcher has mounted once more, following no symbolic links, the places that hold
//! only what the agent made, and the sockets that its policy names ([`crate::init`]). What is not there does not exist for it.
//!
//! By hand, because the library knows neither these hooks nor calls of kernel functions, and only those can change a path.
//! Per call, in this order; whatever fails refuses:
//! - the caller is an agent in force;
//! - an abstract name passes, as its namespace is the network's and not the host's;
//! - a path is absolute, without `..`, and short enough to be moved;
//! - the caller is in the first user namespace: in one of its own it could mount over the view, or change its root.
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::btf::Types;
use crate::init::OWN_VIEW;

/// PROC_USER_INIT_INO (linux/proc_ns.h): the number of the first user namespace.
const FIRST_USER_NAMESPACE: i32 = 0xEFFF_FFFD_u32 as i32;
/// `sun_path` (unix(7)).
const SUN_PATH: i32 = 108;
const SUN_PATH_AT: i32 = 2;

// Numbers of helpers (uapi/linux/bpf.h).
const MAP_LOOKUP_ELEM: i32 = 1;
const GET_CURRENT_TASK: i32 = 35;
const PROBE_READ_KERNEL: i32 = 113;
const PROBE_READ_KERNEL_STR: i32 = 115;
const GET_NETNS_COOKIE: i32 = 122;
const GET_CURRENT_ANCESTOR_CGROUP_ID: i32 = 123;

/// What the program is made for.
pub(super) struct Made<'a> {
    pub(super) agent_level: u32,
    pub(super) agents: BorrowedFd<'a>,
    /// The host's network namespace, whose abstract names are not the agent's.
    pub(super) host_netns: u64,
}

/// The instructions, for [`crate::sys::bpf::load_for_addresses`].
pub(super) fn program(types: &Types, made: &Made<'_>) -> io::Result<Vec<u64>> {
    let prefix = OWN_VIEW.as_bytes();
    let prefix_len = prefix.len() as i32;
    // Whole words, so that no read on the stack is misaligned.
    let (scratch, path) = (-8, -8 - (SUN_PATH + 4));
    let mut code = Code::default();
    code.copy(R6, R1);

    code.set(R1, made.agent_level as i32);
    code.call(GET_CURRENT_ANCESTOR_CGROUP_ID);
    code.store(scratch, R0);
    code.set_map(R1, made.agents);
    code.point(R2, scratch);
    code.call(MAP_LOOKUP_ELEM);
    code.refuse_if(EQUAL, R0, 0);

    code.copy(R1, R6);
    code.call_kernel(types.function("bpf_cast_to_kern_ctx")?);
    code.copy(R7, R0);
    code.load(R8, R7, types.member("bpf_sock_addr_kern", "uaddr")?, DOUBLE_WORD);
    code.load(R9, R7, types.member("bpf_sock_addr_kern", "uaddrlen")?, WORD);
    code.add(R9, -SUN_PATH_AT);
    // Without a name at all; and as a number without sign, so that a negative one is too large.
    code.refuse_if(EQUAL, R9, 0);
    code.refuse_if(GREATER, R9, SUN_PATH);
    for word in 0..(SUN_PATH + 4) / 8 {
        code.clear(path + 8 * word);
    }
    // The name ends at its NUL or, without one, where the address does: callers pass either length.
    let longest = SUN_PATH - prefix_len;
    code.add(R9, 1);
    let short = code.jump_if(NOT_GREATER, R9, longest + 1);
    code.set(R9, longest + 1);
    code.land(short);
    code.point(R1, path + prefix_len);
    code.copy(R2, R9);
    code.copy(R3, R8);
    code.add(R3, SUN_PATH_AT);
    code.call(PROBE_READ_KERNEL_STR);
    // The length with its NUL; what could not be read is too large as well.
    code.copy(R9, R0);
    code.refuse_if(GREATER, R9, longest + 1);
    code.load(R1, R10, path + prefix_len, BYTE);
    let is_abstract = code.jump_if(EQUAL, R1, 0);
    code.refuse_if(NOT_EQUAL, R1, i32::from(b'/'));
    code.refuse_if(GREATER, R9, longest);

    code.call(GET_CURRENT_TASK);
    code.copy(R3, R0);
    let steps = [
        (types.member("task_struct", "cred")?, 8),
        (types.member("cred", "user_ns")?, 8),
        (types.member("user_namespace", "ns")? + types.member("ns_common", "inum")?, 4),
    ];
    for (offset, size) in steps {
        code.add(R3, offset);
        code.clear(scratch);
        code.point(R1, scratch);
        code.set(R2, size);
        code.call(PROBE_READ_KERNEL);
        code.load(R3, R10, scratch, DOUBLE_WORD);
    }
    code.set_low(R2, FIRST_USER_NAMESPACE);
    code.refuse_if_not_same(R3, R2);

    for at in path + prefix_len..path + SUN_PATH - 1 {
        code.load(R1, R10, at, BYTE);
        let no_dot = code.jump_if(NOT_EQUAL, R1, i32::from(b'.'));
        code.load(R1, R10, at + 1, BYTE);
        code.refuse_if(EQUAL, R1, i32::from(b'.'));
        code.land(no_dot);
    }
    for (at, byte) in (path..).zip(prefix) {
        code.store_byte(at, *byte);
    }
    code.copy(R1, R7);
    code.point(R2, path);
    code.copy(R3, R9);
    code.add(R3, prefix_len);
    code.call_kernel(types.function("bpf_sock_addr_set_sun_path")?);
    code.refuse_if(NOT_EQUAL, R0, 0);
    code.finish(1);

    code.land(is_abstract);
    code.copy(R1, R6);
    code.call(GET_NETNS_COOKIE);
    code.set_wide(R1, 0, made.host_netns);
    code.refuse_if_same(R0, R1);
    code.finish(1);
    Ok(code.refusing())
}

/// Instructions that end in 1, or jump to the end, which is 0: the hook turns that into EPERM.
#[derive(Default)]
struct Code {
    words: Vec<u64>,
    refusals: Vec<Jump>,
}

/// A jump whose target is not known yet.
struct Jump(usize);

type Register = u64;
const R0: Register = 0;
const R1: Register = 1;
const R2: Register = 2;
const R3: Register = 3;
const R6: Register = 6;
const R7: Register = 7;
const R8: Register = 8;
const R9: Register = 9;
/// The end of the stack.
const R10: Register = 10;

// Opcodes (Documentation/bpf/standardization/instruction-set.rst): jumps against an immediate, and sizes of loads.
const EQUAL: u64 = 0x15;
const GREATER: u64 = 0x25;
const NOT_EQUAL: u64 = 0x55;
const NOT_GREATER: u64 = 0xb5;
const DOUBLE_WORD: u64 = 0x79;
const WORD: u64 = 0x61;
const BYTE: u64 = 0x71;

impl Code {
    fn put(&mut self, opcode: u64, to: Register, from: Register, offset: i32, immediate: i32) {
        let offset = u64::from(offset as u16);
        self.words.push(opcode | to << 8 | from << 12 | offset << 16 | u64::from(immediate as u32) << 32);
    }
    fn copy(&mut self, to: Register, from: Register) {
        self.put(0xbf, to, from, 0, 0);
    }
    fn set(&mut self, to: Register, value: i32) {
        self.put(0xb7, to, 0, 0, value);
    }
    /// The upper half becomes zero.
    fn set_low(&mut self, to: Register, value: i32) {
        self.put(0xb4, to, 0, 0, value);
    }
    fn add(&mut self, to: Register, value: i32) {
        self.put(0x07, to, 0, 0, value);
    }
    fn set_wide(&mut self, to: Register, kind: Register, value: u64) {
        self.put(0x18, to, kind, 0, value as i32);
        self.put(0, 0, 0, 0, (value >> 32) as i32);
    }
    fn set_map(&mut self, to: Register, map: BorrowedFd<'_>) {
        /// BPF_PSEUDO_MAP_FD
        const MAP_FD: Register = 1;
        self.set_wide(to, MAP_FD, u64::from(map.as_raw_fd() as u32));
    }
    fn point(&mut self, to: Register, stack: i32) {
        self.copy(to, R10);
        self.add(to, stack);
    }
    fn load(&mut self, to: Register, from: Register, offset: i32, size: u64) {
        self.put(size, to, from, offset, 0);
    }
    fn store(&mut self, stack: i32, from: Register) {
        self.put(0x7b, R10, from, stack, 0);
    }
    fn clear(&mut self, stack: i32) {
        self.put(0x7a, R10, 0, stack, 0);
    }
    fn store_byte(&mut self, stack: i32, byte: u8) {
        self.put(0x72, R10, 0, stack, i32::from(byte));
    }
    fn call(&mut self, helper: i32) {
        self.put(0x85, 0, 0, 0, helper);
    }
    fn call_kernel(&mut self, function: u32) {
        /// BPF_PSEUDO_KFUNC_CALL
        const KERNEL: Register = 2;
        self.put(0x85, 0, KERNEL, 0, function as i32);
    }
    fn jump_if(&mut self, opcode: u64, register: Register, value: i32) -> Jump {
        self.put(opcode, register, 0, 0, value);
        Jump(self.words.len() - 1)
    }
    fn refuse_if(&mut self, opcode: u64, register: Register, value: i32) {
        let jump = self.jump_if(opcode, register, value);
        self.refusals.push(jump);
    }
    fn refuse_if_same(&mut self, one: Register, other: Register) {
        self.put(0x1d, one, other, 0, 0);
        self.refusals.push(Jump(self.words.len() - 1));
    }
    fn refuse_if_not_same(&mut self, one: Register, other: Register) {
        self.put(0x5d, one, other, 0, 0);
        self.refusals.push(Jump(self.words.len() - 1));
    }
    /// The jump goes here. A few hundred instructions, so the distance always fits.
    fn land(&mut self, jump: Jump) {
        let distance = (self.words.len() - jump.0 - 1) as u64;
        if let Some(word) = self.words.get_mut(jump.0) {
            *word |= distance << 16;
        }
    }
    fn finish(&mut self, answer: i32) {
        self.set(R0, answer);
        self.put(0x95, 0, 0, 0, 0);
    }
    fn refusing(mut self) -> Vec<u64> {
        for jump in std::mem::take(&mut self.refusals) {
            self.land(jump);
        }
        self.finish(0);
        self.words
    }
}
