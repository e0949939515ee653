//! Path templates: literal segments, `*` or `{name}` for one, `**` for any number.
//!
//! Matching is by whole decoded segments, so `/repos/o/**` never takes `/repos/other`.

use std::fmt;
use std::sync::Arc;

use crate::canon::{decoded_segment, decoded_segment_eq, path_literal, segments};

/// Far beyond any real API; bounds the work of one match together with the 8 KiB target.
const MAX_SEGMENTS: usize = 64;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Template {
    text: Arc<str>,
    segments: Arc<[Segment]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Decoded. Empty only as the last one, after a final `/`.
    Literal(String),
    /// Exactly one, and not the empty one; `{name}` has a name.
    One(Option<Box<str>>),
    /// Any number, also none.
    Many,
}

impl Template {
    /// `/**`, which stands for every path.
    pub(crate) fn any() -> Self {
        Template { text: "/**".into(), segments: Arc::new([Segment::Many]) }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("path `{text}` does not start with `/`"));
        }
        if text.contains(['?', '#']) {
            return Err(format!("path `{text}` holds a query or fragment; rules match the path alone"));
        }
        let parts: Vec<&str> = segments(text).collect();
        if parts.len() > MAX_SEGMENTS {
            return Err(format!("path `{text}` has more than {MAX_SEGMENTS} segments"));
        }
        let last = parts.len() - 1;
        let segments = parts
            .iter()
            .enumerate()
            .map(|(at, part)| {
                if part.is_empty() && at == last {
                    Ok(Segment::Literal(String::new()))
                } else {
                    segment(part, text)
                }
            })
            .collect::<Result<Vec<Segment>, String>>()?;
        if let Some(twice) = twice(&segments) {
            return Err(format!("path `{text}` has `{{{twice}}}` twice; each name stands for one segment"));
        }
        Ok(Template { text: text.into(), segments: segments.into() })
    }

    /// As it stands in the file; `/**` where a rule names no path.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands in a canonical path for `{name}`, decoded. `None`: the path does not match, or the
    /// template has no such name.
    pub fn captured(&self, path: &str, name: &str) -> Option<String> {
        let wanted = self.segments.iter().position(|segment| segment.is_named(name))?;
        let mut found = None;
        let matched = glob(&self.segments, segments(path), |at, own, given| {
            let takes = own.takes(given);
            if takes && at == wanted {
                // Taken again after a retreat: the last time is the one that holds.
                found = Some(*given);
            }
            takes
        });
        found.filter(|_| matched).map(decoded_segment)
    }

    pub(crate) fn names(&self, name: &str) -> bool {
        self.segments.iter().any(|segment| segment.is_named(name))
    }

    /// Is there a `%2F` in one of its segments?
    pub(crate) fn has_encoded_slash(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Literal(text) if text.contains('/')))
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(crate) fn is_any(&self) -> bool {
        *self.segments == [Segment::Many]
    }

    /// Without a final `/`, for conditions that are blind to it.
    pub(crate) fn without_final_slash(self) -> Self {
        match &*self.segments {
            [shorter @ .., Segment::Literal(last)] if last.is_empty() && !shorter.is_empty() => {
                Template { segments: shorter.into(), text: self.text }
            }
            _ => self,
        }
    }

    /// Of a canonical path.
    pub(crate) fn matches(&self, path: &str) -> bool {
        glob(&self.segments, segments(path), |_, own, given| own.takes(given))
    }

    /// Does every path that `other` matches match here?
    pub(crate) fn covers(&self, other: &Template) -> bool {
        glob(&self.segments, other.segments.iter(), |_, own, given| match (own, given) {
            (Segment::Literal(own), Segment::Literal(given)) => own == given,
            (Segment::One(_), Segment::Literal(given)) => !given.is_empty(),
            (Segment::One(_), Segment::One(_)) | (Segment::Many, _) => true,
            (Segment::Literal(_), Segment::One(_) | Segment::Many) | (Segment::One(_), Segment::Many) => {
                false
            }
        })
    }

    /// Paths it matches: with nothing, something and more in the place of `**`.
    pub(crate) fn samples(&self) -> Vec<String> {
        [0, 1, 2].into_iter().map(|many| sample(&self.segments, many, "any")).collect()
    }

    /// One with an encoded slash wherever a segment may hold one.
    pub(crate) fn sample_of_slashes(&self) -> String {
        sample(&self.segments, 1, "any%2Fany")
    }

    /// Paths that match both, where there are any: of each length that `**` allows them, up to one more than the other has.
    pub(crate) fn common(&self, other: &Template) -> Vec<String> {
        let theirs: Vec<_> = other.lengths(self.segments.len() + 1).collect();
        let ours = self.lengths(other.segments.len() + 1);
        ours.flat_map(|own| theirs.iter().filter_map(move |their| meet(&own, their)).collect::<Vec<_>>())
            .collect()
    }

    /// Itself with none, one, and so on to `most` segments in the place of every `**`.
    fn lengths(&self, most: usize) -> impl Iterator<Item = Vec<Segment>> {
        let most = if self.segments.contains(&Segment::Many) { most } else { 0 };
        (0..=most).map(|many| {
            let segments = self.segments.iter().flat_map(|segment| match segment {
                Segment::Many => vec![Segment::One(None); many],
                Segment::One(_) | Segment::Literal(_) => vec![segment.clone()],
            });
            segments.collect()
        })
    }

    /// What its paths may be where each encoded slash is read as a slash: a segment may be several.
    pub(crate) fn decoded(&self) -> Template {
        let read = |segment: &Segment| match segment {
            Segment::Literal(text) => text.split('/').map(|part| Segment::Literal(part.to_owned())).collect(),
            Segment::One(_) => vec![Segment::One(None), Segment::Many],
            Segment::Many => vec![Segment::Many],
        };
        Template { text: self.text.clone(), segments: self.segments.iter().flat_map(read).collect() }
    }

    /// Is there a path that matches both?
    pub(crate) fn overlaps(&self, other: &Template) -> bool {
        overlap(&self.segments, &other.segments)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Segment {
    fn takes(&self, given: &str) -> bool {
        match self {
            Segment::Literal(literal) => decoded_segment_eq(given, literal),
            Segment::One(_) => !given.is_empty(),
            Segment::Many => true,
        }
    }

    fn is_named(&self, name: &str) -> bool {
        matches!(self, Segment::One(Some(own)) if **own == *name)
    }
}

/// A name that stands for two segments.
fn twice(segments: &[Segment]) -> Option<&str> {
    let names = || {
        segments.iter().filter_map(|s| if let Segment::One(Some(name)) = s { Some(&**name) } else { None })
    };
    names().find(|name| names().filter(|other| other == name).count() > 1)
}

fn segment(part: &str, text: &str) -> Result<Segment, String> {
    match part {
        "" => return Err(format!("path `{text}` has two slashes in a row")),
        "*" => return Ok(Segment::One(None)),
        "**" => return Ok(Segment::Many),
        _ => {}
    }
    if part.contains('*') {
        return Err(format!(
            "in path `{text}`, `{part}` mixes `*` with text; `*` and `**` stand for whole segments"
        ));
    }
    if part.contains(['{', '}']) {
        let name = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let good = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        return match name {
            Some(name) if good(name) => Ok(Segment::One(Some(name.into()))),
            _ => Err(format!(
                "in path `{text}`, `{part}` is not a placeholder; write a whole segment such as `{{number}}`"
            )),
        };
    }
    match path_literal(part) {
        Ok(literal) => Ok(Segment::Literal(literal)),
        Err(error) => Err(format!("in path `{text}`, {error}; no request would ever match it")),
    }
}

/// Wildcard matching that goes back to the last `**` only, so at most (template × path) steps.
fn glob<T>(
    template: &[Segment],
    items: impl Iterator<Item = T> + Clone,
    mut takes: impl FnMut(usize, &Segment, &T) -> bool,
) -> bool {
    let (mut at, mut rest) = (0, items);
    let mut retry = None;
    loop {
        let mut ahead = rest.clone();
        match (template.get(at), ahead.next()) {
            (None, None) => return true,
            (Some(Segment::Many), _) => {
                at += 1;
                retry = Some((at, rest.clone()));
            }
            (Some(segment), Some(item)) if takes(at, segment, &item) => {
                at += 1;
                rest = ahead;
            }
            (_, _) => {
                // Let the last `**` take one item more.
                let Some((after, mut from)) = retry else { return false };
                if from.next().is_none() {
                    return false;
                }
                at = after;
                rest = from.clone();
                retry = Some((after, from));
            }
        }
    }
}

/// `reach[j]` says whether what was taken of `own` so far can end where `j` segments of `other` were taken.
fn overlap(own: &[Segment], other: &[Segment]) -> bool {
    let meet = |a: &Segment, b: &Segment| match (a, b) {
        (Segment::Literal(a), Segment::Literal(b)) => a == b,
        (Segment::One(_), Segment::Literal(text)) | (Segment::Literal(text), Segment::One(_)) => {
            !text.is_empty()
        }
        (Segment::One(_) | Segment::Many, _) | (_, Segment::Many) => true,
    };
    // Taking nothing of `own`, as much of `other` as may be empty.
    let mut reach = vec![true];
    reach.extend(other.iter().scan(true, |all, segment| {
        *all &= *segment == Segment::Many;
        Some(*all)
    }));
    for segment in own {
        let mut next = vec![*segment == Segment::Many && reach.first() == Some(&true)];
        for (j, given) in other.iter().enumerate() {
            let (before, above, left) = (reach[j], reach[j + 1], next[j]);
            next.push(
                before && meet(segment, given)
                    // One of them takes the other's segment and stays, or takes none.
                    || *segment == Segment::Many && (left || above)
                    || *given == Segment::Many && (above || left),
            );
        }
        reach = next;
    }
    reach.last() == Some(&true)
}

/// A path that the segments match, with `one` for each free segment and `many` of them for each `**`.
fn sample(segments: &[Segment], many: usize, one: &str) -> String {
    let mut text = String::new();
    for segment in segments {
        match segment {
            Segment::Literal(literal) => text.push_str(&format!("/{}", encoded(literal))),
            Segment::One(_) => text.push_str(&format!("/{one}")),
            Segment::Many => text.push_str(&format!("/{one}").repeat(many)),
        }
    }
    if text.is_empty() { "/".to_owned() } else { text }
}

/// A decoded segment as it stands in a canonical path.
fn encoded(literal: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&b);
    literal.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A path that both match, without `**` in either: a literal where one of them has one.
fn meet(own: &[Segment], other: &[Segment]) -> Option<String> {
    if own.len() != other.len() || !overlap(own, other) {
        return None;
    }
    let literal =
        |(a, b): (&Segment, &Segment)| if matches!(a, Segment::Literal(_)) { a.clone() } else { b.clone() };
    Some(sample(&own.iter().zip(other).map(literal).collect::<Vec<_>>(), 0, "any"))
}
