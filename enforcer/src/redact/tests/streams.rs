//! Chunk boundaries, delay, copies, lengths, errors.

use proptest::prelude::*;

use super::*;

fn document() -> String {
    let mut text = String::from("start ");
    for value in CANARIES {
        for (how, form) in written(value) {
            text.push_str(&format!("{how}={} g gh ghp ghp_7H ", String::from_utf8(form).unwrap()));
        }
    }
    text
}

#[test]
fn a_split_at_any_offset_changes_nothing() {
    let (text, needles) = (document(), needles(&CANARIES));
    let (whole, cut) = pass_by(&needles, &[], Frames::of([&text])).unwrap();
    for at in 0..=text.len() {
        let (out, count) =
            pass_by(&needles, &[], Frames::of(<[_; 2]>::from(text.as_bytes().split_at(at)))).unwrap();
        assert!(out == whole && count == cut, "split at {at}: {count} of {cut}");
    }
    for size in 1..80 {
        let (out, count) = pass_by(&needles, &[], Frames::of(text.as_bytes().chunks(size))).unwrap();
        assert!(out == whole && count == cut, "chunks of {size}: {count} of {cut}");
    }
}

#[test]
fn a_split_at_any_offset_of_a_coded_body_changes_nothing() {
    let needles = needles(&CANARIES);
    let text = &document().into_bytes()[..600];
    let (whole, _) = pass_by(&needles, &[], Frames::of([text])).unwrap();
    let coded = gzip(text);
    for at in 0..=coded.len() {
        let body = Frames::of([&coded[..at], &coded[at..]]);
        let (out, _) = pass_by(&needles, &[("content-encoding", "gzip")], body).unwrap();
        assert!(out == whole, "split at {at}");
    }
}

proptest! {
    /// Against the plainest scrubber there is: mark every occurrence of every form in the whole text.
    #[test]
    fn any_text_in_any_chunks_is_masked_as_a_whole(
        pieces in prop::collection::vec((0usize..4, 0usize..17, "[a-g_ =+/]{0,6}"), 0..12),
        sizes in prop::collection::vec(1usize..40, 1..60),
    ) {
        let forms: Vec<Vec<_>> = CANARIES.iter().map(|v| written(v)).collect();
        let mut text = Vec::new();
        for (value, form, filler) in &pieces {
            let form = &forms[*value][*form].1;
            // Sometimes only the beginning of one.
            let length = if filler.len() > 3 { form.len() - 1 } else { form.len() };
            text.extend_from_slice(&form[..length]);
            text.extend_from_slice(filler.as_bytes());
        }
        let (whole, cut) = pass(&[], Frames::of([&text]), &CANARIES).unwrap();
        for value in CANARIES {
            let (_, plain) = &written(value)[0];
            prop_assert!(memchr::memmem::find(&whole, plain).is_none());
        }
        let mut chunks = Vec::new();
        let mut rest = text.as_slice();
        for size in sizes.iter().cycle() {
            if rest.is_empty() { break; }
            let (chunk, more) = rest.split_at((*size).min(rest.len()));
            chunks.push(chunk);
            rest = more;
        }
        let (out, count) = pass(&[], Frames::of(chunks), &CANARIES).unwrap();
        prop_assert_eq!(out, whole);
        prop_assert_eq!(count, cut);
    }

    #[test]
    fn text_without_a_value_passes_byte_for_byte(text in prop::collection::vec(any::<u8>(), 0..2000), size in 1usize..300) {
        let (out, cut) = pass(&[], Frames::of(text.chunks(size)), &CANARIES).unwrap();
        prop_assert_eq!((out, cut), (text, 0));
    }
}

#[test]
fn an_event_is_passed_on_at_once() {
    for event in ["data: hello\n\n", ": ping\n\n", "data: {\"text\":\"a\"}\n\n"] {
        let mut parts = response(&[("content-type", "text/event-stream")]);
        let mut body = scrub(&mut parts, Frames::of([event]).pause(), needles(&CANARIES), None).unwrap();
        assert_eq!(drain(&mut body).0.concat(), event.as_bytes());
    }
    // Only what begins a value waits, and no longer than it must.
    let mut parts = response(&[]);
    let body = Frames::of(["token: ghp_7H"]).pause();
    let mut body = scrub(&mut parts, body, needles(&CANARIES[..1]), None).unwrap();
    assert_eq!(drain(&mut body).0.concat(), b"token: ");
    body.inner_for_test().0.push_back(Some(Ok(Frame::data(Bytes::from_static(b"x!")))));
    assert_eq!(drain(&mut body).0.concat(), b"ghp_7Hx!");
}

#[test]
fn a_chunk_without_a_value_is_not_copied() {
    let chunk = Bytes::from(vec![b'-'; 10_000]);
    for values in [&CANARIES[..], &[]] {
        let mut parts = response(&[]);
        let body = Frames([Some(Ok(Frame::data(chunk.clone())))].into());
        let mut body = scrub(&mut parts, body, needles(values), None).unwrap();
        let (data, ..) = drain(&mut body);
        assert_eq!((data.len(), data[0].as_ptr()), (1, chunk.as_ptr()));
    }
}

#[test]
fn a_broken_body_stays_broken() {
    let mut parts = response(&[]);
    let mut body = scrub(&mut parts, Frames::of(["some ghp_7H"]).fail(), needles(&CANARIES), None).unwrap();
    let (data, trailers, error) = drain(&mut body);
    assert_eq!(data.concat(), b"some ");
    assert!(trailers.is_none());
    assert_eq!(error.unwrap().to_string(), "connection reset");
}

#[test]
fn lengths_are_known_where_they_can_be() {
    let mut parts = response(&[]);
    let whole = http_body_util::Full::new(Bytes::from_static(b"hello ghp_"));
    let mut body = scrub(&mut parts, whole, needles(&CANARIES), None).unwrap();
    assert_eq!(body.size_hint().exact(), Some(10));
    let mut context = Context::from_waker(std::task::Waker::noop());
    let first = Pin::new(&mut body).poll_frame(&mut context);
    assert!(matches!(first, Poll::Ready(Some(Ok(frame))) if frame.data_ref().unwrap() == "hello "));
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(4), false));
    let rest = Pin::new(&mut body).poll_frame(&mut context);
    assert!(matches!(rest, Poll::Ready(Some(Ok(frame))) if frame.data_ref().unwrap() == "ghp_"));
    assert!(body.is_end_stream());

    let mut parts = response(&[("content-encoding", "br")]);
    let whole = http_body_util::Full::new(Bytes::from_static(b"x"));
    assert_eq!(scrub(&mut parts, whole, needles(&CANARIES), None).unwrap().size_hint().exact(), None);
}

#[test]
fn trailers_come_last_and_clean() {
    let mut parts = response(&[]);
    let body = Frames::of(["tail ghp_"]).trailers("x-sum", CANARIES[0]);
    let mut body = scrub(&mut parts, body, needles(&CANARIES[..1]), None).unwrap();
    let (data, trailers, error) = drain(&mut body);
    assert_eq!(data.concat(), b"tail ghp_");
    assert_eq!(trailers.unwrap()["x-sum"], "*".repeat(CANARIES[0].len()));
    assert!(error.is_none() && body.is_end_stream());
}

#[tokio::test]
async fn it_is_a_body_like_any_other() {
    let mut parts = response(&[]);
    let body =
        scrub(&mut parts, Frames::of(["a ", CANARIES[0], " b"]), needles(&CANARIES[..1]), None).unwrap();
    assert_eq!(collect(body).await.unwrap(), format!("a {} b", "*".repeat(CANARIES[0].len())));
}

/// Not a benchmark: a search that went over the text once per form would be ten times slower.
#[test]
fn a_large_body_is_searched_in_one_pass() {
    let line =
        b"{\"id\": 123456, \"name\": \"repository\", \"description\": \"nothing to see here\"}\n".repeat(13);
    let chunk = Bytes::from(line);
    let needles = needles(&CANARIES[..1]);
    let mut parts = response(&[]);
    let frames = Frames((0..16_000).map(|_| Some(Ok(Frame::data(chunk.clone())))).collect());
    let mut body = scrub(&mut parts, frames, needles, None).unwrap();
    let start = std::time::Instant::now();
    let (data, ..) = drain(&mut body);
    let total: usize = data.iter().map(Bytes::len).sum();
    assert_eq!(total, chunk.len() * 16_000);
    println!("{} MiB in {:?}", total >> 20, start.elapsed());
}
