//! Path templates: literal segments, `*` or `{name}` for one, `**` for any number.
//!
//! Matching is by whole decoded segments, so `/repos/o/**` never takes `/repos/other`.

use std::sync::Arc;

use crate::canon::{decoded_segment_eq, path_literal, segments};

/// Far beyond any real API; bounds the work of one match together with the 8 KiB target.
const MAX_SEGMENTS: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Template {
    text: Arc<str>,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// Decoded. Empty only as the last one, after a final `/`.
    Literal(String),
    /// Exactly one, and not the empty one.
    One,
    /// Any number, also none.
    Many,
}

impl Template {
    /// `/**`, which stands for every path.
    pub(crate) fn any() -> Self {
        Template { text: "/**".into(), segments: vec![Segment::Many] }
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
        Ok(Template { text: text.into(), segments })
    }

    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }

    pub(crate) fn is_any(&self) -> bool {
        self.segments == [Segment::Many]
    }

    /// Without a final `/`, for conditions that are blind to it.
    pub(crate) fn without_final_slash(mut self) -> Self {
        if self.segments.len() > 1 && self.segments.last() == Some(&Segment::Literal(String::new())) {
            self.segments.pop();
        }
        self
    }

    /// Of a canonical path.
    pub(crate) fn matches(&self, path: &str) -> bool {
        glob(&self.segments, segments(path), |own, given| match own {
            Segment::Literal(literal) => decoded_segment_eq(given, literal),
            Segment::One => !given.is_empty(),
            Segment::Many => true,
        })
    }

    /// Does every path that `other` matches match here?
    pub(crate) fn covers(&self, other: &Template) -> bool {
        glob(&self.segments, other.segments.iter(), |own, given| match (own, given) {
            (Segment::Literal(own), Segment::Literal(given)) => own == given,
            (Segment::One, Segment::Literal(given)) => !given.is_empty(),
            (Segment::One, Segment::One) | (Segment::Many, _) => true,
            (Segment::Literal(_), Segment::One | Segment::Many) | (Segment::One, Segment::Many) => false,
        })
    }
}

fn segment(part: &str, text: &str) -> Result<Segment, String> {
    match part {
        "" => return Err(format!("path `{text}` has two slashes in a row")),
        "*" => return Ok(Segment::One),
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
            Some(name) if good(name) => Ok(Segment::One),
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
    takes: impl Fn(&Segment, &T) -> bool,
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
            (Some(segment), Some(item)) if takes(segment, &item) => {
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
