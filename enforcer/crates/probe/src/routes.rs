//! The table of ways out: what each one is, what it takes with the guard off, and who can say that it leaked.

use crate::{Attempt, Targets, dgram, host, kernel, raw, steer, stream, uring};

/// One way out.
pub struct Route {
    pub name: &'static str,
    /// For people, in a few words.
    pub what: &'static str,
    pub open: Open,
    pub sign: Sign,
    pub needs: Needs,
    /// Kernels are built without it, or it is switched off.
    pub optional: bool,
    pub(crate) run: fn(&Targets) -> Attempt,
}

/// How the attempt fares with the guard off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It leaks for an ordinary user.
    Leaks,
    /// It leaks for root: an ordinary user is refused by the kernel anyway, and the guard must not change that.
    LeaksAsRoot,
    /// It cannot leak without the guard either, for this reason.
    Structural(&'static str),
}

/// Who says that it leaked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A counter of packets: it is about the network.
    Packet,
    /// The attempt itself: what it reaches is on this host.
    Here,
}

/// What must be there for the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// Descriptor 7 is a connected UDP socket when the command is started.
    InheritedFd,
    /// Standard input is one.
    InheritedStdin,
    /// A process of the same user outside, which holds a socket.
    Victim,
    /// Another agent that serves on its loopback.
    OtherAgent,
    /// Somebody outside who keeps connecting to the host.
    Outsider,
}

type Run = fn(&Targets) -> Attempt;

const fn packet(name: &'static str, what: &'static str, run: Run) -> Route {
    Route { name, what, open: Open::Leaks, sign: Sign::Packet, needs: Needs::Nothing, optional: false, run }
}

const fn here(name: &'static str, what: &'static str, run: Run) -> Route {
    Route { name, what, open: Open::Leaks, sign: Sign::Here, needs: Needs::Nothing, optional: false, run }
}

impl Route {
    const fn root(self) -> Self {
        Route { open: Open::LeaksAsRoot, ..self }
    }

    const fn optional(self) -> Self {
        Route { optional: true, ..self }
    }

    const fn structural(self, why: &'static str) -> Self {
        Route { open: Open::Structural(why), ..self }
    }

    const fn needs(self, needs: Needs) -> Self {
        Route { needs, ..self }
    }
}

/// Every way there is an attempt for. `enforcer/docs/bypasses.md` is this table in words.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    packet("tcp4", "TCP to an address", stream::tcp4),
    packet("tcp6", "TCP over IPv6", stream::tcp6),
    packet("tcp4-mapped", "an IPv4 address on an IPv6 socket", stream::mapped),
    packet("tcp6-link-local", "a neighbour by link and scope", stream::link_local),
    packet("tcp-other-port", "a port no rule names", stream::other_port),
    packet("tcp-bound-source", "bind first, then connect", stream::bound_source),
    packet("tcp-after-unspec", "connect, dissolve, connect again", stream::after_unspec),
    packet("fastopen-sendto", "data on the SYN", stream::fastopen_sendto),
    packet("fastopen-connect", "data on the SYN, by option", stream::fastopen_connect),
    packet("mptcp", "multipath TCP", stream::mptcp),
    packet("sctp", "SCTP", raw::sctp).optional(),
    // Older kernels allow a source route to everybody, newer ones ask for CAP_NET_RAW.
    packet("lsrr", "IPv4 source route on a SYN", steer::lsrr).root(),
    packet("rthdr", "IPv6 routing header on a SYN", steer::rthdr),
    packet("bindtodevice", "bound to an interface", steer::bindtodevice),
    packet("ip-transparent", "with the address of somebody else", steer::transparent).root(),
    packet("tcp-repair", "a connection put together without a handshake", steer::repair).root(),
    packet("dot-853", "DNS over TLS", stream::dot),
    packet("dns-tcp", "another resolver over TCP", stream::dns_tcp),
    packet("metadata", "cloud metadata", stream::metadata),
    packet("metadata6", "cloud metadata over IPv6", stream::metadata6),
    packet("metadata-azure", "cloud metadata at an address that looks public", stream::metadata_azure),
    here("host-loopback", "a service on the host's loopback", stream::host_loopback),
    here("host-address", "a service on the host's own address", stream::host_address),
    here("host-unspecified", "a service of the host by 0.0.0.0 and ::", stream::host_unspecified),
    here("agent-loopback", "another agent's server", stream::agent_loopback).needs(Needs::OtherAgent),
    here("listen-inbound", "listen, and let somebody outside connect", stream::listen_inbound).needs(Needs::Outsider),
    here("injector-direct", "the injector without a redirect", stream::injector_direct).structural("there is no injector without the guard"),
    here("injector-bind", "take the injector's port", stream::injector_bind).root(),
    packet("udp-connect", "UDP, connected", dgram::connect),
    packet("udp-sendto", "UDP", dgram::sendto),
    packet("udp-sendmmsg", "UDP, several in one call", dgram::sendmmsg),
    packet("udp-gso", "UDP, one call and several packets", dgram::gso),
    packet("udp6", "UDP over IPv6", dgram::udp6),
    packet("udp6-mapped", "UDP to an IPv4 address on an IPv6 socket", dgram::mapped),
    packet("udp6-link-local", "UDP to a neighbour by link and scope", dgram::link_local),
    packet("udp-unspec", "UDP without a family in the address", dgram::unspec),
    packet("udp-lsrr", "UDP with a source route", steer::udp_lsrr).root(),
    packet("udp-lsrr-cmsg", "UDP with a source route beside the message", steer::udp_lsrr_cmsg).root(),
    packet("udp-rthdr", "UDP with an IPv6 routing header", steer::udp_rthdr),
    packet("udp-rthdr-cmsg", "the same beside the message", steer::udp_rthdr_cmsg).optional(),
    packet("udp-pktinfo", "UDP with the interface beside the message", steer::udp_pktinfo),
    packet("udp-unicast-if", "UDP by a chosen interface", steer::udp_unicast_if),
    packet("udplite", "UDP-Lite", dgram::udplite),
    packet("quic-443", "QUIC", dgram::quic),
    packet("doq-853", "DNS over QUIC", dgram::doq),
    packet("dns-tunnel", "data in labels of the attacker's zone", dgram::dns_tunnel),
    packet("multicast", "to whoever listens", dgram::multicast),
    packet("multicast6", "to whoever listens, over IPv6", dgram::multicast6),
    packet("broadcast", "to everybody", dgram::broadcast),
    packet("igmp-join", "bits in the address of a group", dgram::igmp_join),
    packet("mld-join", "bits in the address of an IPv6 group", dgram::mld_join),
    packet("so-mark", "a mark that routes or exempts", dgram::so_mark).root(),
    packet("inherited-fd", "a socket left open by the caller", dgram::inherited_fd).needs(Needs::InheritedFd),
    packet("inherited-stdin", "a socket as standard input", dgram::inherited_stdin).needs(Needs::InheritedStdin),
    packet("icmp-ping-dgram", "ping socket of an ordinary user", raw::ping_dgram),
    packet("icmp6-ping-dgram", "ping socket over IPv6", raw::ping6_dgram),
    packet("icmp-raw", "raw ICMP", raw::icmp_raw).root(),
    packet("icmp6-raw", "raw ICMP over IPv6", raw::icmp6_raw).root(),
    packet("raw-hdrincl", "a whole IPv4 packet", raw::hdrincl).root(),
    packet("raw6-hdrincl", "a whole IPv6 packet", raw::hdrincl6).root(),
    packet("raw-gre", "a raw socket of another protocol", raw::gre).root(),
    packet("packet", "frames by AF_PACKET", raw::packet).root(),
    here("xdp", "frames by AF_XDP", raw::xdp).root().optional(),
    here("vsock", "the line to the hypervisor", raw::vsock).optional(),
    here("odd-families", "every other family of sockets", raw::odd_families).root(),
    here("compat-call", "a socket by the 32-bit table of system calls", kernel::compat_call).optional(),
    packet("io-uring-connect", "connect by ring", uring::connect),
    packet("io-uring-socket", "socket and connect by ring", uring::socket_and_connect),
    packet("io-uring-sqpoll", "connect by the ring's own thread", uring::sqpoll),
    packet("io-uring-sendmsg", "UDP by ring", uring::sendmsg),
    here("netlink-route", "change the routes", kernel::netlink_route).root(),
    here("nft-table", "change the packet filter", kernel::nft_table).root(),
    here("proc-sys-net", "change a setting of the network", kernel::proc_sys_net).root(),
    here("tun", "an interface of one's own", kernel::tun).root().optional(),
    here("mknod", "a device node of one's own", kernel::mknod).root(),
    here("request-key", "the key-request upcall to a helper of root's", kernel::request_key).optional(),
    here("core-pattern", "the helper that is run for a crash", kernel::core_pattern).root(),
    packet("unshare-netns", "a network namespace of one's own", host::unshare_netns).structural("a namespace of one's own leads nowhere"),
    packet("unshare-userns-raw", "raw sockets as root of a user namespace", host::unshare_userns_raw).structural("the network belongs to the host's user namespace"),
    packet("netns-relay", "a namespace of one's own with a relay, as slirp does", host::netns_relay),
    packet("setns-host", "enter the host's namespace", host::setns_host).root(),
    here("cgroup-procs", "leave the cgroup", host::cgroup_procs).root(),
    here("cgroup-child", "a cgroup of one's own", host::cgroup_child).root(),
    here("clone-into-cgroup", "a child born in another cgroup", kernel::clone_into_cgroup).root(),
    here("bpf-pins", "open a pinned link and detach it", host::bpf_pins).root(),
    here("unix-abstract", "a deputy on an abstract socket", host::unix_abstract),
    here("unix-path", "a deputy on a socket by path", host::unix_path),
    here("unix-dgram", "a deputy that takes datagrams", host::unix_dgram),
    here("docker-sock", "the container engine", host::docker_sock),
    packet("scm-rights", "a socket handed over by a helper outside", host::scm_rights),
    here("ptrace-outside", "take hold of a process of the same user", host::ptrace_outside).needs(Needs::Victim),
    here("process-vm", "read a process of the same user", host::process_vm).needs(Needs::Victim),
    here("proc-mem", "write into a process of the same user", host::proc_mem).needs(Needs::Victim),
    here("signal-outside", "signal a process of the same user", host::signal_outside).needs(Needs::Victim),
    packet("pidfd-getfd", "a socket taken from a process of the same user", host::pidfd_getfd).needs(Needs::Victim),
];
