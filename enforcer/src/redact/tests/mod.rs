//! The scrubber against echoes: in every form and place, cut at every offset, in every coding.

mod codings;
mod streams;

use std::collections::VecDeque;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use enforcer_vault::Secret;
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use super::{Needles, ScrubError, ScrubbedBody, scrub};
use crate::secret::Fetched;
use crate::secret::encode;

/// A plain token, one that base64url and percent-encoding change, one that JSON and HTML change,
/// and the shortest allowed.
const CANARIES: [&str; 4] = [
    "ghp_7Hq2Zr9Lw4Xk8Vb1Nd6Ts3Py5Mf0aC",
    "AKcp8/kk+J3q==Zt0~x.Y/v1",
    r#"p"a\s<s>&w'o`rd =42/x"#,
    "k3y_8ch.",
];

fn needles(values: &[&str]) -> Arc<Needles> {
    let injected: Vec<_> = values
        .iter()
        .map(|value| {
            let secret = Secret::new(value.as_bytes().to_vec()).unwrap();
            Arc::new(Fetched { secret, name: "canary".to_owned(), version: 1 })
        })
        .collect();
    Arc::new(Needles::new(&injected))
}

/// A body of prepared frames; `None` is a moment in which nothing has arrived.
struct Frames(VecDeque<Option<Result<Frame<Bytes>, std::io::Error>>>);

impl Frames {
    fn of<T: AsRef<[u8]>>(chunks: impl IntoIterator<Item = T>) -> Self {
        Frames(
            chunks.into_iter().map(|c| Some(Ok(Frame::data(Bytes::copy_from_slice(c.as_ref()))))).collect(),
        )
    }

    fn pause(mut self) -> Self {
        self.0.push_back(None);
        self
    }

    fn fail(mut self) -> Self {
        self.0.push_back(Some(Err(std::io::Error::other("connection reset"))));
        self
    }

    fn trailers(mut self, name: &'static str, value: &str) -> Self {
        let mut map = HeaderMap::new();
        map.insert(name, value.parse().unwrap());
        self.0.push_back(Some(Ok(Frame::trailers(map))));
        self
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.0.pop_front() {
            Some(None) => Poll::Pending,
            Some(Some(frame)) => Poll::Ready(Some(frame)),
            None => Poll::Ready(None),
        }
    }
    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

fn response(headers: &[(&'static str, &str)]) -> http::response::Parts {
    let mut response = Response::new(());
    for (name, value) in headers {
        response.headers_mut().append(*name, value.parse().unwrap());
    }
    response.into_parts().0
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// All frames until the body ends, fails, or waits.
fn drain(body: &mut ScrubbedBody<Frames>) -> (Vec<Bytes>, Option<HeaderMap>, Option<BoxError>) {
    let mut context = Context::from_waker(std::task::Waker::noop());
    let (mut data, mut trailers) = (Vec::new(), None);
    loop {
        match Pin::new(&mut *body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) => data.push(bytes),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
            Poll::Ready(Some(Err(error))) => return (data, trailers, Some(error)),
            Poll::Ready(None) | Poll::Pending => return (data, trailers, None),
        }
    }
}

fn pass(headers: &[(&'static str, &str)], body: Frames, values: &[&str]) -> Result<(Vec<u8>, u32), BoxError> {
    pass_by(&needles(values), headers, body)
}

fn pass_by(
    needles: &Arc<Needles>,
    headers: &[(&'static str, &str)],
    body: Frames,
) -> Result<(Vec<u8>, u32), BoxError> {
    let mut parts = response(headers);
    let mut body = scrub(&mut parts, body, needles.clone(), None)?;
    let (data, _, error) = drain(&mut body);
    match error {
        Some(error) => Err(error),
        None => Ok((data.concat(), body.scrubbed().load(Ordering::Relaxed))),
    }
}

/// Every way of writing that is promised to be found.
fn written(value: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = value.as_bytes();
    let b64 = |prefix: &str, suffix: &str, alphabet: &[u8; 64]| {
        encode::base64([prefix.as_bytes(), bytes, suffix.as_bytes()].concat().as_slice(), alphabet).to_vec()
    };
    let json = serde_json::to_string(value).unwrap().into_bytes();
    let hex = |upper: bool| {
        bytes
            .iter()
            .map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") })
            .collect::<String>()
            .into_bytes()
    };
    let form =
        String::from_utf8(encode::percent_with(bytes, b"*-._ ", b"0123456789ABCDEF").to_vec()).unwrap();
    vec![
        ("plain", bytes.to_vec()),
        ("json", json[1..json.len() - 1].to_vec()),
        (
            "json with slashes",
            value.replace('\\', r"\\").replace('"', "\\\"").replace('/', r"\/").into_bytes(),
        ),
        ("hex", hex(false)),
        ("HEX", hex(true)),
        ("percent", encode::percent(bytes).to_vec()),
        ("percent lower", encode::percent_with(bytes, b"-._~", b"0123456789abcdef").to_vec()),
        ("form", form.replace(' ', "+").into_bytes()),
        ("base64", encode::base64_padded(bytes).to_vec()),
        ("base64url", b64("", "", encode::URL_SAFE)),
        ("base64 of Basic", b64("x-access-token:", "", encode::STANDARD)),
        ("base64 of Basic, user +1", b64("git:", "", encode::STANDARD)),
        ("base64 of Basic, user +2", b64("ab:", "", encode::STANDARD)),
        ("base64 inside", b64("Bearer ", " and more", encode::STANDARD)),
        ("base64 inside +1", b64("Bearer: ", " and more", encode::STANDARD)),
        ("base64 inside +2", b64("Bearer : ", " and more", encode::URL_SAFE)),
        (
            "html",
            value
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;")
                .replace('\'', "&#39;")
                .into_bytes(),
        ),
    ]
}

/// A part of the value that is worth guessing from is in the text: six characters of a form. Of a
/// base64 text only what the value alone decides counts; its edges may stay (see the module).
fn leaks(text: &[u8], how: &str, form: &[u8], value: &str) -> bool {
    let parts = if how.starts_with("base64") {
        let mut parts = Vec::new();
        for alphabet in [encode::STANDARD, encode::URL_SAFE] {
            for shift in 0..3 {
                let coded = encode::base64(&[&[0; 2][..shift], value.as_bytes()].concat(), alphabet).to_vec();
                parts.push(coded[(8 * shift).div_ceil(6)..8 * (shift + value.len()) / 6].to_vec());
            }
        }
        parts
    } else {
        vec![form.to_vec()]
    };
    parts.iter().any(|part| part.windows(6).any(|w| memchr::memmem::find(text, w).is_some()))
}

#[test]
fn every_form_is_cut_from_every_place() {
    for value in CANARIES {
        for (how, form) in written(value) {
            let text = String::from_utf8(form.clone()).unwrap();
            // Shown to be an echo without the scrubber, and not to be one with it.
            for page in [
                text.clone(),
                format!("{{\"headers\":{{\"Authorization\":\"Bearer {text}\"}}}}"),
                format!("<pre>{text}</pre>"),
                format!("{text}{text}"),
                format!("event: x\ndata: {text}\n\n"),
            ] {
                assert!(memchr::memmem::find(page.as_bytes(), &form).is_some());
                assert!(leaks(page.as_bytes(), how, &form, value));
                let (out, cut) = pass(&[], Frames::of([&page]), &[value]).unwrap();
                assert_eq!(out.len(), page.len(), "{how} of {value}");
                assert!(
                    memchr::memmem::find(&out, &form).is_none() && !leaks(&out, how, &form, value),
                    "{how} of {value} in {page}"
                );
                assert!(cut >= 1 && out.contains(&b'*'));
                let (untouched, none) = pass(&[], Frames::of([&page]), &[]).unwrap();
                assert_eq!((untouched.as_slice(), none), (page.as_bytes(), 0));
            }
            let mut parts = response(&[
                ("x-echo", &text),
                ("location", &format!("https://other.example/?token={text}&x=1")),
                ("set-cookie", &format!("session={text}; Path=/")),
                ("set-cookie", "other=1"),
            ]);
            let body =
                scrub(&mut parts, Frames::of([""]).trailers("grpc-message", &text), needles(&[value]), None)
                    .unwrap();
            let mut body = body;
            let (_, trailers, _) = drain(&mut body);
            for headers in [&parts.headers, &trailers.unwrap()] {
                for header in headers.values() {
                    assert!(memchr::memmem::find(header.as_bytes(), &form).is_none(), "{how} of {value}");
                }
            }
            assert_eq!(parts.headers.get_all("set-cookie").iter().count(), 2);
            assert_eq!(body.scrubbed().load(Ordering::Relaxed), 4, "{how} of {value}");
        }
    }
}

#[test]
fn a_header_named_like_the_value_goes() {
    let value = "lower-case-token-0123456789";
    let mut parts = response(&[("lower-case-token-0123456789", "1"), ("x-other", "2")]);
    parts.headers.append("x-lower-case-token-0123456789", "3".parse().unwrap());
    scrub(&mut parts, Frames::of([""]), needles(&[value]), None).unwrap();
    assert_eq!(parts.headers.keys().map(|k| k.as_str()).collect::<Vec<_>>(), ["x-other"]);
}

#[test]
fn a_part_of_the_value_is_not_masked() {
    // Or an agent could learn it a byte at a time from an echo of its guesses.
    let value = CANARIES[0];
    for length in 1..value.len() {
        let (prefix, suffix) = value.split_at(length);
        for guess in [prefix.to_owned(), suffix.to_owned(), format!("{prefix}?{suffix}")] {
            let (out, cut) = pass(&[], Frames::of([&guess]), &[value]).unwrap();
            assert_eq!((String::from_utf8(out).unwrap(), cut), (guess, 0));
        }
    }
}

#[test]
fn overlapping_and_nested_values_leave_no_rest() {
    for (values, text, out) in [
        (vec!["abcabcabcabc"], "xabcabcabcabcabcx", "x***************x"),
        (
            vec!["secret-value", "secret-value-longer"],
            "secret-value-longer secret-value-long",
            "******************* ************-long",
        ),
        (vec!["one-two-three", "three-four-five"], "one-two-three-four-five.", "***********************."),
        (vec!["one-two-three", "two-three"], "one-two-threetwo-three", "**********************"),
    ] {
        for at in 0..text.len() {
            let (masked, _) = pass(&[], Frames::of(<[_; 2]>::from(text.split_at(at))), &values).unwrap();
            assert_eq!(String::from_utf8(masked).unwrap(), out, "split at {at}");
        }
        let (masked, _) = pass(&[], Frames::of(text.as_bytes().chunks(1)), &values).unwrap();
        assert_eq!(String::from_utf8(masked).unwrap(), out, "byte by byte");
    }
}

#[test]
fn headers_stay_true() {
    let value = CANARIES[0];
    // Masks keep the length, so a plain body keeps its headers.
    let mut parts = response(&[("content-length", "5"), ("etag", "\"a\""), ("accept-ranges", "bytes")]);
    scrub(&mut parts, Frames::of(["hello"]), needles(&[value]), None).unwrap();
    assert_eq!(parts.headers["content-length"], "5");
    assert_eq!(parts.headers["etag"], "\"a\"");
    assert!(!parts.headers.contains_key("accept-ranges"));

    let coded = [
        ("content-encoding", "gzip"),
        ("content-length", "5"),
        ("etag", "\"a\""),
        ("content-md5", "x"),
        ("digest", "x"),
        ("repr-digest", "x"),
        ("content-digest", "x"),
        ("content-type", "text/plain"),
    ];
    for body in [Frames::of(["hello"]), Frames::of([""; 0])] {
        let mut parts = response(&coded);
        scrub(&mut parts, body, needles(&[value]), None).unwrap();
        let mut left: Vec<_> = parts.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, [("content-type", "text/plain"), ("etag", "W/\"a\"")]);
    }

    // Nothing was injected: nothing is touched.
    let mut parts = response(&coded);
    scrub(&mut parts, Frames::of(["hello"]), needles(&[]), None).unwrap();
    assert_eq!(parts.headers.len(), coded.len());
}

#[test]
fn a_reason_phrase_goes() {
    let value = CANARIES[0];
    let mut parts = response(&[]);
    parts.extensions.insert(hyper::ext::ReasonPhrase::from_static(b"OK ghp_7Hq2Zr9Lw4Xk8Vb1Nd6Ts3Py5Mf0aC"));
    scrub(&mut parts, Frames::of(["hello"]), needles(&[value]), None).unwrap();
    assert!(parts.extensions.get::<hyper::ext::ReasonPhrase>().is_none());
}

#[test]
fn what_cannot_be_decoded_is_refused() {
    for (coding, named) in [
        ("compress", "compress"),
        ("gzip, gzip", "gzip, gzip"),
        ("br, gzip", "br, gzip"),
        ("aes128gcm", "aes128gcm"),
        ("gzip;q=1", "gzip;q=1"),
        ("\u{7f}", ""),
    ] {
        let mut parts = response(&[]);
        let Ok(value) = http::HeaderValue::from_bytes(coding.as_bytes()) else { continue };
        parts.headers.insert("content-encoding", value);
        match scrub(&mut parts, Frames::of(["x"]), needles(&[CANARIES[0]]), None) {
            Err(ScrubError::Coding(name)) => assert_eq!(name, named),
            _ => panic!("{coding}"),
        }
    }
    let mut parts = response(&[("content-encoding", "gzip"), ("content-encoding", "br")]);
    assert!(matches!(
        scrub(&mut parts, Frames::of(["x"]), needles(&[CANARIES[0]]), None),
        Err(ScrubError::Coding(_))
    ));
    let mut parts = response(&[("content-encoding", "identity, ")]);
    assert!(scrub(&mut parts, Frames::of(["x"]), needles(&[CANARIES[0]]), None).is_ok());
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// For the async interface that the data path uses.
async fn collect(body: ScrubbedBody<Frames>) -> Result<Bytes, BoxError> {
    Ok(body.collect().await?.to_bytes())
}
