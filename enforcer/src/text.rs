//! Text that came from an agent or an upstream, made safe to show; and bytes as hex digits.
//!
//! Receipts are escaped JSON already when they are written; this is for terminals, the journal, CSV and JSON
//! read by eye.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Characters that change how their neighbours are shown, or that cannot be seen: controls (C0, DEL, C1),
/// line and paragraph separators, bidirectional controls, zero-width and other format characters, tags.
pub fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{115f}' | '\u{1160}'
            | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Hidden characters become `\n`, `\r`, `\t` or `\u{202e}`; everything else stays.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(hidden) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().fold(String::with_capacity(text.len() + 16), |mut out, c| {
        match c {
            '\n' | '\r' | '\t' => out.extend(c.escape_default()),
            c if hidden(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
        out
    }))
}

/// Hidden characters in a JSON text become `\u202e`. Such characters occur in JSON only inside strings
/// (serde_json writes no white space between tokens), so the document stays the same.
pub fn shown_json(json: String) -> String {
    // Nearly all are, and have no controls left.
    if json.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return json;
    }
    if !json.chars().any(hidden) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                write!(out, "\\u{unit:04x}").expect("a String takes every write");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// At most `max` bytes of `text`, and how much is missing.
pub fn clip(text: &mut String, max: usize) {
    if text.len() <= max {
        return;
    }
    let keep = text.floor_char_boundary(max);
    let cut = text.len() - keep;
    text.truncate(keep);
    write!(text, "…({cut} bytes more)").expect("a String takes every write");
}

/// Lower case, two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len() * 2);
    hex_into(&mut text, bytes);
    String::from_utf8(text).expect("digits are ASCII")
}

/// The same, appended.
pub fn hex_into(text: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.extend(bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]));
}

/// Exactly `N` bytes, lower case only: one value has one spelling.
pub fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    if text.len() != N * 2 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_spelled_out() {
        for (text, safe) in [
            ("plain ünïcode 日本", "plain ünïcode 日本"),
            ("a\nb\r\tc\x1b[31m", "a\\nb\\r\\tc\\u{1b}[31m"),
            ("user\u{202e}cod.exe", "user\\u{202e}cod.exe"),
            (
                "\u{9b}x\u{7f}\u{200b}\u{2028}\u{feff}\u{e0041}",
                "\\u{9b}x\\u{7f}\\u{200b}\\u{2028}\\u{feff}\\u{e0041}",
            ),
        ] {
            assert_eq!(shown(text), safe);
        }
    }

    #[test]
    fn escaped_json_reads_back_the_same() {
        for text in ["a\nb\"\\", "\u{202e}\u{85}\u{e0041}\u{2028}", "é"] {
            let json = shown_json(serde_json::to_string(text).unwrap());
            assert!(!json.chars().any(hidden), "{json}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }

    #[test]
    fn long_text_is_clipped_at_a_character() {
        let mut text = "ééé".to_owned();
        clip(&mut text, 3);
        assert_eq!(text, "é…(4 bytes more)");
    }
}
