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
enum Segment {
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
