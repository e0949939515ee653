use super::*;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as `sender` would send it.
fn frame(sender: Sender, first: u8, payload: &[u8]) -> Vec<u8> {
    let masked = if sender == Sender::Agent { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(masked | len as u8),
        len @ 126..0x1_0000 => {
            out.push(masked | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(masked | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    if sender == Sender::Agent {
        let mut payload = payload.to_vec();
        Mask(KEY).apply(&mut payload);
        out.extend(KEY);
        out.extend(payload);
    } else {
        out.extend(payload);
    }
    out
}

/// Reads a stream that comes in parts of `step` bytes → payloads of data and of control frames.
fn read(frames: &mut Frames, stream: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>), Fault> {
    let (mut data, mut control) = (Vec::new(), Vec::new());
    let (mut at, mut end) = (0, 0);
    while end < stream.len() {
        end = (end + step).min(stream.len());
        while let Some(piece) = frames.next(&stream[at..end])? {
            assert!(piece.len > 0 && piece.head <= piece.len);
            let mut payload = stream[at + piece.head..at + piece.len].to_vec();
            if let Some(mask) = piece.mask {
                mask.apply(&mut payload);
            }
            if piece.control { &mut control } else { &mut data }.extend(payload);
            at += piece.len;
        }
        // What is waited for is a head, or a control frame.
        assert!(end - at < 14 + MAX_CONTROL);
    }
    Ok((data, control))
}

#[test]
fn the_examples_of_the_rfc_read_as_it_says() {
    // RFC 6455, 5.7.
    let table: &[(Sender, &[u8], &str, &str)] = &[
        (Sender::Server, b"\x81\x05Hello", "Hello", ""),
        (Sender::Agent, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "Hello", ""),
        (Sender::Server, b"\x01\x03Hel\x80\x02lo", "Hello", ""),
        (Sender::Server, b"\x89\x05Hello", "", "Hello"),
        (Sender::Agent, b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "", "Hello"),
    ];
    for (sender, stream, data, control) in table {
        for step in 1..=stream.len() {
            let mut frames = Frames::new(*sender, None);
            let told = read(&mut frames, stream, step).unwrap();
            assert_eq!(told, (data.as_bytes().to_vec(), control.as_bytes().to_vec()), "{stream:?} by {step}");
            assert!(frames.at_boundary());
        }
    }
}

#[test]
fn lengths_of_every_form_and_fragments_with_control_frames_between() {
    for sender in [Sender::Agent, Sender::Server] {
        for len in [0, 1, 125, 126, 127, 0xffff, 0x1_0000, 0x1_0001] {
            let payload: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let stream = [
                frame(sender, 0x02, &payload),
                frame(sender, 0x89, b"ping"),
                frame(sender, 0x00, b""),
                frame(sender, 0x80, &payload),
                frame(sender, 0x88, b"\x03\xe8bye"),
            ]
            .concat();
            for step in [1, 2, 3, 7, 4096, usize::MAX / 2] {
                let mut frames = Frames::new(sender, Some(2 * len as u64));
                let (data, control) = read(&mut frames, &stream, step).unwrap();
                assert_eq!(data, [payload.as_slice(), &payload].concat(), "{len} by {step}");
                assert_eq!(control, b"ping\x03\xe8bye");
                assert!(frames.closed());
            }
        }
    }
}

#[test]
fn what_the_rfc_forbids_is_a_fault_with_its_code() {
    let server = |stream: &[u8]| read(&mut Frames::new(Sender::Server, Some(1000)), stream, stream.len());
    let agent = |stream: &[u8]| read(&mut Frames::new(Sender::Agent, Some(1000)), stream, stream.len());
    let long = [b"\x89\x7e\x00\x7e".as_slice(), &[0; 126]].concat();
    let table: &[(&[u8], u16, &str)] = &[
        (b"\xc1\x00", 1002, "reserved bit"),
        (b"\xa1\x00", 1002, "reserved bit"),
        (b"\x91\x00", 1002, "reserved bit"),
        // A fault in the first byte does not wait for a second.
        (b"\xc1", 1002, "reserved bit"),
        (b"\x83\x00", 1002, "opcode"),
        (b"\x84\x00", 1002, "opcode"),
        (b"\x85\x00", 1002, "opcode"),
        (b"\x86\x00", 1002, "opcode"),
        (b"\x87\x00", 1002, "opcode"),
        (b"\x8b\x00", 1002, "opcode"),
        (b"\x8c\x00", 1002, "opcode"),
        (b"\x8d\x00", 1002, "opcode"),
        (b"\x8e\x00", 1002, "opcode"),
        (b"\x8f\x00", 1002, "opcode"),
        (b"\x81\x80", 1002, "is masked"),
        (b"\x81\x7e\x00\x7d", 1002, "fewest"),
        (b"\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff", 1002, "fewest"),
        (b"\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x00", 1002, "highest bit"),
        (b"\x80\x00", 1002, "has not begun"),
        (b"\x00\x00", 1002, "has not begun"),
        (b"\x01\x00\x81\x00", 1002, "before it has ended"),
        (b"\x01\x00\x02\x00", 1002, "before it has ended"),
        (b"\x81\x00\x80\x00", 1002, "has not begun"),
        (b"\x09\x00", 1002, "fragmented"),
        (b"\x0a\x00", 1002, "fragmented"),
        (b"\x08\x00", 1002, "fragmented"),
        (&long, 1002, "125"),
        (b"\x88\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 1002, "125"),
        (b"\x88\x01x", 1002, "half a close code"),
        (b"\x88\x02\x03\xe7", 1002, "close code"),
        (b"\x88\x02\x03\xec", 1002, "close code"),
        (b"\x88\x02\x03\xed", 1002, "close code"),
        (b"\x88\x02\x03\xee", 1002, "close code"),
        (b"\x88\x02\x03\xf7", 1002, "close code"),
        (b"\x88\x02\x07\xd0", 1002, "close code"),
        (b"\x88\x02\x13\x88", 1002, "close code"),
        (b"\x88\x02\xff\xff", 1002, "close code"),
        (b"\x88\x03\x03\xe8\xff", 1007, "UTF-8"),
        (b"\x88\x00\x81\x00", 1002, "follows a Close"),
        (b"\x88\x00\x88\x00", 1002, "follows a Close"),
        (b"\x88\x00\x89\x00", 1002, "follows a Close"),
        (b"\x81\x7e\x03\xe9", 1009, "1000 bytes"),
        (b"\x81\x7f\x00\x00\x00\x01\x00\x00\x00\x00", 1009, "1000 bytes"),
    ];
    for (stream, code, part) in table {
        let fault = server(stream).expect_err(&format!("{stream:x?}"));
        assert_eq!(fault.code, *code, "{stream:x?}: {fault:?}");
        assert!(fault.reason.to_string().contains(part), "{stream:x?}: {fault:?}");
    }
    assert!(agent(b"\x81\x05Hello").unwrap_err().reason.to_string().contains("not masked"));
}

#[test]
fn a_limit_counts_all_frames_of_a_message_and_no_control_frames() {
    let parts = |count: usize| {
        let mut stream = frame(Sender::Server, 0x01, &[b'x'; 400]);
        for _ in 1..count {
            stream.extend(frame(Sender::Server, 0x89, &[b'p'; 125]));
            stream.extend(frame(Sender::Server, 0x00, &[b'x'; 300]));
        }
        stream.extend(frame(Sender::Server, 0x80, b""));
        stream
    };
    let mut frames = Frames::new(Sender::Server, Some(1000));
    // The next message counts from nothing.
    for _ in 0..3 {
        read(&mut frames, &parts(3), 50).unwrap();
    }
    let fault = read(&mut frames, &parts(4), 50).unwrap_err();
    assert_eq!(fault.code, code::TOO_BIG);
    // Lengths whose sum would overflow.
    let mut frames = Frames::new(Sender::Server, Some(1000));
    let mut endless = Frames::new(Sender::Server, None);
    let huge = b"\x01\x7f\x7f\xff\xff\xff\xff\xff\xff\xff";
    assert!(endless.next(huge).unwrap().is_some());
    assert_eq!(frames.next(huge).unwrap_err().code, code::TOO_BIG);
}

#[test]
fn our_close_is_one_that_a_strict_reader_takes() {
    for (reason, key) in
        [("", None), ("why", Some(KEY)), (&"ä".repeat(100), None), (&"ä".repeat(100), Some(KEY))]
    {
        let sender = if key.is_some() { Sender::Agent } else { Sender::Server };
        let bytes = write_close(code::POLICY, reason, key);
        let mut frames = Frames::new(sender, None);
        let (_, control) = read(&mut frames, &bytes, bytes.len()).unwrap();
        assert!(frames.closed());
        assert_eq!(control[..2], code::POLICY.to_be_bytes());
        assert!(reason.starts_with(std::str::from_utf8(&control[2..]).unwrap()));
    }
}

proptest::proptest! {
    /// However a stream is cut into reads, it comes to the same.
    #[test]
    fn pieces_of_any_size_read_alike(
        stream in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
        steps in proptest::collection::vec(1usize..40, 1..4),
        masked in proptest::bool::ANY,
    ) {
        let sender = if masked { Sender::Agent } else { Sender::Server };
        let whole = read(&mut Frames::new(sender, Some(100)), &stream, stream.len().max(1));
        for step in steps {
            assert_eq!(read(&mut Frames::new(sender, Some(100)), &stream, step), whole);
        }
    }
}
