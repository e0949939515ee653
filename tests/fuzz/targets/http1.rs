//! HTTP/1 requests: however they are cut into reads, they read alike, and another reader finds the same heads and bodies.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the two files of it that read")]
#[path = "../../../enforcer/src/protocol/http/strict"]
mod strict {
    pub(crate) mod body;
    pub(crate) mod head;

    use body::Body;
    use head::{Fault, Lines};

    /// Where each head and each body ends.
    pub(crate) fn read(bytes: &[u8], step: usize) -> (Vec<usize>, Result<(), Fault>) {
        let (mut ends, mut start, mut body, mut lines) = (Vec::new(), 0, None::<Body>, Lines::default());
        let mut came = 0;
        while came < bytes.len() {
            came = (came + step).min(bytes.len());
            while start < came {
                match &mut body {
                    None => match lines.end(&bytes[start..came]) {
                        Err(fault) => return (ends, Err(fault)),
                        Ok(None) => break,
                        Ok(Some(length)) => match head::read(&bytes[start..start + length]) {
                            Err(fault) => return (ends, Err(fault)),
                            Ok(announced) => {
                                start += length;
                                (body, lines) = (announced, Lines::default());
                                ends.push(start);
                            }
                        },
                    },
                    Some(reading) => match reading.check(&bytes[..came], &mut start) {
                        Err(fault) => return (ends, Err(fault)),
                        Ok(false) => break,
                        Ok(true) => {
                            body = None;
                            ends.push(start);
                        }
                    },
                }
            }
        }
        (ends, Ok(()))
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, stream)) = bytes.split_first() else { return };
    let (ends, fault) = strict::read(stream, stream.len().max(1));
    let (again, in_pieces) = strict::read(stream, usize::from(*first) + 1);
    assert_eq!(ends, again);
    assert_eq!(fault.is_ok(), in_pieces.is_ok());

    let (mut at, mut ends) = (0, ends.into_iter());
    while let Some(end) = ends.next() {
        let mut fields = [httparse::EMPTY_HEADER; strict::head::MAX_HEADERS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&stream[at..]) {
            Ok(httparse::Status::Complete(length)) => assert_eq!(at + length, end),
            other => panic!("{other:?}: {}", stream[at..end].escape_ascii()),
        }
        at = end;
        let named = |name: &str| {
            let of_it = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            of_it.map(|field| field.value).collect::<Vec<_>>()
        };
        match (&named("content-length")[..], &named("transfer-encoding")[..]) {
            ([], []) | ([b"0"], []) => {}
            ([length], []) => {
                let length = std::str::from_utf8(length).expect("digits").parse::<usize>().expect("a number");
                let Some(end) = ends.next() else { continue };
                assert_eq!(at + length, end);
                at = end;
            }
            ([], [coding]) => {
                assert!(coding.eq_ignore_ascii_case(b"chunked"));
                let Some(end) = ends.next() else { continue };
                assert_eq!(chunks(stream, at), Some(end), "{}", stream[at..end].escape_ascii());
                at = end;
            }
            (lengths, codings) => panic!("{lengths:?} {codings:?}"),
        }
    }
});

/// Where a chunked body ends, as the HTTP library's parser reads its chunks.
fn chunks(stream: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(&stream[at..]) else {
            return None;
        };
        at += line;
        if size == 0 {
            break;
        }
        at += usize::try_from(size).ok()?;
        at += stream.get(at..)?.starts_with(b"\r\n").then_some(2)?;
    }
    let mut trailers = [httparse::EMPTY_HEADER; 256];
    match httparse::parse_headers(stream.get(at..)?, &mut trailers) {
        Ok(httparse::Status::Complete((length, _))) => Some(at + length),
        _ => None,
    }
}
