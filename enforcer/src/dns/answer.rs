//! What one question of an agent is answered: strict reading, then policy.
//!
//! Produces bytes and, for a refusal, what the receipt says. Sockets, rate and receipts are
//! `server`'s.

use std::net::{IpAddr, Ipv4Addr};

use enforcer_policy::{AgentPolicy, Host, NameMatch};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::resolver::{ResolveError, Resolver};
use super::special::forbidden;

/// A question is a header, one name and perhaps EDNS: more than this is not a question.
pub(super) const MAX_QUESTION: usize = 4096;
const HEADER: usize = 12;
/// Agents ask again this often (seconds), so that a change of policy is seen soon.
const MAX_TTL: u32 = 60;
/// What we put into one UDP answer at most (DNS flag day 2020), and offer to receive.
const MAX_UDP_ANSWER: u16 = 1232;
const MIN_UDP_ANSWER: u16 = 512;
/// Asked for by programs before they resolve names past the system's resolver; NXDOMAIN keeps them from it: Firefox's DNS
/// over HTTPS, a relay of Apple's. (`_dns.resolver.arpa`, RFC 9462, is no host name and gets the same answer.)
const CANARIES: [&str; 3] = ["use-application-dns.net", "mask.icloud.com", "mask-h2.icloud.com"];

/// Extended DNS errors (RFC 8914).
const EDE_BLOCKED: u16 = 15;
const EDE_FILTERED: u16 = 17;
const EDE_NETWORK_ERROR: u16 = 23;

/// An answer, and why it is a refusal if it is one.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) message: Message,
    pub(super) refusal: Option<Refusal>,
    /// What the client can take over UDP.
    limit: u16,
}

/// What the receipt of a refused question says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    /// The name asked for, when it was one.
    pub(super) name: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) sentence: String,
}

impl Answer {
    /// The bytes for a datagram: cut short with the TC bit when they are more than the client takes.
    pub(super) fn datagram(&self) -> Option<Vec<u8>> {
        let bytes = self.stream()?;
        if bytes.len() <= usize::from(self.limit) {
            Some(bytes)
        } else {
            self.message.truncate().to_vec().ok()
        }
    }

    /// The bytes for a TCP connection, without the length in front.
    pub(super) fn stream(&self) -> Option<Vec<u8>> {
        self.message.to_vec().ok()
    }
}

/// Answers one question. `None`: not even an id to answer to, or itself an answer.
pub(super) async fn answer(
    bytes: &[u8],
    policy: Option<&AgentPolicy>,
    resolver: &Resolver,
) -> Option<Answer> {
    let (head, question) = match read(bytes)? {
        Ok(read) => read,
        Err((message, sentence)) => {
            let refusal = Refusal { reason: "bad_query", name: None, kind: None, sentence };
            return Some(Answer { message, refusal: Some(refusal), limit: MIN_UDP_ANSWER });
        }
    };
    let mut reply = Reply::new(head, &question);
    let kind = question.query_type();
    if question.query_class() != DNSClass::IN || refused_kind(kind) {
        let sentence = format!("{} {kind} questions are not answered", question.query_class());
        return Some(reply.refuse(ResponseCode::Refused, "record_type", None, &sentence));
    }
    let Some(host) = host(question.name()) else {
        let shown = shown(question.name());
        let sentence = format!("`{shown}` is not a host name");
        return Some(reply.refuse(ResponseCode::NXDomain, "bad_name", None, &sentence));
    };
    let name = host.to_string();
    if CANARIES.contains(&name.as_str()) || kind == RecordType::PTR {
        reply.message.metadata.response_code = ResponseCode::NXDomain;
        return Some(reply.done());
    }
    let Some(policy) = policy else {
        let sentence = "no policy is loaded for this agent";
        return Some(reply.refuse(ResponseCode::NXDomain, "no_policy", Some(name), sentence));
    };
    match policy.resolves(&host) {
        NameMatch::No => {
            let sentence = "no allow rule names this host";
            Some(reply.refuse(ResponseCode::NXDomain, "name_not_allowed", Some(name), sentence))
        }
        NameMatch::Wildcard => {
            if kind == RecordType::A {
                reply.address(question.name(), synthetic(&name).into());
            }
            Some(reply.done())
        }
        NameMatch::Exact if matches!(kind, RecordType::A | RecordType::AAAA) => {
            Some(looked_up(reply, question.name(), &host, kind, policy, resolver).await)
        }
        NameMatch::Exact => Some(reply.done()),
    }
}

/// The answer to an agent that is switched off.
pub(super) fn disabled(bytes: &[u8]) -> Option<Answer> {
    let (head, question) = match read(bytes)? {
        Ok(read) => read,
        Err((message, sentence)) => {
            let refusal = Refusal { reason: "bad_query", name: None, kind: None, sentence };
            return Some(Answer { message, refusal: Some(refusal), limit: MIN_UDP_ANSWER });
        }
    };
    let name = host(question.name()).map(|host| host.to_string());
    let sentence = "this agent has been disabled";
    Some(Reply::new(head, &question).refuse(ResponseCode::NXDomain, "agent_disabled", name, sentence))
}

/// The answer to a client that asks too much: only the id is read.
pub(super) fn too_many(bytes: &[u8]) -> Option<Vec<u8>> {
    let [high, low, flags, ..] = *bytes else { return None };
    if bytes.len() < HEADER || flags & 0x80 != 0 {
        return None;
    }
    let id = u16::from_be_bytes([high, low]);
    Message::error_msg(id, OpCode::Query, ResponseCode::Refused).to_vec().ok()
}

async fn looked_up(
    mut reply: Reply,
    name: &Name,
    host: &Host,
    kind: RecordType,
    policy: &AgentPolicy,
    resolver: &Resolver,
) -> Answer {
    let found = match resolver.lookup(host).await {
        Ok(found) => found,
        Err(ResolveError::NoName(_)) => {
            reply.message.metadata.response_code = ResponseCode::NXDomain;
            return reply.done();
        }
        Err(ResolveError::Failed(_, _)) => {
            reply.message.metadata.response_code = ResponseCode::ServFail;
            reply.explain(EDE_NETWORK_ERROR, "the enforcer's name servers did not answer");
            return reply.done();
        }
    };
    let mut filtered = None;
    for &address in found.iter().filter(|a| a.is_ipv4() == (kind == RecordType::A)) {
        match forbidden(address, policy.private_addresses()) {
            None => reply.address(name, address),
            Some(why) => filtered = Some((address, why)),
        }
    }
    match filtered {
        Some((address, why)) if reply.message.answers.is_empty() => {
            reply.explain(EDE_FILTERED, "the addresses of this name are special-purpose");
            let sentence = format!(
                "it resolves to {address} ({why}); name the network under `dns.private_addresses` to allow it"
            );
            reply.refused("special_address", Some(host.to_string()), &sentence)
        }
        Some(_) | None => reply.done(),
    }
}

/// What a question brings besides its name.
struct Head {
    id: u16,
    recursion_desired: bool,
    edns: Option<u16>,
}

/// Reads strictly: a header, one question, perhaps one OPT, nothing behind. The outer `None`: there
/// is nobody to answer to; the inner error: the answer that says what is wrong.
fn read(bytes: &[u8]) -> Option<Result<(Head, Query), (Message, String)>> {
    let header: [u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
    let id = u16::from_be_bytes([header[0], header[1]]);
    let op_code = OpCode::from_u8(header[2] >> 3 & 0x0f);
    if header[2] & 0x80 != 0 {
        return None;
    }
    let wrong =
        |code, sentence: &str| Some(Err((Message::error_msg(id, op_code, code), sentence.to_owned())));
    if op_code != OpCode::Query {
        return wrong(ResponseCode::NotImp, "only queries are answered");
    }
    let count = |at: usize| header.get(at..at + 2).map(|c| u16::from_be_bytes([c[0], c[1]]));
    // Counts are judged before anything is decoded: one question, no records, at most EDNS.
    if count(4) != Some(1) || count(6) != Some(0) || count(8) != Some(0) || count(10).is_none_or(|n| n > 1) {
        return wrong(ResponseCode::FormErr, "a question has one name and no records");
    }
    if bytes.len() > MAX_QUESTION {
        return wrong(ResponseCode::FormErr, "the question is too long");
    }
    let mut decoder = BinDecoder::new(bytes);
    let message = match Message::read(&mut decoder) {
        Ok(message) if decoder.is_empty() => message,
        Ok(_) => return wrong(ResponseCode::FormErr, "there are bytes behind the question"),
        Err(_) => return wrong(ResponseCode::FormErr, "the question cannot be read"),
    };
    if !message.additionals.is_empty() || message.signature.is_some() {
        return wrong(ResponseCode::FormErr, "a question has one name and no records");
    }
    let [query] = message.queries.as_slice() else {
        return wrong(ResponseCode::FormErr, "a question has one name");
    };
    if message.metadata.message_type != MessageType::Query {
        return None;
    }
    let recursion_desired = message.metadata.recursion_desired;
    let edns = message.edns.as_ref().map(Edns::max_payload);
    Some(Ok((Head { id, recursion_desired, edns }, query.clone())))
}

/// Kinds that carry free text, whole zones, or everything: refused whatever the name.
fn refused_kind(kind: RecordType) -> bool {
    match kind {
        RecordType::ANY | RecordType::AXFR | RecordType::IXFR => true,
        RecordType::TXT | RecordType::NULL | RecordType::ZERO | RecordType::OPT | RecordType::TSIG => true,
        // MAILB, MAILA and the private-use kinds that tunnels like.
        RecordType::Unknown(code) => matches!(code, 253 | 254 | 65280..=65535),
        _ => false,
    }
}

/// The canonical host of a wire name: labels of letters, digits and hyphens, never an address.
fn host(name: &Name) -> Option<Host> {
    let mut text = String::new();
    for label in name.iter() {
        if !label.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-') {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
    }
    let host = Host::parse(&text).ok()?;
    host.name().is_some().then_some(host)
}

/// A wire name for people: escaped, and not longer than a name may be.
fn shown(name: &Name) -> String {
    name.to_ascii().chars().flat_map(char::escape_default).take(255).collect()
}

/// The made-up address of a name under a wildcard: from the benchmarking range, the same each time.
/// The proxy goes by the name in the request, so two names with one address do no harm.
fn synthetic(name: &str) -> Ipv4Addr {
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    let bits = digest.as_ref().iter().take(4).fold(0_u32, |bits, b| bits << 8 | u32::from(*b));
    // 198.18.0.0/15 without the first 256 addresses, which people test with by hand.
    let offset = 0x100 + bits % (0x2_0000 - 0x100);
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + offset)
}

/// An answer in the making.
struct Reply {
    message: Message,
    edns: Option<u16>,
    kind: RecordType,
}

impl Reply {
    fn new(head: Head, question: &Query) -> Self {
        let mut message = Message::response(head.id, OpCode::Query);
        message.metadata.recursion_desired = head.recursion_desired;
        message.metadata.recursion_available = true;
        message.add_query(question.clone());
        if head.edns.is_some() {
            // The client's options are not repeated, and none are passed on.
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP_ANSWER);
            message.set_edns(edns);
        }
        Reply { message, edns: head.edns, kind: question.query_type() }
    }

    fn address(&mut self, name: &Name, address: IpAddr) {
        let data = match address {
            IpAddr::V4(v4) => RData::A(A(v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
        };
        self.message.add_answer(Record::from_rdata(name.clone(), MAX_TTL, data));
    }

    /// An extended error, for clients that speak EDNS.
    fn explain(&mut self, code: u16, text: &str) {
        if let Some(edns) = &mut self.message.edns {
            let mut data = code.to_be_bytes().to_vec();
            data.extend_from_slice(text.as_bytes());
            let option = EdnsOption::Unknown(EDE, data);
            edns.options_mut().insert(option);
        }
    }

    fn refuse(mut self, code: ResponseCode, reason: &'static str, name: Option<String>, why: &str) -> Answer {
        self.message.metadata.response_code = code;
        self.explain(EDE_BLOCKED, "blocked by policy");
        self.refused(reason, name, why)
    }

    fn refused(self, reason: &'static str, name: Option<String>, sentence: &str) -> Answer {
        let kind = Some(self.kind.to_string());
        let refusal = Refusal { reason, name, kind, sentence: sentence.to_owned() };
        Answer { refusal: Some(refusal), ..self.done() }
    }

    fn done(self) -> Answer {
        let limit = self.edns.unwrap_or(MIN_UDP_ANSWER).clamp(MIN_UDP_ANSWER, MAX_UDP_ANSWER);
        Answer { message: self.message, refusal: None, limit }
    }
}

/// The option code of extended errors (RFC 8914, 2).
const EDE: u16 = 15;
