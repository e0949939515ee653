//! The catalogues that are shipped: each action is the requests it should be, and no others.
//!
//! `policies/services/NAME.cases` has a request a line, after the actions that it is: its method, its URL, and if it
//! has one its body, or a header as `NAME:VALUE`.

mod golden;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use enforcer_policy::{Body, Catalogues, Headers, PolicySet, Request, Service, Source};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../policies")
}

fn sources(kind: &str) -> Vec<Source> {
    let read = |path: &PathBuf| Source {
        name: path.display().to_string(),
        text: std::fs::read_to_string(path).expect("catalogues are readable"),
    };
    golden::files(&folder().join(kind), "yaml").iter().map(read).collect()
}

fn services() -> Vec<Service> {
    let catalogues = Catalogues::read(&[]).unwrap_or_else(|report| panic!("{report}"));
    catalogues.services()
}

#[test]
fn every_catalogue_is_shipped() {
    let names: Vec<String> = services().into_iter().map(|service| service.name).collect();
    let files = golden::files(&folder().join("services"), "yaml");
    let stems: Vec<String> =
        files.iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names, stems);
}

/// `None`: a comment or nothing.
fn case(line: &str) -> Option<(BTreeSet<String>, Request)> {
    if line.trim().is_empty() || line.starts_with('#') {
        return None;
    }
    let (actions, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no request: {line}"));
    let (method, rest) = rest.trim_start().split_once(' ').unwrap_or_else(|| panic!("no URL: {line}"));
    let (url, body) = rest.split_once(' ').unwrap_or((rest, ""));
    let header = body
        .split_once(':')
        .filter(|(name, _)| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
    let mut headers = Headers::default();
    header.iter().for_each(|(name, value)| headers.push(name, value.as_bytes()));
    let body = match body {
        _ if header.is_some() => Body::Empty,
        "" => Body::Empty,
        json if json.starts_with(['{', '[']) => Body::json(json).unwrap_or_else(|e| panic!("{line}: {e:?}")),
        form => Body::form(form).unwrap_or_else(|e| panic!("{line}: {e:?}")),
    };
    let request = Request::parse(method, url).unwrap_or_else(|error| panic!("{line}: {error}"));
    let actions = actions.split(',').filter(|action| *action != "-").map(str::to_owned).collect();
    Some((actions, Request { body, headers, ..request }))
}

#[test]
fn every_action_is_its_requests_and_no_others() {
    let mut wrong = Vec::new();
    for source in sources("services") {
        let catalogues = Catalogues::read(std::slice::from_ref(&source)).unwrap_or_else(|r| panic!("{r}"));
        let name = Path::new(&source.name).file_stem().unwrap().to_str().unwrap().to_owned();
        let service = catalogues.services().into_iter().find(|one| one.name == name).unwrap();
        let cases = std::fs::read_to_string(Path::new(&source.name).with_extension("cases"))
            .unwrap_or_else(|_| panic!("{} has no cases", source.name));
        let (mut seen, mut none) = (BTreeSet::new(), 0);
        for line in cases.lines() {
            let Some((expected, request)) = case(line) else { continue };
            let start = format!("{name}/");
            let found: BTreeSet<String> = catalogues
                .actions(&request)
                .iter()
                .filter_map(|action| action.strip_prefix(&start))
                .map(str::to_owned)
                .collect();
            if found != expected {
                wrong.push(format!("{name}: {line}\n    is {found:?}"));
            }
            none += usize::from(expected.is_empty());
            seen.extend(expected);
        }
        let untried: Vec<String> = service
            .actions
            .iter()
            .map(|one| one.name.clone())
            .filter(|action| !seen.contains(action))
            .collect();
        if !untried.is_empty() {
            wrong.push(format!("{name}: no case for {untried:?}"));
        }
        if none < 3 {
            wrong.push(format!("{name}: only {none} cases for what is no action"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// Settings that a catalogue needs, as its examples.
fn settings(service: &Service) -> String {
    let needed: Vec<String> = service
        .settings
        .iter()
        .filter_map(|setting| Some(format!("{}: {}", setting.name, setting.example.as_ref()?)))
        .collect();
    if needed.is_empty() { String::new() } else { format!("    settings: {{ {} }}\n", needed.join(", ")) }
}

/// Every action alone, and all of a kind, make rules that hold.
#[test]
fn every_action_makes_rules_without_a_warning() {
    for service in services() {
        let head = "version: 1\nagent: bot\nservices:\n";
        let name = &service.name;
        for action in &service.actions {
            let policy = |settings: &str| format!("{head}  {name}:\n{settings}    allow: {}\n", action.name);
            let compile = |text: String| PolicySet::compile(&[Source { name: "p.yaml".into(), text }]);
            // Some actions need a setting.
            let (policy, compiled) = match compile(policy("")) {
                Ok(compiled) => (policy(""), compiled),
                Err(_) => {
                    let policy = policy(&settings(&service));
                    let compiled = compile(policy.clone()).unwrap_or_else(|r| panic!("{policy}\n{r}"));
                    (policy, compiled)
                }
            };
            assert!(compiled.warnings.findings.is_empty(), "{policy}\n{}", compiled.warnings);
            let policy = compiled.set.agent("bot").unwrap();
            let rule = format!("{name}/{}", action.name);
            assert!(!policy.rules().is_empty() && policy.rules().iter().all(|own| own.name.as_str() == rule));
        }
        let kinds: BTreeSet<&str> = service
            .actions
            .iter()
            .filter(|action| action.dangerous.is_none() && action.mints_credentials.is_none())
            .map(|action| action.kind)
            .collect();
        let kinds: Vec<String> = kinds.into_iter().map(quoted).collect();
        let policy = format!("{head}  {name}:\n{}    allow: [{}]\n", settings(&service), kinds.join(", "));
        let compiled = PolicySet::compile(&[Source { name: "p.yaml".into(), text: policy.clone() }])
            .unwrap_or_else(|report| panic!("{policy}\n{report}"));
        let policy = compiled.set.agent("bot").unwrap();
        for action in &service.actions {
            let flagged = action.dangerous.is_some() || action.mints_credentials.is_some();
            let rule = format!("{name}/{}", action.name);
            let there = policy.rules().iter().any(|own| own.name.as_str() == rule);
            assert_eq!(there, !flagged, "{rule} by its kind");
        }
    }
}
