//! What to look for: each injected value in the forms in which upstreams write it back.
//!
//! Forms that a value does not change in (most tokens are the same percent-encoded) fall together,
//! so a usual token is searched for in some twenty ways.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::search::Search;
use crate::secret::encode::{self, STANDARD, URL_SAFE};
use crate::secret::{Bound, Fetched};

/// Search values for responses; built from what must not come back. No Debug: it is made of secrets.
pub struct Needles {
    search: Option<Search>,
    /// The values in lower case, which is all that is left of one in a header's name.
    in_names: Vec<Zeroizing<Vec<u8>>>,
}

impl Needles {
    /// For these values; made once for as long as they are kept.
    pub fn of(guarded: &Bound) -> Arc<Self> {
        guarded.once(Needles::new)
    }

    pub(super) fn new(injected: &[Arc<Fetched>]) -> Self {
        let mut all = Vec::new();
        let mut in_names = Vec::new();
        for fetched in injected {
            let value = fetched.secret.expose();
            forms(value, &mut all);
            in_names.push(Zeroizing::new(value.to_ascii_lowercase()));
        }
        Needles { search: Search::new(all), in_names }
    }

    /// Nothing was injected, so nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.search.is_none()
    }

    pub(super) fn search(&self) -> Option<&Search> {
        self.search.as_ref()
    }

    pub(super) fn in_name(&self, name: &str) -> bool {
        self.in_names.iter().any(|needle| memchr::memmem::find(name.as_bytes(), needle).is_some())
    }
}

type Bytes = Zeroizing<Vec<u8>>;

fn forms(value: &[u8], out: &mut Vec<Bytes>) {
    out.push(Zeroizing::new(value.to_vec()));
    // `user:value` is how Basic writes it; the colon makes the first character's bits known.
    let after_colon = Zeroizing::new([b":", value].concat());
    for alphabet in [STANDARD, URL_SAFE] {
        for shift in 0..3 {
            base64_forms(value, shift, alphabet, out);
            base64_forms(&after_colon, shift, alphabet, out);
        }
    }
    out.push(hex(value, b"0123456789abcdef"));
    out.push(hex(value, b"0123456789ABCDEF"));
    percent_forms(value, out);
    for table in ESCAPES {
        out.push(escape(value, table));
    }
}

/// The characters that depend on the value alone, when `shift` unknown bytes stand before its
/// group: once with more text behind it, once at the end, where the last bits are zero.
fn base64_forms(value: &[u8], shift: usize, alphabet: &[u8; 64], out: &mut Vec<Bytes>) {
    let shifted = Zeroizing::new([&[0; 2][..shift], value].concat());
    let text = encode::base64(&shifted, alphabet);
    let first = (8 * shift).div_ceil(6);
    let inner = 8 * shifted.len() / 6;
    out.push(Zeroizing::new(text[first..inner].to_vec()));
    out.push(Zeroizing::new(text[first..].to_vec()));
}

fn hex(value: &[u8], digits: &[u8; 16]) -> Bytes {
    let mut out = Zeroizing::new(Vec::with_capacity(value.len() * 2));
    for byte in value {
        out.extend([digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
    }
    out
}

fn percent_forms(value: &[u8], out: &mut Vec<Bytes>) {
    // RFC 3986; Python's quote; encodeURIComponent; encodeURI; a form.
    for keep in [b"-._~".as_slice(), b"-._~/", b"-_.!~*'()", b"-_.!~*'();/?:@&=+$,#", b"*-._", b"*-._ "] {
        for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
            let mut text = encode::percent_with(value, keep, digits);
            // A form writes a space as `+` (the plus itself was escaped).
            if keep.contains(&b' ') {
                text.iter_mut().filter(|b| **b == b' ').for_each(|b| *b = b'+');
            }
            out.push(text);
        }
    }
}

type Escapes = &'static [(u8, &'static str)];

/// Character escapes of common writers of JSON and HTML.
const ESCAPES: &[Escapes] = &[
    // JSON: what must be escaped; with the slash (PHP); Go; Gson; Rails.
    &[(b'"', r#"\""#), (b'\\', r"\\")],
    &[(b'"', r#"\""#), (b'\\', r"\\"), (b'/', r"\/")],
    &[(b'"', r#"\""#), (b'\\', r"\\"), (b'<', r"\u003c"), (b'>', r"\u003e"), (b'&', r"\u0026")],
    &[
        (b'"', r#"\""#),
        (b'\\', r"\\"),
        (b'<', r"\u003c"),
        (b'>', r"\u003e"),
        (b'&', r"\u0026"),
        (b'=', r"\u003d"),
        (b'\'', r"\u0027"),
    ],
    &[
        (b'"', r"\u0022"),
        (b'\\', r"\\"),
        (b'<', r"\u003C"),
        (b'>', r"\u003E"),
        (b'&', r"\u0026"),
        (b'\'', r"\u0027"),
        (b'+', r"\u002B"),
    ],
    // HTML: the least; PHP and Django; Python; Go; Handlebars.
    &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;")],
    &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;"), (b'"', "&quot;")],
    &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;"), (b'"', "&quot;"), (b'\'', "&#39;")],
    &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;"), (b'"', "&quot;"), (b'\'', "&#039;")],
    &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;"), (b'"', "&quot;"), (b'\'', "&#x27;")],
    &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;"), (b'"', "&#34;"), (b'\'', "&#39;")],
    &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;"), (b'"', "&#34;"), (b'\'', "&#39;"), (b'+', "&#43;")],
    &[
        (b'&', "&amp;"),
        (b'<', "&lt;"),
        (b'>', "&gt;"),
        (b'"', "&quot;"),
        (b'\'', "&#x27;"),
        (b'`', "&#x60;"),
        (b'=', "&#x3D;"),
    ],
];

fn escape(value: &[u8], table: Escapes) -> Bytes {
    let mut out = Zeroizing::new(Vec::with_capacity(value.len() * 6));
    for byte in value {
        match table.iter().find(|(from, _)| from == byte) {
            Some((_, to)) => out.extend_from_slice(to.as_bytes()),
            None => out.push(*byte),
        }
    }
    out
}
