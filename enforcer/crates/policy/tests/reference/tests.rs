//! What rules ask of one value, read plainly: yes, no, or servers may see it either way.

use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
    Doubt,
}

pub(crate) use Answer::{Doubt, No, Yes};

impl Answer {
    pub(crate) fn of(yes: bool) -> Self {
        if yes { Yes } else { No }
    }

    fn not(self) -> Self {
        match self {
            Yes => No,
            No => Yes,
            Doubt => Doubt,
        }
    }

    /// An allow rule takes doubt for no, a deny rule for yes.
    pub(crate) fn for_a(self, deny: bool) -> bool {
        self == Yes || deny && self == Doubt
    }
}

/// One of them: one yes is yes.
pub(crate) fn any(answers: &[Answer]) -> Answer {
    [Yes, Doubt].into_iter().find(|answer| answers.contains(answer)).unwrap_or(No)
}

/// A value in a request.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// of a query, a header or a form
    Untyped(String),
    Null,
    Bool(bool),
    Number(i64),
    Text(&'static str),
    List(Vec<Value>),
    Map(Vec<(&'static str, Value)>),
    /// something is there, but not in one reading only
    Unclear,
}

/// A test on a value, as it stands in a policy.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    Equals(&'static str),
    In(Vec<&'static str>),
    NotIn(Vec<&'static str>),
    /// `x*`
    BeginsWithX,
    /// one or more letters, as a regular expression
    Letters,
    Max(i64),
    Min(i64),
    MaxLength(usize),
    Exists(bool),
}

/// As YAML writes them: texts in quotes, a number, a truth value, nothing.
const LITERALS: &[&str] = &["\"x\"", "\"y\"", "\"5\"", "\"true\"", "5", "7", "true", "null"];

impl Test {
    pub(crate) fn random(random: &mut Random) -> Self {
        let literals = |random: &mut Random| vec![random.of(LITERALS), random.of(LITERALS)];
        match random.below(10) {
            0 | 1 => Test::Equals(random.of(LITERALS)),
            2 => Test::In(literals(random)),
            3 => Test::NotIn(literals(random)),
            4 => Test::BeginsWithX,
            5 => Test::Letters,
            6 => Test::Max(5),
            7 => Test::Min(5),
            8 => Test::MaxLength(2),
            _ => Test::Exists(random.once_in(2)),
        }
    }

    pub(crate) fn yaml(&self) -> String {
        match self {
            Test::Equals(literal) => format!("{{ equals: {literal} }}"),
            Test::In(literals) => format!("{{ in: [{}] }}", literals.join(", ")),
            Test::NotIn(literals) => format!("{{ not_in: [{}] }}", literals.join(", ")),
            Test::BeginsWithX => "{ glob: \"x*\" }".into(),
            Test::Letters => "{ matches: \"[a-zA-Z]+\" }".into(),
            Test::Max(most) => format!("{{ max: {most} }}"),
            Test::Min(least) => format!("{{ min: {least} }}"),
            Test::MaxLength(most) => format!("{{ max_length: {most} }}"),
            Test::Exists(there) => format!("{{ exists: {there} }}"),
        }
    }

    /// Each time for an allow rule, once for a deny rule.
    pub(crate) fn holds(&self, values: &[Value], deny: bool) -> bool {
        if values.is_empty() {
            let nothing = match self {
                Test::Exists(there) => Answer::of(!there),
                Test::NotIn(_) => Doubt,
                _ => No,
            };
            return nothing.for_a(deny);
        }
        let mut met = values.iter().map(|value| self.of(value).for_a(deny));
        if deny { met.any(|met| met) } else { met.all(|met| met) }
    }

    fn of(&self, value: &Value) -> Answer {
        // What is a list or an object to one server may be its only element to another.
        let text: Option<&str> = match value {
            Value::Unclear => return Doubt,
            Value::Untyped(text) => Some(text),
            Value::Text(text) => Some(text),
            _ => None,
        };
        let number = match value {
            Value::Untyped(text) => text.parse::<i64>().ok().filter(|_| !text.starts_with('0')),
            Value::Number(number) => Some(*number),
            _ => None,
        };
        match self {
            Test::Equals(literal) => equal(literal, value),
            Test::In(literals) => {
                any(&literals.iter().map(|literal| equal(literal, value)).collect::<Vec<_>>())
            }
            Test::NotIn(literals) => {
                any(&literals.iter().map(|literal| equal(literal, value)).collect::<Vec<_>>()).not()
            }
            Test::BeginsWithX => text.map_or(Doubt, |text| {
                // Where an item of a list may end, another may begin.
                let plain = !text.contains([',', ' ']);
                match (text.starts_with('x'), plain) {
                    (true, true) => Yes,
                    (true, false) => Doubt,
                    (false, _) => No,
                }
            }),
            Test::Letters => text.map_or(Doubt, |text| {
                Answer::of(!text.is_empty() && text.chars().all(|c| c.is_ascii_alphabetic()))
            }),
            Test::Max(most) => number.map_or(Doubt, |number| Answer::of(number <= *most)),
            Test::Min(least) => number.map_or(Doubt, |number| Answer::of(number >= *least)),
            Test::MaxLength(most) => match (value, text) {
                (Value::List(items), _) => Answer::of(items.len() <= *most),
                (_, Some(text)) => Answer::of(text.chars().count() <= *most),
                (_, None) => Doubt,
            },
            Test::Exists(there) => match value {
                Value::Null => Doubt,
                _ => Answer::of(*there),
            },
        }
    }
}

/// Where there are types, they count; a value of another type that some server turns into this one is doubt.
fn equal(literal: &str, value: &Value) -> Answer {
    let own = literal.trim_matches('"');
    let quoted = literal.starts_with('"');
    let is_number = !quoted && own.parse::<i64>().is_ok();
    let given = match value {
        Value::Untyped(text) => text.clone(),
        Value::Text(text) => (*text).to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
        Value::Null => "null".into(),
        Value::List(_) | Value::Map(_) | Value::Unclear => return Doubt,
    };
    let same = given == own;
    if quoted {
        return match value {
            Value::Text(_) => Answer::of(same),
            Value::Untyped(_) if same => Yes,
            _ if given.eq_ignore_ascii_case(own) => Doubt,
            _ => No,
        };
    }
    if is_number {
        return match value {
            Value::Number(_) => Answer::of(same),
            Value::Untyped(_) if same => Yes,
            Value::Bool(_) | Value::Null => Doubt,
            _ if given.trim().parse::<f64>().ok() == own.parse().ok() => Doubt,
            _ => No,
        };
    }
    match value {
        Value::Bool(_) | Value::Null => Answer::of(same),
        Value::Untyped(_) if same => Yes,
        // Somewhere `1`, `on` and nothing at all are true.
        _ if !same && matches!(given.as_str(), "true" | "false" | "null") => No,
        _ => Doubt,
    }
}
