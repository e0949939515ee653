//! gzip, deflate, br, zstd: right, broken, bombs, and flushed event by event.

use super::*;

type Encode = fn(&[u8]) -> Vec<u8>;

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bare_deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn brotli(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
    encoder.write_all(bytes).unwrap();
    encoder.into_inner()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 3).unwrap()
}

const CODINGS: [(&str, Encode); 6] = [
    ("gzip", gzip),
    ("x-gzip", gzip),
    ("deflate", zlib),
    ("deflate", bare_deflate),
    ("br", brotli),
    ("zstd", zstd),
];

fn text() -> Vec<u8> {
    let mut text = Vec::new();
    for i in 0..3000 {
        text.extend_from_slice(format!("line {i}: {}\n", i * 7919).as_bytes());
        if i % 500 == 0 {
            for value in CANARIES {
                text.extend_from_slice(value.as_bytes());
            }
        }
    }
    text
}

#[test]
fn every_coding_is_decoded_and_cut() {
    let text = text();
    let (expected, cut) = pass(&[], Frames::of([&text]), &CANARIES).unwrap();
    assert!(cut >= 6);
    for (name, encode) in CODINGS {
        let coded = encode(&text);
        for size in [1, 2, 3, 7, 100, 4096, coded.len()] {
            let (out, count) = pass(&[("content-encoding", name)], Frames::of(coded.chunks(size)), &CANARIES)
                .unwrap_or_else(|e| panic!("{name} by {size}: {e}"));
            assert!(out == expected, "{name} by {size}: {} of {}", out.len(), expected.len());
            assert_eq!(count, cut, "{name} by {size}");
        }
        // Its trailers are cut too, and the end of the coding is still checked.
        let (out, _) =
            pass(&[("content-encoding", name)], Frames::of([&coded]).trailers("x", CANARIES[0]), &CANARIES)
                .unwrap();
        assert!(out == expected, "{name} with trailers");
    }
}

#[test]
fn empty_bodies_are_empty() {
    for (name, encode) in CODINGS {
        let coded = encode(b"");
        let (out, _) = pass(&[("content-encoding", name)], Frames::of([&coded]), &CANARIES).unwrap();
        assert!(out.is_empty(), "{name}");
        let (out, _) = pass(&[("content-encoding", name)], Frames::of([""]), &CANARIES).unwrap();
        assert!(out.is_empty(), "{name} without a byte");
    }
}

#[test]
fn every_truncation_is_an_error() {
    for (name, encode) in CODINGS {
        let coded = encode(b"some text that is not very long, some text that repeats");
        for length in 1..coded.len() {
            let result = pass(&[("content-encoding", name)], Frames::of([&coded[..length]]), &CANARIES);
            assert!(result.is_err(), "{name} cut at {length} of {}", coded.len());
        }
    }
}

#[test]
fn garbage_is_an_error() {
    for (name, encode) in CODINGS {
        let mut coded = encode(&text());
        let middle = coded.len() / 2;
        coded[middle..].iter_mut().for_each(|b| *b = !*b);
        assert!(pass(&[("content-encoding", name)], Frames::of([&coded]), &CANARIES).is_err(), "{name} bent");
        let plain = Frames::of(["this was never coded at all, whatever the header says"]);
        assert!(pass(&[("content-encoding", name)], plain, &CANARIES).is_err(), "{name} plain");
        let mut longer = encode(b"some text");
        longer.extend_from_slice(b"and a tail in clear");
        assert!(
            pass(&[("content-encoding", name)], Frames::of([&longer]), &CANARIES).is_err(),
            "{name} with a tail"
        );
    }
}

#[test]
fn members_and_frames_may_follow_each_other() {
    for (name, encode) in [("gzip", gzip as Encode), ("zstd", zstd)] {
        let (first, second) = CANARIES[0].split_at(9);
        let coded = [encode(first.as_bytes()), encode(second.as_bytes())].concat();
        for size in [1, coded.len()] {
            let (out, cut) =
                pass(&[("content-encoding", name)], Frames::of(coded.chunks(size)), &CANARIES).unwrap();
            assert_eq!((out, cut), (b"*".repeat(CANARIES[0].len()), 1), "{name} by {size}");
        }
    }
}

#[test]
fn a_gzip_header_may_have_every_field() {
    let mut encoder = flate2::GzBuilder::new()
        .filename("name")
        .comment("comment")
        .extra(vec![1, 2, 3])
        .write(Vec::new(), flate2::Compression::default());
    encoder.write_all(CANARIES[0].as_bytes()).unwrap();
    let coded = encoder.finish().unwrap();
    for size in [1, coded.len()] {
        let (out, _) =
            pass(&[("content-encoding", "gzip")], Frames::of(coded.chunks(size)), &CANARIES).unwrap();
        assert_eq!(out, b"*".repeat(CANARIES[0].len()));
    }
    let mut bent = gzip(b"some text");
    let last = bent.len() - 6;
    bent[last] ^= 1;
    let refused = pass(&[("content-encoding", "gzip")], Frames::of([&bent]), &CANARIES).unwrap_err();
    assert!(refused.to_string().contains("checksum"), "{refused}");
    // A name without an end.
    let endless = [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3][..], &[b'a'; 200_000]].concat();
    assert!(pass(&[("content-encoding", "gzip")], Frames::of([&endless]), &CANARIES).is_err());
}

#[test]
fn a_bomb_is_stopped_early() {
    let zeros = vec![0; 8 << 20];
    for (name, encode) in CODINGS {
        let coded = encode(&zeros);
        let mut parts = response(&[("content-encoding", name)]);
        let mut body = scrub(&mut parts, Frames::of([&coded]), needles(&CANARIES), None).unwrap();
        let (data, _, error) = drain(&mut body);
        let passed: usize = data.iter().map(Bytes::len).sum();
        let allowed = (coded.len() * 100).max(1 << 20);
        assert!(passed <= allowed, "{name}: {passed} bytes of {}", coded.len());
        let error = error.unwrap().downcast::<ScrubError>().unwrap();
        assert!(matches!(*error, ScrubError::Bomb(100)), "{name}: {error}");
        assert!(data.iter().all(|piece| piece.len() <= 16 * 1024), "{name}: pieces stay small");
    }
    // A page of zeros is no bomb.
    let (out, _) =
        pass(&[("content-encoding", "gzip")], Frames::of([gzip(&zeros[..1 << 20])]), &CANARIES).unwrap();
    assert_eq!(out.len(), 1 << 20);
}

#[test]
fn windows_are_limited() {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&text()).unwrap();
    let wide = encoder.finish().unwrap();
    let refused = pass(&[("content-encoding", "zstd")], Frames::of([&wide]), &CANARIES).unwrap_err();
    assert!(refused.to_string().contains("8 MiB"), "{refused}");
    // The first byte of the "large window" variant of brotli.
    let refused = pass(&[("content-encoding", "br")], Frames::of([&[0x11, 0x1b, 0, 0][..]]), &CANARIES);
    assert!(refused.is_err());
}

/// Each event leaves the decoder before the next has arrived.
#[test]
fn flushed_events_are_passed_on_at_once() {
    fn check<W: Write>(name: &str, mut encoder: W, written: impl Fn(&W) -> Vec<u8>) {
        let mut parts = response(&[("content-encoding", name), ("content-type", "text/event-stream")]);
        let mut body = scrub(&mut parts, Frames::of([""]).pause(), needles(&CANARIES), None).unwrap();
        drain(&mut body);
        let mut sent = 0;
        for i in 0..20 {
            let event = format!("event: {i}\ndata: {}\n\n", "text ".repeat(i * 3));
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            let all = written(&encoder);
            let piece = Bytes::copy_from_slice(&all[sent..]);
            sent = all.len();
            let frames = &mut body.inner_for_test().0;
            frames.push_back(Some(Ok(Frame::data(piece))));
            frames.push_back(None);
            assert_eq!(String::from_utf8(drain(&mut body).0.concat()).unwrap(), event, "{name} {i}");
        }
    }
    let level = flate2::Compression::default();
    check("gzip", flate2::write::GzEncoder::new(Vec::new(), level), |e| e.get_ref().clone());
    check("deflate", flate2::write::ZlibEncoder::new(Vec::new(), level), |e| e.get_ref().clone());
    check("deflate", flate2::write::DeflateEncoder::new(Vec::new(), level), |e| e.get_ref().clone());
    check("br", ::brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22), |e| e.get_ref().clone());
    check("zstd", ::zstd::Encoder::new(Vec::new(), 3).unwrap(), |e| e.get_ref().clone());
}
