//! sockops: writes the tag of the connect into an option of the SYN, from which the injector finds the connect record.
//!
//! Tags are never used twice and an agent cannot write TCP options, so unlike addresses and ports this stays right when
//! connections are aborted and ports reused.
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_HDR_OPT_LEN_CB, BPF_SOCK_OPS_TCP_CONNECT_CB,
    BPF_SOCK_OPS_WRITE_HDR_OPT_CB, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG,
};
use aya_ebpf::helpers::generated::{bpf_reserve_hdr_opt, bpf_store_hdr_opt};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use enforcer_common::{TAG_OPTION_KIND, TAG_OPTION_LEN, TAG_OPTION_MAGIC};

use crate::maps::known;

const SYN: u32 = 0x02;
const ACK: u32 = 0x10;
const WRITE_OPTIONS: u32 = BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;

#[sock_ops]
pub fn syn(ctx: SockOpsContext) -> u32 {
    // A failure leaves the SYN without the option: the injector then refuses the connection.
    _ = try_syn(&ctx);
    1
}

#[inline(always)]
fn try_syn(ctx: &SockOpsContext) -> Result<(), i64> {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => switch_option(ctx, tag(ctx) != 0),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => switch_option(ctx, false),
        BPF_SOCK_OPS_HDR_OPT_LEN_CB if is_syn(ctx) => {
            // SAFETY: the context of this program.
            done(unsafe { bpf_reserve_hdr_opt(ctx.ops, u32::from(TAG_OPTION_LEN), 0) })
        }
        BPF_SOCK_OPS_WRITE_HDR_OPT_CB if is_syn(ctx) => {
            let mut option = [0u8; TAG_OPTION_LEN as usize];
            option[0] = TAG_OPTION_KIND;
            option[1] = TAG_OPTION_LEN;
            option[2..4].copy_from_slice(&TAG_OPTION_MAGIC.to_be_bytes());
            option[4..].copy_from_slice(&tag(ctx).to_be_bytes());
            // SAFETY: the context of this program, and a buffer of that length.
            done(unsafe { bpf_store_hdr_opt(ctx.ops, option.as_ptr().cast(), u32::from(TAG_OPTION_LEN), 0) })
        }
        _ => Ok(()),
    }
}

/// Asks for the header option callbacks on this socket, or no longer. Also off: a socket may be used for a second connect.
#[inline(always)]
fn switch_option(ctx: &SockOpsContext, on: bool) -> Result<(), i64> {
    let before = ctx.cb_flags();
    let after = if on { before | WRITE_OPTIONS } else { before & !WRITE_OPTIONS };
    if before == after {
        return Ok(());
    }
    ctx.set_cb_flags(after as i32).map_err(i64::from)
}

#[inline(always)]
fn is_syn(ctx: &SockOpsContext) -> bool {
    // SAFETY: the context of this program; zero when there is no packet yet.
    let flags = unsafe { (&raw const (*ctx.ops).skb_tcp_flags).read_volatile() };
    flags & (SYN | ACK) == SYN
}

/// The tag of the connect that this socket is in; 0: it goes where it was asked to.
#[inline(always)]
fn tag(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the context of this program.
    let sk = unsafe { (&raw const (*ctx.ops).__bindgen_anon_2.sk).read_volatile() };
    if sk.is_null() {
        return 0;
    }
    known(sk).map_or(0, |socket| socket.tag)
}

#[inline(always)]
fn done(code: i64) -> Result<(), i64> {
    if code == 0 { Ok(()) } else { Err(code) }
}
