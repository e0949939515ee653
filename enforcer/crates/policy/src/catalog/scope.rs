//! What a catalogue's `{owner}/{repo}` becomes: a literal where a policy names resources, else any.
//!
//! In a template of a catalogue `{name}` is one segment, `{name+}` one or more. A segment may hold text beside
//! its capture (`{repo}.git`); such a path is only there for resources that are named.

use crate::canon::shown;

/// `{owner}/{repo}`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResourceShape {
    pub(crate) text: String,
    captures: Vec<Capture>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Capture {
    name: String,
    /// one or more segments; only the last
    many: bool,
}

/// One entry of `resources`: what stands for each capture, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource(Vec<(Capture, String)>);

impl ResourceShape {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let malformed =
            || format!("`{}` is not a resource; write for example `{{owner}}/{{repo}}`", shown(text));
        let mut captures = Vec::new();
        for part in text.split('/') {
            let name =
                part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(malformed)?;
            let (name, many) = match name.strip_suffix('+') {
                Some(name) => (name, true),
                None => (name, false),
            };
            let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            if !plain || captures.iter().any(|capture: &Capture| capture.name == name || capture.many) {
                return Err(malformed());
            }
            captures.push(Capture { name: name.to_owned(), many });
        }
        Ok(ResourceShape { text: text.to_owned(), captures })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.captures.iter().map(|capture| capture.name.as_str())
    }

    /// As a person would write one: `OWNER/REPO`.
    pub(crate) fn example(&self) -> String {
        let names: Vec<String> = self.names().map(str::to_ascii_uppercase).collect();
        names.join("/")
    }

    /// `raw`: an encoded slash may stand in it.
    pub(crate) fn read(&self, text: &str, raw: bool) -> Result<Resource, String> {
        let malformed = || format!("`{}` is not a resource here, which is {}", shown(text), self.example());
        let many = self.captures.last().is_some_and(|capture| capture.many);
        let parts: Vec<&str> =
            if many { text.splitn(self.captures.len(), '/').collect() } else { text.split('/').collect() };
        if parts.len() != self.captures.len() {
            return Err(malformed());
        }
        let mut read = Vec::new();
        for (capture, part) in self.captures.iter().zip(parts) {
            let good = |part: &str| {
                let plain = if raw { part.replace("%2F", "") } else { part.to_owned() };
                let part = plain.as_str();
                part == "*"
                    || !part.is_empty()
                        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~@:+=".contains(&b))
            };
            if !part.split('/').all(good) || part.split('/').any(|part| matches!(part, "." | "..")) {
                return Err(malformed());
            }
            read.push((capture.clone(), part.to_owned()));
        }
        Ok(Resource(read))
    }

    /// Does a template say which resource it is about?
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.captures.iter().all(|capture| {
            text.contains(&format!("{{{}}}", capture.name))
                || text.contains(&format!("{{{}+}}", capture.name))
        })
    }
}

/// A path for a resource, or for all. `None`: it cannot be said.
pub(crate) fn path(text: &str, resource: Option<&Resource>) -> Option<String> {
    let segments: Option<Vec<String>> =
        text.split('/').map(|segment| self::segment(segment, resource)).collect();
    segments.map(|segments| segments.join("/"))
}

/// A template that says where what stands, for telling and not for matching: text beside a capture is part of it.
pub(crate) fn named(text: &str) -> String {
    let segment = |segment: &str| match capture(segment) {
        Some((_, name, _)) if name.ends_with('+') => "*/**".to_owned(),
        Some((_, name, _)) => format!("{{{name}}}"),
        None => segment.to_owned(),
    };
    text.split('/').map(segment).collect::<Vec<_>>().join("/")
}

fn segment(text: &str, resource: Option<&Resource>) -> Option<String> {
    let Some((before, name, after)) = capture(text) else { return Some(text.to_owned()) };
    let (name, many) = match name.strip_suffix('+') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let whole = before.is_empty() && after.is_empty();
    match resource.and_then(|resource| resource.value(name)) {
        Some("*") | None if whole && many => Some("*/**".to_owned()),
        Some("*") if whole => Some("*".to_owned()),
        None if whole => Some(format!("{{{name}}}")),
        Some("*") | None => None,
        Some(value) => Some(format!("{before}{value}{after}")),
    }
}

/// A host for a resource, or for all.
pub(crate) fn host(text: &str, resource: Option<&Resource>) -> Option<String> {
    let Some((before, name, after)) = capture(text) else { return Some(text.to_owned()) };
    match resource.and_then(|resource| resource.value(name)) {
        // A wildcard is a whole first label.
        Some("*") | None if before.is_empty() && after.starts_with('.') => Some(format!("*{after}")),
        Some("*") | None => None,
        Some(value) => Some(format!("{before}{value}{after}")),
    }
}

/// `{name}` in a text, and what is around it.
fn capture(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}

impl Resource {
    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(capture, _)| capture.name == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(text: &str) -> Resource {
        ResourceShape::parse("{owner}/{repo}").unwrap().read(text, false).unwrap()
    }

    #[test]
    fn a_named_resource_stands_in_place_of_its_captures() {
        for (text, resource, expected) in [
            ("/repos/{owner}/{repo}/pulls", None, Some("/repos/{owner}/{repo}/pulls")),
            ("/repos/{owner}/{repo}/pulls", Some("o/r"), Some("/repos/o/r/pulls")),
            ("/repos/{owner}/{repo}/pulls/{number}", Some("o/*"), Some("/repos/o/*/pulls/{number}")),
            ("/{owner}/{repo}.git/info/refs", Some("o/r"), Some("/o/r.git/info/refs")),
            ("/{owner}/{repo}.git/info/refs", Some("o/*"), None),
            ("/{owner}/{repo}.git/info/refs", None, None),
            ("/c/{path+}", None, Some("/c/*/**")),
        ] {
            assert_eq!(path(text, resource.map(repo).as_ref()).as_deref(), expected, "{text} {resource:?}");
        }
        let bucket = ResourceShape::parse("{bucket}").unwrap();
        let one = bucket.read("b", false).unwrap();
        assert_eq!(host("{bucket}.s3.example", Some(&one)).as_deref(), Some("b.s3.example"));
        assert_eq!(host("{bucket}.s3.example", None).as_deref(), Some("*.s3.example"));
        assert_eq!(host("s3-{bucket}.example", None), None);
    }

    #[test]
    fn what_is_no_resource_is_refused() {
        let shape = ResourceShape::parse("{owner}/{repo}").unwrap();
        for bad in ["", "o", "o/r/x", "o/", "o/..", "o/r?", "o/{repo}", "o/**", "o/r%2F", "o//r"] {
            assert!(shape.read(bad, false).is_err(), "{bad}");
        }
        let many = ResourceShape::parse("{name+}").unwrap();
        assert!(many.read("library/nginx", false).is_ok());
        assert!(many.read("library//nginx", false).is_err());
        let id = ResourceShape::parse("{id}").unwrap();
        assert!(id.read("group%2Fproject", true).is_ok() && id.read("group%2Fproject", false).is_err());
        for bad in ["%2F", "a%2f", "a%20"] {
            assert!(id.read(bad, true).is_err(), "{bad}");
        }
        for bad in ["", "owner", "{a}{b}", "{a+}/{b}", "{a}/{a}"] {
            assert!(ResourceShape::parse(bad).is_err(), "{bad}");
        }
    }
}
