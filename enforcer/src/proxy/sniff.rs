//! What does it speak? The first bytes decide, within a deadline. Unsure is no.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;

use super::stream::Io;
use super::{Begins, Connection, Protocol, Stream};
use crate::gate::{Asked, Code};
use crate::tls::distrust::Sign;

/// For the first bytes to say what they are; the same as for a whole head.
const DEADLINE: Duration = Duration::from_secs(10);
/// The HTTP/2 preface is 24 bytes, a method in use at most 16. Nothing needs more to be told.
const ENOUGH: usize = 64;
const READ: usize = 4096;

/// Why a stream was not recognised.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    #[error("the connection was closed before it said anything")]
    Closed,
    #[error(
        "nothing recognisable came within 10 s; protocols in which the server speaks first are not served"
    )]
    Silent,
    #[error("the first bytes are neither TLS nor HTTP")]
    Foreign,
}

/// Reads until one protocol is sure or none is left.
pub async fn sniff(
    io: &mut (dyn Io + '_),
    protocols: &[&'static dyn Protocol],
) -> Result<(&'static dyn Protocol, Bytes), Unknown> {
    let mut first = BytesMut::with_capacity(READ);
    let reading = async {
        loop {
            match io.read_buf(&mut first).await {
                Ok(0) | Err(_) if first.is_empty() => return Err(Unknown::Closed),
                Ok(0) | Err(_) => return Err(Unknown::Foreign),
                Ok(_) => {}
            }
            if let Some(verdict) = recognise(&first, protocols) {
                return verdict;
            }
        }
    };
    match tokio::time::timeout(DEADLINE, reading).await {
        Ok(found) => found.map(|protocol| (protocol, first.freeze())),
        Err(_elapsed) => Err(Unknown::Silent),
    }
}

/// `None`: more bytes could tell.
fn recognise(
    first: &[u8],
    protocols: &[&'static dyn Protocol],
) -> Option<Result<&'static dyn Protocol, Unknown>> {
    let mut unsure = false;
    for protocol in protocols {
        match protocol.begins(first) {
            Begins::Yes => return Some(Ok(*protocol)),
            Begins::Unsure => unsure = true,
            Begins::No => {}
        }
    }
    if unsure && first.len() < ENOUGH { None } else { Some(Err(Unknown::Foreign)) }
}

/// Sniffs and serves; what is not recognised is recorded and dropped.
pub async fn dispatch(mut io: Box<dyn Io>, connection: Connection) {
    match sniff(&mut io, connection.shared.protocols).await {
        Ok((protocol, first)) => {
            if connection.tls.is_some() {
                connection.shared.distrust.trusts(&connection.caller);
            }
            protocol.serve(Stream::new(first, io), connection).await;
        }
        // A client that opens a connection ahead of need and closes it unused has asked for nothing. It may also have closed it
        // because of the certificate.
        Err(Unknown::Closed) => {
            if let Some(tls) = &connection.tls {
                let host = tls.host.to_string();
                connection.shared.distrust.found(&connection.caller, &host, Sign::Left).await;
            }
        }
        Err(unknown) => {
            let asked = Asked::connect(connection.destination.0);
            let shared = connection.shared.clone();
            shared.gate.turn_away(&connection.caller, &asked, Code::BadRequest, unknown.to_string()).await;
        }
    }
}

#[cfg(test)]
pub(crate) fn table(
    first: &[u8],
    protocols: &[&'static dyn Protocol],
) -> Option<Result<&'static str, Unknown>> {
    recognise(first, protocols).map(|verdict| verdict.map(|protocol| protocol.name()))
}
