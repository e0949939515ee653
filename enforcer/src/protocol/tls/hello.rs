//! What a ClientHello says in the clear, for connections that are passed through: which server it
//! names, and whether it hides another name.
//!
//! Strict (RFC 8446, 4.1.2): lengths add up, no extension comes twice, no byte is left over. Where TLS
//! is terminated, rustls reads the hello and this is not asked.

/// `server_name`.
const SNI: u16 = 0;
/// `encrypted_client_hello` (RFC 9849), and its forerunner `encrypted_server_name`.
const HIDING: [u16; 2] = [0xfe0d, 0xffce];
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// In lower case.
    pub(super) server_name: Option<String>,
    /// It carries, or pretends to carry, a second hello that we cannot read.
    pub(super) hides: bool,
}

/// From the bytes of the first TLS records. `None`: it is none, or not all of it is there.
pub(super) fn read(records: &[u8]) -> Option<Hello> {
    let message = message(records)?;
    let mut rest = Bytes(&message);
    if rest.byte()? != CLIENT_HELLO {
        return None;
    }
    let mut hello = rest.block(3)?;
    // Version and random.
    hello.take(2 + 32)?;
    hello.block(1)?;
    hello.block(2)?;
    hello.block(1)?;
    let mut extensions = hello.block(2)?;
    if !hello.0.is_empty() || !rest.0.is_empty() {
        return None;
    }
    let (mut seen, mut server_name) = (Vec::new(), None);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let kind = u16::try_from(kind).ok()?;
        let body = extensions.block(2)?;
        if seen.contains(&kind) {
            return None;
        }
        seen.push(kind);
        if kind == SNI {
            server_name = Some(name(body)?);
        }
    }
    Some(Hello { server_name, hides: HIDING.iter().any(|kind| seen.contains(kind)) })
}

/// One name, a host's.
fn name(mut extension: Bytes<'_>) -> Option<String> {
    let mut list = extension.block(2)?;
    if list.byte()? != 0 {
        return None;
    }
    let name = list.block(2)?;
    if !list.0.is_empty() || !extension.0.is_empty() {
        return None;
    }
    std::str::from_utf8(name.0).ok().map(str::to_ascii_lowercase)
}

/// The first handshake message, which may be spread over records.
fn message(records: &[u8]) -> Option<Vec<u8>> {
    let mut records = Bytes(records);
    let mut message = Vec::new();
    loop {
        if records.byte()? != HANDSHAKE {
            return None;
        }
        records.take(2)?;
        message.extend_from_slice(records.block(2)?.0);
        if let Some([high, middle, low]) = message.get(1..4) {
            let whole = 4 + usize::from(*high) * 65536 + usize::from(*middle) * 256 + usize::from(*low);
            if message.len() >= whole {
                // Behind a ClientHello nothing else may stand in its record.
                return (message.len() == whole).then_some(message);
            }
        }
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// A length of so many bytes, and what it counts.
    fn block(&mut self, length: usize) -> Option<Bytes<'a>> {
        let count = self.number(length)?;
        self.take(count).map(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
    }

    fn sni(name: &str) -> Vec<u8> {
        let length = u16::try_from(name.len()).unwrap();
        extension(
            SNI,
            &[&(length + 3).to_be_bytes()[..], &[0], &length.to_be_bytes(), name.as_bytes()].concat(),
        )
    }

    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let extensions = extensions.concat();
        let mut body = vec![3, 3];
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(&[0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend_from_slice(&extensions);
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO], &length[1..], &body].concat()
    }

    fn records(message: &[u8], each: usize) -> Vec<u8> {
        let record = |part: &[u8]| {
            [&[HANDSHAKE, 3, 1][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat()
        };
        message.chunks(each).flat_map(record).collect()
    }

    #[test]
    fn the_name_is_found_however_the_hello_is_cut_into_records() {
        let message = hello(&[extension(10, &[0, 2, 0, 29]), sni("API.example.com")]);
        for each in [1, 3, 50, 1000] {
            let read = read(&records(&message, each)).unwrap();
            assert_eq!((read.server_name.as_deref(), read.hides), (Some("api.example.com"), false), "{each}");
        }
        assert_eq!(read(&records(&hello(&[]), 1000)), Some(Hello { server_name: None, hides: false }));
    }

    #[test]
    fn a_hidden_name_shows() {
        for kind in HIDING {
            let message = hello(&[sni("cover.example"), extension(kind, &[0; 40])]);
            assert!(read(&records(&message, 1000)).unwrap().hides, "{kind:x}");
        }
    }

    #[test]
    fn what_two_readers_could_read_apart_is_not_read() {
        let good = hello(&[sni("a.example")]);
        let whole = records(&good, 1000);
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]), None, "{cut}");
        }
        let twice = hello(&[sni("a.example"), sni("b.example")]);
        assert_eq!(read(&records(&twice, 1000)), None);
        let two_names = extension(SNI, b"\0\x08\0\0\x01a\0\0\x01b");
        assert_eq!(read(&records(&hello(&[two_names]), 1000)), None);
        let mut longer = good.clone();
        longer.push(0);
        assert_eq!(read(&records(&longer, 1000)), None);
        let mut other = whole.clone();
        other[5] = 2;
        assert_eq!(read(&other), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            drop(read(&records(&bytes, 60)));
            drop(read(&bytes));
        }
    }
}
