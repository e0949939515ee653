//! How a value is written inside other text: base64 and percent-encoding.
//!
//! Shared by what puts values into requests and what finds them in responses. Results that may
//! hold a secret are zeroed when dropped.

use zeroize::Zeroizing;

pub(crate) const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
pub(crate) const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// RFC 4648 section 4, without padding.
pub(crate) fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len().div_ceil(3) * 4));
    for group in bytes.chunks(3) {
        let word = group.iter().enumerate().fold(0u32, |word, (i, b)| word | u32::from(*b) << (16 - 8 * i));
        for i in 0..=group.len() {
            out.push(alphabet[(word >> (18 - 6 * i)) as usize & 63]);
        }
    }
    out
}

/// The same with `=` up to a whole group, as headers want it.
pub(crate) fn base64_padded(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let body = base64(bytes, STANDARD);
    // Room from the start: growing would leave a copy behind.
    let mut out = Zeroizing::new(Vec::with_capacity(body.len() + 2));
    out.extend_from_slice(&body);
    while !out.len().is_multiple_of(4) {
        out.push(b'=');
    }
    out
}

/// Reads either alphabet, padded or not, up to the first character of neither: for looking into
/// what an agent sent, where a strict reader would look away.
pub(crate) fn base64_decode(text: &[u8]) -> Vec<u8> {
    let (mut out, mut word, mut bits) = (Vec::with_capacity(text.len() / 4 * 3 + 3), 0u32, 0);
    for byte in text {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => break,
        };
        word = word << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    out
}

/// RFC 3986: everything but unreserved characters as `%XX`.
pub(crate) fn percent(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    percent_with(bytes, b"-._~", b"0123456789ABCDEF")
}

/// Letters, digits and `keep` stay.
pub(crate) fn percent_with(bytes: &[u8], keep: &[u8], hex: &[u8; 16]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len() * 3));
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || keep.contains(byte) {
            out.push(*byte);
        } else {
            out.extend([b'%', hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]]);
        }
    }
    out
}

/// Decodes `%XX`; what is not an escape stays as it is.
pub(crate) fn percent_decode(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|b| (*b as char).to_digit(16));
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648, 10.
    #[test]
    fn base64_has_the_published_forms() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64_padded(plain.as_bytes()).as_slice(), coded.as_bytes());
            assert_eq!(base64(plain.as_bytes(), STANDARD).as_slice(), coded.trim_end_matches('=').as_bytes());
            assert_eq!(base64_decode(coded.as_bytes()), plain.as_bytes());
        }
        let all: Vec<u8> = (0..=255).collect();
        for alphabet in [STANDARD, URL_SAFE] {
            assert_eq!(base64_decode(&base64(&all, alphabet)), all);
        }
    }

    #[test]
    fn percent_encoding_comes_back() {
        assert_eq!(percent(b"a-._~ /+%&\"").as_slice(), b"a-._~%20%2F%2B%25%26%22");
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(percent_decode(&percent(&all)), all);
        assert_eq!(percent_decode(b"%4g%%41%4"), b"%4g%A%4");
    }
}
