//! TLS hellos of connections that are passed through: however they are cut into records, they say the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "a target asks for the whole hello alone")]
#[path = "../../../enforcer/src/protocol/tls/hello.rs"]
mod hello;

fuzz_target!(|bytes: &[u8]| {
    let Some(read) = hello::read(bytes) else { return };
    // All of it was records, or it would not have been read.
    let (mut message, mut rest) = (Vec::new(), bytes);
    while let [22, _, _, high, low, behind @ ..] = rest {
        let (part, behind) = behind.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        message.extend_from_slice(part);
        rest = behind;
        if message.len() >= 4
            && message.len() >= 4 + u32::from_be_bytes([0, message[1], message[2], message[3]]) as usize
        {
            break;
        }
    }
    let step = usize::from(message[message.len() / 2]) + 1;
    let again: Vec<u8> = message
        .chunks(step)
        .flat_map(|part| {
            [&[22, 3, 3], &u16::try_from(part.len()).expect("at most 256").to_be_bytes()[..], part].concat()
        })
        .collect();
    assert_eq!(hello::read(&again), Some(read));
});
