//! The same line a second time, by netfilter: a table in each session's own network namespace. [`shared`] has the one
//! for namespaces that an attached session shares with others.
//!
//! It needs no BPF program and no cgroup, so it holds where those are missing or broken. Nothing in it matches a
//! cgroup: the namespace holds this one agent, so everything in it is the agent's. A match by cgroup would be
//! weaker: netfilter turns the path into an id when the rule is loaded, a cgroup made again under the same name
//! gets another id, and the rule then silently matches nothing; and it misses what has no socket of the agent's
//! (IGMP, forwarded packets).
//!
//! Left to the other lines: AF_PACKET, which goes past the hooks of this family (no capability, seccomp, and there
//! is no device). The table is only loaded here; agents cannot change it, they have no capability over their namespace.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use nftables::batch::Batch;
use nftables::expr::{
    BinaryOperation, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, SetItem,
};
use nftables::helper;
use nftables::schema::{Chain, NfListObject, Nftables, Rule, Table};
use nftables::stmt::{Match, Operator, Reject, RejectType, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook, RejectCode};

use crate::Error;
use crate::message;
use crate::netns::Netns;

mod loaded;
mod mark;
mod shared;

pub(crate) use loaded::Loaded;
pub(crate) use mark::Mark;
pub(crate) use shared::Shared;

/// Of sessions whose namespace is ours.
pub(crate) const TABLE: &str = "enforcer";
/// Of an attached session, in whatever namespace: others may have theirs there.
pub(crate) fn table_of(session: &str) -> String {
    format!("enforcer-{session}")
}

/// Directories that only root writes; the daemon's `PATH` has no say in what root runs here.
const PLACES: [&str; 6] =
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/run/current-system/sw/bin"];
/// Where `lo` leads and what a namespace of ours has on it; see `netns` for the last ones.
const LOCAL_V4: [(&str, u32); 2] = [("127.0.0.0", 8), ("192.0.0.8", 32)];
const LOCAL_V6: [&str; 2] = ["::1", "100::1"];

/// Whether sessions get the table, found out once, when the daemon starts.
#[derive(Clone, Debug)]
pub(crate) enum Backstop {
    Nft(PathBuf),
    /// The host has no `nft`. The empty namespace and the programs hold without it.
    Absent,
}

/// Where `nft` is, if it is installed.
pub fn nft() -> Option<PathBuf> {
    nft_in(PLACES.iter().map(Path::new))
}

fn nft_in<'a>(mut places: impl Iterator<Item = &'a Path>) -> Option<PathBuf> {
    places.find_map(|place| Some(place.join("nft")).filter(|path| path.is_file()))
}

impl Backstop {
    pub(crate) fn find() -> Self {
        nft().map_or(Backstop::Absent, Backstop::Nft)
    }

    /// As the worker tells it.
    pub(crate) fn told(&self) -> message::Backstop {
        match self {
            Backstop::Nft(_) => message::Backstop::Nftables,
            Backstop::Absent => message::Backstop::Absent,
        }
    }

    /// Loads the table into a session's namespace, in place of one that is there. All of it or nothing of it. `None`: there is no
    /// `nft`, or somebody else changes the rules of that namespace.
    pub(crate) fn load(&self, netns: &Netns) -> Result<Option<Mark>, Error> {
        let Backstop::Nft(nft) = self else { return Ok(None) };
        netns.within(|| Mark::by(|| apply(nft, TABLE))).map_err(not_loaded)
    }

    /// Whether a session's table is the one that this version would load, by what was left there when it was. Not to be seen is no.
    pub(crate) fn stands(&self, netns: &Netns, mark: &Mark) -> bool {
        matches!(self, Backstop::Nft(_)) && netns.within(|| mark.holds()).unwrap_or(false)
    }

    /// The same under a name of its own, in a namespace that we did not make. `None`: there is no `nft`.
    pub(crate) fn load_as(&self, table: &str, netns: &Netns) -> Result<Option<Loaded>, Error> {
        let Backstop::Nft(nft) = self else { return Ok(None) };
        netns.within(|| Loaded::by(nft, table, || apply(nft, table))).map(Some).map_err(not_loaded)
    }
}

fn apply(nft: &Path, table: &str) -> io::Result<()> {
    helper::apply_ruleset_with_args(&ruleset(table), Some(nft), helper::DEFAULT_ARGS)
        .map_err(io::Error::other)
}

/// What `nft` complained of.
fn said(stderr: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(stderr);
    io::Error::other(format!("nft: {}", text.lines().next().unwrap_or("failed without a word")))
}

fn not_loaded(error: io::Error) -> Error {
    Error::refused(
        format!("the nftables backstop cannot be loaded into the agent's network namespace: {error}"),
        "what nft says is in the daemon's log; the kernel needs CONFIG_NF_TABLES_INET and \
         CONFIG_NFT_REJECT_INET (`modprobe nft_reject_inet`)",
    )
}

fn ruleset(name: &str) -> Nftables<'_> {
    let mut batch = Batch::new();
    let table = || {
        NfListObject::Table(Table { family: NfFamily::INet, name: Cow::Borrowed(name), ..Table::default() })
    };
    // Made, so that it can be deleted, so that it can be made anew: one transaction, whatever was there.
    batch.add(table());
    batch.delete(table());
    batch.add(table());
    for (chain, hook) in [("output", NfHook::Output), ("input", NfHook::Input), ("forward", NfHook::Forward)]
    {
        batch.add(NfListObject::Chain(Chain {
            family: NfFamily::INet,
            table: Cow::Borrowed(name),
            name: chain.into(),
            _type: Some(NfChainType::Filter),
            hook: Some(hook),
            prio: Some(0),
            policy: Some(NfChainPolicy::Drop),
            ..Chain::default()
        }));
    }
    for rule in output() {
        batch.add(in_chain(name, "output", rule));
    }
    batch.add(in_chain(name, "input", vec![is(meta(MetaKey::Iif), text("lo")), Statement::Accept(None)]));
    batch.to_nftables()
}

fn output() -> Vec<Vec<Statement<'static>>> {
    let lo = || is(meta(MetaKey::Oif), text("lo"));
    let protocol = || is(meta(MetaKey::L4proto), set([text("tcp"), text("udp")]));
    let v4 = set(LOCAL_V4.map(|(address, len)| prefix(address, len)));
    let v6 = set(LOCAL_V6.map(text));
    let flags =
        Expression::BinaryOperation(Box::new(BinaryOperation::AND(field("tcp", "flags"), text("rst"))));
    vec![
        vec![lo(), is(field("ip", "daddr"), v4), protocol(), Statement::Accept(None)],
        vec![lo(), is(field("ip6", "daddr"), v6), protocol(), Statement::Accept(None)],
        // What tells a program of the agent's that nobody listens, or that a rule below refused it.
        vec![lo(), is(field("icmp", "type"), text("destination-unreachable")), Statement::Accept(None)],
        vec![lo(), is(field("icmpv6", "type"), text("destination-unreachable")), Statement::Accept(None)],
        vec![lo(), is(flags, text("rst")), Statement::Accept(None)],
        // Refused rather than dropped: the caller learns it at once (ECONNREFUSED, EPERM).
        vec![is(meta(MetaKey::L4proto), text("tcp")), reject(RejectType::TCPReset, None)],
        vec![reject(RejectType::ICMPX, Some(RejectCode::AdminProhibited))],
    ]
}

fn in_chain<'a>(table: &'a str, chain: &'static str, expr: Vec<Statement<'static>>) -> NfListObject<'a> {
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: Cow::Borrowed(table),
        chain: chain.into(),
        expr: Cow::Owned(expr),
        ..Rule::default()
    })
}

fn is(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

fn reject(kind: RejectType, code: Option<RejectCode>) -> Statement<'static> {
    Statement::Reject(Some(Reject::new(Some(kind), code)))
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn text(text: &'static str) -> Expression<'static> {
    Expression::String(text.into())
}

fn prefix(address: &'static str, len: u32) -> Expression<'static> {
    Expression::Named(NamedExpression::Prefix(Prefix { addr: Box::new(text(address)), len }))
}

fn set<const N: usize>(items: [Expression<'static>; N]) -> Expression<'static> {
    Expression::Named(NamedExpression::Set(items.into_iter().map(SetItem::Element).collect()))
}

#[cfg(test)]
mod tests;
