//! One question to one server: encode, send, match, decode.
//!
//! A fresh socket (and so a fresh random port) and a random id per question; an answer that does not
//! repeat id and question is ignored, not trusted. Truncated over UDP: asked again over TCP. Which
//! servers are asked, and how often, is `resolver`'s.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// CNAMEs followed inside one answer. Real chains have two or three.
const MAX_ALIASES: usize = 8;
/// What a UDP answer may hold: we send no EDNS, so servers keep to 512; more room costs nothing.
const MAX_UDP: usize = 4096;

/// What one server said about one name and type.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Addresses (perhaps none of this family) and how long they hold, in seconds.
    Addresses(Vec<IpAddr>, u32),
    NoName,
}

/// Asks `server` for the addresses of `name`. The caller owns the deadline.
pub(super) async fn ask(server: SocketAddr, name: &Name, kind: RecordType) -> io::Result<Said> {
    let mut id = [0; 2];
    getrandom(&mut id)?;
    let mut message = Message::new(u16::from_be_bytes(id), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), kind));
    let question = message.to_vec().map_err(io::Error::other)?;

    let answer = over_udp(server, &message, &question).await?;
    let answer =
        if answer.metadata.truncation { over_tcp(server, &message, &question).await? } else { answer };
    match answer.metadata.response_code {
        ResponseCode::NoError => Ok(addresses(&answer, name, kind)),
        ResponseCode::NXDomain => Ok(Said::NoName),
        code => Err(io::Error::other(format!("{} answered: {code}", server.ip()))),
    }
}

async fn over_udp(server: SocketAddr, asked: &Message, question: &[u8]) -> io::Result<Message> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected, so that the kernel drops what comes from any other address or port.
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; MAX_UDP];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let datagram = buffer.get(..length).unwrap_or_default();
        match Message::from_vec(datagram) {
            Ok(answer) if answers(&answer, asked) => return Ok(answer),
            // A forgery or a late answer to somebody else's question: keep waiting for ours.
            Ok(_) | Err(_) => {}
        }
    }
}

async fn over_tcp(server: SocketAddr, asked: &Message, question: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(question);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(io::Error::other)?;
    if !answers(&answer, asked) {
        return Err(io::Error::other(format!("{} answered another question", server.ip())));
    }
    Ok(answer)
}

/// Is this the answer to that question? Id, kind, and the whole question are repeated.
fn answers(answer: &Message, asked: &Message) -> bool {
    let ([ours], [theirs]) = (asked.queries.as_slice(), answer.queries.as_slice()) else { return false };
    answer.metadata.id == asked.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.metadata.op_code == OpCode::Query
        && theirs.query_class() == DNSClass::IN
        && theirs.query_type() == ours.query_type()
        && theirs.name() == ours.name()
}

/// Walks from the name asked for along its CNAMEs to its addresses. Records of other names are ignored.
fn addresses(answer: &Message, name: &Name, kind: RecordType) -> Said {
    let mut current = name.clone();
    let mut ttl = u32::MAX;
    for _ in 0..=MAX_ALIASES {
        let own = || answer.answers.iter().filter(|r| r.name == current && r.dns_class == DNSClass::IN);
        let mut found = Vec::new();
        for record in own() {
            let address: IpAddr = match (&record.data, kind) {
                (RData::A(a), RecordType::A) => a.0.into(),
                (RData::AAAA(a), RecordType::AAAA) => a.0.into(),
                _ => continue,
            };
            ttl = ttl.min(record.ttl);
            found.push(address);
        }
        if !found.is_empty() {
            return Said::Addresses(found, ttl);
        }
        let alias = own().find_map(|r| match &r.data {
            RData::CNAME(target) => Some((target.0.clone(), r.ttl)),
            _ => None,
        });
        let Some((target, alias_ttl)) = alias else { break };
        ttl = ttl.min(alias_ttl);
        current = target;
    }
    Said::Addresses(Vec::new(), ttl)
}

fn getrandom(buffer: &mut [u8]) -> io::Result<()> {
    use ring::rand::SecureRandom;
    ring::rand::SystemRandom::new()
        .fill(buffer)
        .map_err(|e| io::Error::other(format!("no random bytes: {e}")))
}
