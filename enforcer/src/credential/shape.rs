//! What a placeholder looks like, and finding one.
//!
//! By shape alone, without a list of the known ones: an agent learns nothing from trying others,
//! neither by the answer nor by its time.

use std::sync::LazyLock;

use memchr::memmem;
use zeroize::Zeroizing;

/// Constant, so that one search finds every candidate.
pub(super) const PREFIX: &str = "enf-";
static FIND: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(PREFIX));
pub(super) const DIGITS: usize = 32;
/// Longest name of a credential.
const MAX_NAME: usize = 63;
pub(super) const LONGEST: usize = PREFIX.len() + MAX_NAME + 1 + DIGITS;

/// One placeholder in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) start: usize,
    /// the credential's name as the text has it
    pub(super) name: &'a str,
}

/// All that looks like one, overlapping ones too.
pub(super) fn find_all(text: &[u8]) -> impl Iterator<Item = Found<'_>> {
    FIND.find_iter(text)
        .filter_map(|start| Some(Found { start, name: name(text.get(start + PREFIX.len()..)?)? }))
}

/// Is the text at `start` this placeholder, and no longer one?
pub(super) fn is_exactly(text: &[u8], start: usize, placeholder: &str) -> bool {
    let Some(rest) = text.get(start..) else { return false };
    let Some((head, tail)) = rest.split_at_checked(placeholder.len()) else { return false };
    // Constant time: an almost right guess is answered like any other.
    let same = head.iter().zip(placeholder.as_bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0;
    same && !tail.first().is_some_and(|byte| is_name_byte(*byte))
}

/// Where the text's end may be the beginning of a placeholder; its length if it is not.
pub(super) fn live(text: &[u8]) -> usize {
    let whole_prefix = FIND
        .find_iter(text)
        .find(|start| text[start + PREFIX.len()..].iter().all(|byte| is_name_byte(*byte)));
    let part_of_it = (1..PREFIX.len())
        .rev()
        .find(|length| PREFIX.as_bytes().get(..*length).is_some_and(|part| text.ends_with(part)))
        .map(|length| text.len() - length);
    whole_prefix.or(part_of_it).unwrap_or(text.len())
}

/// Puts a value in the place of each placeholder, in one pass: the value is not searched.
pub(super) fn swap(text: &[u8], placeholder: &str, value: &[u8]) -> Zeroizing<Vec<u8>> {
    let found = memmem::find_iter(text, placeholder).count();
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() + found * value.len()));
    let mut rest = 0;
    for at in memmem::find_iter(text, placeholder) {
        out.extend_from_slice(&text[rest..at]);
        out.extend_from_slice(value);
        rest = at + placeholder.len();
    }
    out.extend_from_slice(&text[rest..]);
    out
}

/// The name before `-` and the digits, at the start of the text.
fn name(text: &[u8]) -> Option<&str> {
    let run = text.iter().take(MAX_NAME + 1 + DIGITS).take_while(|byte| is_name_byte(**byte)).count();
    let length = (1..=MAX_NAME).find(|length| {
        text[..run].get(*length) == Some(&b'-')
            && text[..run]
                .get(length + 1..length + 1 + DIGITS)
                .is_some_and(|digits| digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')))
    })?;
    std::str::from_utf8(&text[..length]).ok()
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}
