//! Mail addresses and card numbers in a text.
//!
//! Found is what is written plainly. A text that spells them out (`user at example`, digits as words)
//! is not searched for.

use enforcer_policy::Pattern;

use super::INSTEAD;

/// The longest mail address (RFC 5321: 64 + 1 + 255), which is also longer than any card number.
pub(super) const LONGEST: usize = 320;

/// The text without what was found, and how often that was. `None`: nothing was.
pub(super) fn redacted(text: &[u8], patterns: &[Pattern]) -> Option<(Vec<u8>, u32)> {
    let found = find(text, patterns);
    if found.is_empty() {
        return None;
    }
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    for (start, end) in &found {
        out.extend_from_slice(text.get(at..*start).unwrap_or_default());
        out.extend_from_slice(INSTEAD.as_bytes());
        at = *end;
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
    Some((out, u32::try_from(found.len()).unwrap_or(u32::MAX)))
}

/// From where to where, in order, without overlaps.
pub(super) fn find(text: &[u8], patterns: &[Pattern]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for pattern in patterns {
        match pattern {
            Pattern::Email => emails(text, &mut found),
            Pattern::CardNumber => cards(text, &mut found),
        }
    }
    found.sort_unstable();
    let mut apart: Vec<(usize, usize)> = Vec::with_capacity(found.len());
    for (start, end) in found {
        match apart.last_mut() {
            Some(last) if start < last.1 => last.1 = last.1.max(end),
            _ => apart.push((start, end)),
        }
    }
    apart
}

fn emails(text: &[u8], found: &mut Vec<(usize, usize)>) {
    let local = |b: &u8| b.is_ascii_alphanumeric() || *b >= 0x80 || b".!#$%&'*+/=?^_`{|}~-".contains(b);
    let domain = |b: &u8| b.is_ascii_alphanumeric() || *b >= 0x80 || b".-".contains(b);
    for at in memchr::memchr_iter(b'@', text) {
        let (before, after) = (&text[..at], &text[at + 1..]);
        let start = at - before.iter().rev().take(LONGEST).take_while(|b| local(b)).count();
        let mut end = at + 1 + after.iter().take(LONGEST).take_while(|b| domain(b)).count();
        while end > at + 1 && matches!(text.get(end - 1), Some(b'.' | b'-')) {
            end -= 1;
        }
        // `x@localhost` is an address for nobody outside.
        let dotted = text.get(at + 1..end).is_some_and(|domain| domain.contains(&b'.'));
        if start < at && dotted {
            found.push((start, end));
        }
    }
}

/// 13 to 19 digits, alone or in groups with single blanks or hyphens between, with the check digit.
fn cards(text: &[u8], found: &mut Vec<(usize, usize)>) {
    let mut at = 0;
    while at < text.len() {
        if !text[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let groups = groups(text, at);
        at = groups.last().map_or(at + 1, |(_, end)| *end);
        let mut first = 0;
        while first < groups.len() {
            // The longest first: a number must not be left with its last digits.
            let last = (first..groups.len()).rev().find(|last| is_card(text, &groups[first..=*last]));
            match last {
                Some(last) => {
                    found.push((groups[first].0, groups[last].1));
                    first = last + 1;
                }
                None => first += 1,
            }
        }
    }
}

fn groups(text: &[u8], from: usize) -> Vec<(usize, usize)> {
    let mut groups = Vec::new();
    let mut start = from;
    loop {
        let end = start + text[start..].iter().take_while(|b| b.is_ascii_digit()).count();
        groups.push((start, end));
        match text.get(end..end + 2) {
            Some([b' ' | b'-', digit]) if digit.is_ascii_digit() => start = end + 1,
            _ => return groups,
        }
    }
}

fn is_card(text: &[u8], groups: &[(usize, usize)]) -> bool {
    let count: usize = groups.iter().map(|(start, end)| end - start).sum();
    if !(13..=19).contains(&count) {
        return false;
    }
    let digits =
        groups.iter().flat_map(|(start, end)| &text[*start..*end]).map(|digit| u32::from(digit - b'0'));
    let digits: Vec<u32> = digits.collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match digit * (1 + u32::from(place % 2 == 1)) {
            two @ 10.. => two - 9,
            one => one,
        })
        .sum();
    sum.is_multiple_of(10)
}
