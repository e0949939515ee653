//! One check on one value: `equals`, `in`, `glob`, `max` and so on.
//!
//! An answer has three values. `None` means that servers may read the value in more than one way, or
//! that the check has nothing to say about such a value. Allow rules take `None` for no, deny rules for
//! yes, so doubt never lets anything through.

use std::fmt;

use crate::body::{Json, Number};

/// All tests have to hold. Never empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Check(pub(crate) Vec<Test>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    Equals(Literal),
    In(Vec<Literal>),
    NotIn(Vec<Literal>),
    /// any of them
    Glob(Vec<Glob>),
    Matches(Pattern),
    Max(Number),
    Min(Number),
    MaxLength(u64),
    Exists(bool),
}

/// A value in a policy. Where a request has types (JSON), the type has to be the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Literal {
    pub(crate) text: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Text,
    Number(Number),
    /// `true`, `false`, `null`
    Word,
}

/// What a check looks at.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    /// Without a type of its own: from a query, a header, a form.
    Text(&'a str),
    Json(&'a Json),
    /// There, but not readable in one way only.
    Unclear,
}

impl Check {
    /// Does it hold for a request with these values? In an allow rule for every one of them, in a deny
    /// rule (`wide`) for any.
    pub(crate) fn holds<'a>(&self, values: &[Value<'a>], wide: bool) -> bool {
        match (values, wide) {
            ([], wide) => self.of_nothing().unwrap_or(wide),
            (values, true) => values.iter().any(|value| self.of(*value) != Some(false)),
            (values, false) => values.iter().all(|value| self.of(*value) == Some(true)),
        }
    }

    fn of(&self, value: Value<'_>) -> Option<bool> {
        all(self.0.iter().map(|test| test.of(value)))
    }

    fn of_nothing(&self) -> Option<bool> {
        all(self.0.iter().map(|test| match test {
            Test::Exists(expected) => Some(!expected),
            // Whatever the server takes for a missing value, it is not known to be another one.
            Test::NotIn(_) => None,
            Test::Equals(_)
            | Test::In(_)
            | Test::Glob(_)
            | Test::Matches(_)
            | Test::Max(_)
            | Test::Min(_)
            | Test::MaxLength(_) => Some(false),
        }))
    }
}

/// No beats doubt, doubt beats yes.
fn all(answers: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut all = Some(true);
    for answer in answers {
        match answer {
            Some(false) => return Some(false),
            None => all = None,
            Some(true) => {}
        }
    }
    all
}

/// Yes beats doubt, doubt beats no.
fn any(answers: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    all(answers.map(|answer| answer.map(|yes| !yes))).map(|none| !none)
}

impl Test {
    fn of(&self, value: Value<'_>) -> Option<bool> {
        let text = match value {
            Value::Unclear => return None,
            Value::Text(text) => Some(text),
            Value::Json(json) => json.text(),
        };
        match self {
            Test::Exists(expected) => match value {
                // To some servers a `null` is nothing.
                Value::Json(Json::Null) => None,
                _ => Some(*expected),
            },
            Test::Equals(literal) => literal.is(value),
            Test::In(literals) => any(literals.iter().map(|literal| literal.is(value))),
            Test::NotIn(literals) => {
                any(literals.iter().map(|literal| literal.is(value))).map(|found| !found)
            }
            Test::Glob(globs) => any(globs.iter().map(|glob| glob.is(text?))),
            Test::Matches(pattern) => Some(pattern.regex.is_match(text?)),
            Test::Max(most) => Some(number(value)? <= *most),
            Test::Min(least) => Some(number(value)? >= *least),
            Test::MaxLength(most) => {
                let length = match value {
                    Value::Json(Json::List(items)) => items.len(),
                    _ => text?.chars().count(),
                };
                Some(u64::try_from(length).ok()? <= *most)
            }
        }
    }
}

fn number(value: Value<'_>) -> Option<Number> {
    match value {
        Value::Text(text) => Number::plain(text),
        Value::Json(Json::Number(text)) => Number::parse(text),
        Value::Json(_) | Value::Unclear => None,
    }
}

impl Literal {
    /// Types count. Where they differ, a server that converts them may still find the two equal: doubt.
    fn is(&self, value: Value<'_>) -> Option<bool> {
        let (text, json) = match value {
            Value::Unclear => return None,
            Value::Text(text) => (text, None),
            Value::Json(json) => match json {
                Json::Text(text) | Json::Number(text) => (&**text, Some(json)),
                Json::Bool(true) => ("true", Some(json)),
                Json::Bool(false) => ("false", Some(json)),
                Json::Null => ("null", Some(json)),
                // A list of one may stand for the one.
                Json::List(_) | Json::Map(_) => return None,
            },
        };
        let equal = text == self.text;
        match (&self.kind, json) {
            (_, None) if equal => Some(true),
            (Kind::Text, Some(Json::Text(_))) => Some(equal),
            (Kind::Number(own), Some(Json::Number(text))) => Some(Number::parse(text)? == *own),
            (Kind::Word, Some(Json::Bool(_) | Json::Null)) => Some(equal),
            (Kind::Text, _) => unless(text.eq_ignore_ascii_case(&self.text)),
            (Kind::Number(own), _) => {
                unless(own.may_be(text) || matches!(json, Some(Json::Bool(_) | Json::Null)))
            }
            // The text `true`, `1`, `on` and the empty text are all true somewhere.
            (Kind::Word, _) => unless(equal || !matches!(text, "true" | "false" | "null")),
        }
    }
}

/// No, unless there is doubt.
fn unless(doubt: bool) -> Option<bool> {
    if doubt { None } else { Some(false) }
}

/// Text in which `*` is any run of characters that does not start another item of a list (no space,
/// comma, semicolon, quote or control character), and `**` any run at all.
///
/// `*@example.com` would otherwise take `evil@other.test, x@example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    text: Box<str>,
    /// what `*` does not run over
    stops: Stops,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stops {
    ListItems,
    /// `/`, for names that are paths
    Slashes,
}

impl Glob {
    pub(crate) fn new(text: &str, stops: Stops) -> Self {
        Glob { text: text.into(), stops }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Is it this text? `None`: only if `*` took more than it may.
    pub(crate) fn is(&self, text: &str) -> Option<bool> {
        if self.run(text, false) {
            Some(true)
        } else if self.stops == Stops::ListItems && self.run(text, true) {
            None
        } else {
            Some(false)
        }
    }

    /// As [`Glob::is`], where doubt is yes (`wide`) or no.
    pub(crate) fn likes(&self, text: &str, wide: bool) -> bool {
        self.is(text).unwrap_or(wide)
    }

    fn run(&self, text: &str, wide: bool) -> bool {
        let stops = |c: char| match self.stops {
            Stops::ListItems => {
                c.is_whitespace() || c.is_control() || matches!(c, ',' | ';' | '"' | '\'' | '<' | '>')
            }
            Stops::Slashes => c == '/',
        };
        // One position in the text per reachable place in the pattern: linear in the product, no recursion.
        let mut pieces: Vec<(Option<char>, bool)> = Vec::new();
        let mut chars = self.text.chars().peekable();
        while let Some(c) = chars.next() {
            if c == '*' {
                let mut anything = wide;
                while chars.next_if_eq(&'*').is_some() {
                    anything = true;
                }
                pieces.push((None, anything));
            } else {
                pieces.push((Some(c), false));
            }
        }
        let mut reached = vec![false; pieces.len() + 1];
        reached[0] = true;
        let skip = |reached: &mut Vec<bool>| {
            for (at, piece) in pieces.iter().enumerate() {
                if reached[at] && piece.0.is_none() {
                    reached[at + 1] = true;
                }
            }
        };
        skip(&mut reached);
        for c in text.chars() {
            let mut next = vec![false; pieces.len() + 1];
            for (at, piece) in pieces.iter().enumerate() {
                if !reached[at] {
                    continue;
                }
                match piece {
                    (Some(own), _) if *own == c => next[at + 1] = true,
                    (None, anything) if *anything || !stops(c) => next[at] = true,
                    (Some(_) | None, _) => {}
                }
            }
            skip(&mut next);
            reached = next;
            if !reached.contains(&true) {
                return false;
            }
        }
        reached[pieces.len()]
    }
}

/// A regular expression for the whole value.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: Box<str>,
    regex: regex::Regex,
}

impl Pattern {
    /// One mebibyte of program is far beyond any pattern a person can read.
    const MAX_SIZE: usize = 1024 * 1024;

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let whole = format!(r"\A(?:{text})\z");
        // Alone first: `a)|(b` would only be one pattern inside of the parentheses.
        let regex = build(text).and_then(|_alone| build(&whole));
        regex.map(|regex| Pattern { text: text.into(), regex })
    }
}

fn build(text: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(text).size_limit(Pattern::MAX_SIZE).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "is too large".to_owned(),
        error => {
            let text = error.to_string();
            text.lines()
                .rev()
                .find_map(|line| line.strip_prefix("error: "))
                .unwrap_or("is no regular expression")
                .to_owned()
        }
    })
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// As the end of "`base` must …".
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, test) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(" and ")?;
            }
            test.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |literals: &[Literal]| literals.iter().map(|l| l.text.as_str()).collect::<Vec<_>>().join(", ");
        match self {
            Test::Equals(literal) => write!(f, "be {}", literal.text),
            Test::In(literals) => write!(f, "be one of {}", list(literals)),
            Test::NotIn(literals) => write!(f, "not be one of {}", list(literals)),
            Test::Glob(globs) => {
                let globs: Vec<&str> = globs.iter().map(Glob::text).collect();
                write!(f, "be like {}", globs.join(" or "))
            }
            Test::Matches(pattern) => write!(f, "match {}", pattern.text),
            Test::Max(most) => write!(f, "be at most {most}"),
            Test::Min(least) => write!(f, "be at least {least}"),
            Test::MaxLength(most) => write!(f, "be at most {most} long"),
            Test::Exists(true) => f.write_str("be there"),
            Test::Exists(false) => f.write_str("not be there"),
        }
    }
}
