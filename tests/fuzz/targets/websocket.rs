//! WebSocket frames: however they are cut into reads, they read alike, no piece is larger than its bytes, and a text is one
//! where its whole is.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "a target reads frames and writes none")]
#[path = "../../../enforcer/src/protocol/http/websocket/frame/mod.rs"]
mod frame;

use frame::{Fault, Frames, Sender, Utf8};

fuzz_target!(|bytes: &[u8]| {
    let Some((first, stream)) = bytes.split_first() else { return };
    let sender = if first & 1 == 0 { Sender::Agent } else { Sender::Server };
    let max = (first & 2 != 0).then_some(300);
    let whole = read(sender, max, stream, stream.len().max(1));
    assert_eq!(whole, read(sender, max, stream, usize::from(first >> 2) + 1));
});

/// Bytes of messages and of control frames with their masks taken off, or the fault.
fn read(sender: Sender, max: Option<u64>, stream: &[u8], step: usize) -> Result<[Vec<u8>; 2], Fault> {
    let (mut frames, mut payloads) = (Frames::new(sender, max), [Vec::new(), Vec::new()]);
    let (mut at, mut end) = (0, 0);
    let (mut text, mut whole, mut is_text) = (Utf8::default(), Vec::new(), true);
    while end < stream.len() {
        end = (end + step).min(stream.len());
        while let Some(piece) = frames.next(&stream[at..end])? {
            assert!(piece.len > 0 && piece.head <= piece.len && at + piece.len <= end);
            let mut payload = stream[at + piece.head..at + piece.len].to_vec();
            if let Some(mask) = piece.mask {
                mask.apply(&mut payload);
            }
            if piece.text {
                whole.extend_from_slice(&payload);
                is_text &= text.look(&payload);
            }
            if piece.last {
                is_text &= text.end();
                assert_eq!(is_text, std::str::from_utf8(&whole).is_ok());
                whole.clear();
                is_text = true;
            }
            payloads[usize::from(piece.control)].extend(payload);
            at += piece.len;
        }
    }
    Ok(payloads)
}
