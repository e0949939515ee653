//! Certificates as far as trust stores need them: PEM in and out, and OpenSSL's hash of the subject.
//!
//! Nothing here judges a certificate.

use ring::digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// One certificate's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) der: Vec<u8>,
}

/// The certificates of a PEM text; everything else in it is passed over.
pub(super) fn parse_pem(text: &[u8]) -> Vec<Certificate> {
    CertificateDer::pem_slice_iter(text)
        .filter_map(Result::ok)
        .map(|der| Certificate { der: der.to_vec() })
        .collect()
}

/// Writes them one after the other.
pub(super) fn to_pem(certificates: &[Certificate]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in certificate.der.chunks(48) {
            for group in line.chunks(3) {
                push_base64(&mut text, group);
            }
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

fn push_base64(text: &mut String, group: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or_default());
    let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
    for position in 0..4 {
        let index = (bits >> (18 - 6 * position)) as usize & 63;
        text.push(if position <= group.len() { char::from(ALPHABET[index]) } else { '=' });
    }
}

impl Certificate {
    /// All of it on one line.
    pub(super) fn base64(&self) -> String {
        let mut text = String::new();
        self.der.chunks(3).for_each(|group| push_base64(&mut text, group));
        text
    }

    /// `openssl x509 -hash`: the first four bytes, little endian, of the SHA-1 of the canonical subject.
    /// `None` for what is no certificate.
    pub(super) fn subject_hash(&self) -> Option<u32> {
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &canonical(subject(&self.der)?)?);
        Some(u32::from_le_bytes(hash.as_ref().get(..4)?.try_into().ok()?))
    }
}

const INTEGER: u8 = 0x02;
const OBJECT: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const T61_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const VISIBLE_STRING: u8 = 0x1a;
const UNIVERSAL_STRING: u8 = 0x1c;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_VERSION: u8 = 0xa0;

/// Takes one DER element off the front: its tag and its content.
fn element<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (bytes, after) = rest.split_at_checked(count)?;
        length = bytes.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    *input = after;
    Some((tag, content))
}

fn expect<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, content) = element(input)?;
    (found == tag).then_some(content)
}

/// RFC 5280, 4.1: version, serialNumber, signature, issuer, validity, subject.
fn subject(der: &[u8]) -> Option<&[u8]> {
    let mut certificate = expect(&mut &*der, SEQUENCE)?;
    let mut tbs = expect(&mut certificate, SEQUENCE)?;
    let (first, _) = element(&mut tbs)?;
    if first == EXPLICIT_VERSION {
        expect(&mut tbs, INTEGER)?;
    }
    for _ in ["signature", "issuer", "validity"] {
        expect(&mut tbs, SEQUENCE)?;
    }
    expect(&mut tbs, SEQUENCE)
}

/// OpenSSL's canonical form (`x509_name_canon`): each set again, its texts folded, without the outer sequence.
fn canonical(mut name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while !name.is_empty() {
        let mut set = expect(&mut name, SET)?;
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let mut attribute = expect(&mut set, SEQUENCE)?;
            let object = expect(&mut attribute, OBJECT)?;
            let (tag, value) = element(&mut attribute)?;
            let mut content = encoded(OBJECT, object);
            content.extend(match utf8(tag, value) {
                Some(text) => encoded(UTF8_STRING, &folded(text.as_bytes())),
                None => encoded(tag, value),
            });
            attributes.push(encoded(SEQUENCE, &content));
        }
        attributes.sort();
        out.extend(encoded(SET, &attributes.concat()));
    }
    Some(out)
}

/// The string types that OpenSSL turns into UTF-8 here (ASN1_MASK_CANON); others stay as they are.
fn utf8(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        UTF8_STRING => Some(std::str::from_utf8(value).ok()?.to_owned()),
        PRINTABLE_STRING | T61_STRING | IA5_STRING | VISIBLE_STRING => {
            Some(value.iter().copied().map(char::from).collect())
        }
        BMP_STRING => {
            let units = value.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(u16::from_be_bytes);
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        UNIVERSAL_STRING => value
            .chunks_exact(4)
            .map(|four| char::from_u32(u32::from_be_bytes(four.try_into().ok()?)))
            .collect(),
        _ => None,
    }
}

/// Spaces trimmed and collapsed, ASCII letters lower.
fn folded(text: &[u8]) -> Vec<u8> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    for word in text.split(is_space).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(b' ');
        }
        out.extend(word.iter().map(u8::to_ascii_lowercase));
    }
    out
}

fn encoded(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let bytes = bytes.iter().skip_while(|byte| **byte == 0);
        out.push(0x80 | bytes.clone().count() as u8);
        out.extend(bytes);
    }
    out.extend(content);
    out
}
