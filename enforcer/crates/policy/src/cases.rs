//! Cases beside a policy: a request a line in `NAME.cases`, what becomes of each in `NAME.expected`.
//!
//! The expectation is written by the machine and read by people: a change of the policy is reviewed as
//! the lines of it that change. Comments and blank lines of the cases are copied, so both read alike.
//!
//! Left out: files. Callers hand in both texts, and write the new expectation where they want to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::body::Body;
use crate::canon::Request;
use crate::policy::{AgentPolicy, Decision};
use crate::window::Moment;

/// Verdicts up to this length line up.
const COLUMN: usize = 60;

/// What the cases of one policy came to.
#[derive(Debug, serde::Serialize)]
pub struct Cases {
    pub cases: Vec<Case>,
    /// expected lines whose case is no longer asked
    pub gone: Vec<String>,
    /// the text that `NAME.expected` should have
    #[serde(skip)]
    pub expected: String,
    /// are all verdicts as expected, but comments, order or spacing are not?
    pub stale: bool,
    /// rules that decided no case and no test of the file, in the order of the policy
    pub uncovered: Vec<String>,
    pub rules: usize,
}

#[derive(Debug, serde::Serialize)]
pub struct Case {
    /// in `NAME.cases`, from 1
    pub line: usize,
    /// as it is written
    pub case: String,
    /// `allow RULE TEMPLATE`, `deny RULE`, `deny -`, `refuse CODE`
    pub verdict: String,
    /// what `NAME.expected` has; `None` where it has no such case
    pub expected: Option<String>,
}

impl Case {
    pub fn passes(&self) -> bool {
        self.expected.as_ref() == Some(&self.verdict)
    }
}

impl Cases {
    pub fn passes(&self) -> bool {
        !self.stale && self.gone.is_empty() && self.cases.iter().all(Case::passes)
    }
}

impl AgentPolicy {
    /// Asks every case and compares with what is expected.
    pub fn cases(&self, cases: &str, expected: &str) -> Cases {
        let mut before = expectations(cases, expected);
        let mut covered: BTreeSet<String> = self.tested.iter().map(ToString::to_string).collect();
        let (mut told, mut text) = (Vec::new(), String::new());
        for (number, line) in cases.lines().enumerate() {
            if !is_case(line) {
                text.push_str(line);
                text.push('\n');
                continue;
            }
            let (verdict, rule) = self.tell(line);
            covered.extend(rule);
            text.push_str(&format!("{verdict:<COLUMN$} {line}\n"));
            let expected = before.known.get_mut(line).and_then(VecDeque::pop_front);
            told.push(Case { line: number + 1, case: line.to_owned(), verdict, expected });
        }
        let gone: Vec<String> = before.unknown;
        let same = gone.is_empty() && told.iter().all(Case::passes);
        Cases {
            stale: same && text != expected,
            cases: told,
            gone,
            expected: text,
            uncovered: self
                .rules()
                .iter()
                .map(|rule| rule.name.to_string())
                .filter(|name| !covered.contains(name))
                .collect(),
            rules: self.rules().len(),
        }
    }

    /// A case's verdict as one line says it, and the rule that decided.
    fn tell(&self, case: &str) -> (String, Option<String>) {
        let Some((method, url)) = case.split_once(' ') else {
            return ("refuse not_a_request".to_owned(), None);
        };
        let (url, body) = url.split_once(' ').unwrap_or((url, ""));
        let body = match body {
            "" => Ok(Body::Empty),
            json if json.starts_with(['{', '[']) => Body::json(json),
            form => Body::form(form),
        };
        let Ok(body) = body else { return ("refuse body_unreadable".to_owned(), None) };
        let request = match Request::parse(method, url) {
            Ok(request) => Request { body, ..request },
            Err(error) => return (format!("refuse {}", error.code), None),
        };
        match self.decide(&request, Moment::ANY) {
            Decision::Allow { template, .. } if template.catches_dns(&request) => {
                ("refuse dns_over_https".to_owned(), None)
            }
            Decision::Allow { rule, template } => {
                (format!("allow  {} {template}", rule.name), Some(rule.name.to_string()))
            }
            Decision::Deny { rule: Some(rule) } => {
                (format!("deny   {}", rule.name), Some(rule.name.to_string()))
            }
            // A case says whether there is a body.
            Decision::Deny { rule: None } | Decision::Needs(_) => ("deny   -".to_owned(), None),
        }
    }
}

struct Expectations<'c> {
    /// verdicts by case, in order where a case is asked twice
    known: BTreeMap<&'c str, VecDeque<String>>,
    unknown: Vec<String>,
}

/// An expected line is a verdict, blanks and the case. Either may hold blanks, so the cases are asked.
fn expectations<'c>(cases: &'c str, expected: &str) -> Expectations<'c> {
    let asked: BTreeSet<&str> = cases.lines().filter(|line| is_case(line)).collect();
    let mut known: BTreeMap<&str, VecDeque<String>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for line in expected.lines().filter(|line| is_case(line)) {
        let split = line.match_indices(' ').find_map(|(at, _)| {
            let (verdict, rest) = line.split_at(at);
            asked.get(rest.trim_start()).map(|case| (*case, verdict.trim_end()))
        });
        match split {
            Some((case, verdict)) => known.entry(case).or_default().push_back(verdict.to_owned()),
            None => unknown.push(line.to_owned()),
        }
    }
    Expectations { known, unknown }
}

fn is_case(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::policy::{AgentPolicy, PolicySet, Source};

    const POLICY: &str = "\
version: 1
agent: bot
deny:
  - { name: no-delete, methods: DELETE }
allow:
  - { name: read, host: a.example, methods: GET, paths: [\"/x/*\", \"/y\"] }
  - { name: never, host: b.example }
  - { name: tested, host: c.example }
tests:
  - { request: \"GET https://c.example/\", expect: allow, by: tested }
";
    const CASES: &str = "# reading\nGET https://a.example/x/1\nDELETE https://a.example/y\n\nget it\nGET https://z.example/\n";

    fn policy() -> Arc<AgentPolicy> {
        let source = Source { name: "p.yaml".into(), text: POLICY.into() };
        let compiled = PolicySet::compile(&[source]).unwrap_or_else(|e| panic!("{e}"));
        compiled.set.agent("bot").unwrap().clone()
    }

    #[test]
    fn what_was_written_is_expected_next_time() {
        let policy = policy();
        let first = policy.cases(CASES, "");
        assert!(!first.passes() && !first.stale);
        let text: Vec<&str> = first.expected.lines().collect();
        assert_eq!(text[0], "# reading");
        assert_eq!(
            text[1].split_whitespace().collect::<Vec<_>>(),
            ["allow", "read", "/x/*", "GET", "https://a.example/x/1"]
        );
        assert_eq!(text[2].find("DELETE"), Some(61));
        assert!(text[4].starts_with("refuse method_malformed"), "{}", text[4]);
        let second = policy.cases(CASES, &first.expected);
        assert!(second.passes(), "{second:?}");
        assert_eq!((second.uncovered, second.rules), (vec!["never".to_owned()], 4));
    }

    #[test]
    fn every_difference_is_named() {
        let policy = policy();
        let good = policy.cases(CASES, "").expected;
        let wrong = policy.cases(CASES, &good.replace("deny   no-delete", "allow  read /y"));
        let changed: Vec<_> = wrong.cases.iter().filter(|case| !case.passes()).collect();
        assert_eq!(changed.len(), 1);
        assert_eq!((changed[0].line, changed[0].expected.as_deref()), (3, Some("allow  read /y")));
        assert_eq!(changed[0].verdict, "deny   no-delete");

        let fewer = policy.cases("GET https://z.example/\n", &good);
        assert_eq!(fewer.gone.len(), 3);
        assert!(!fewer.passes());

        let more = policy.cases(&format!("{CASES}GET https://new.example/\n"), &good);
        assert_eq!(more.cases.last().unwrap().expected, None);

        let comment = policy.cases(&CASES.replace("reading", "writing"), &good);
        assert!(comment.stale && !comment.passes());
    }

    #[test]
    fn a_case_asked_twice_is_expected_twice() {
        let policy = policy();
        let cases = "GET https://a.example/y\nGET https://a.example/y\n";
        let good = policy.cases(cases, "").expected;
        assert!(policy.cases(cases, &good).passes());
        let once: String = good.lines().take(1).map(|line| format!("{line}\n")).collect();
        assert!(!policy.cases(cases, &once).passes());
    }
}
