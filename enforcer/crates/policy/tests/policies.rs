//! The policies that are shipped: they load without a warning, and decide as reviewed.
//!
//! `policies/NAME.cases` has a request per line; `NAME.expected` has what becomes of each.

mod golden;

use std::path::{Path, PathBuf};

use enforcer_policy::{AgentPolicy, Decision, Moment, PolicySet, Request, Source};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../policies")
}

#[test]
fn shipped_policies_decide_as_reviewed() {
    for path in golden::files(&folder(), "yaml") {
        let name = path.file_name().expect("a listed file has a name").to_string_lossy().into_owned();
        let source = Source { name, text: std::fs::read_to_string(&path).expect("policies are readable") };
        let compiled = PolicySet::compile(&[source]).unwrap_or_else(|report| panic!("{report}"));
        assert!(compiled.warnings.findings.is_empty(), "{}", compiled.warnings);
        let policy = compiled.set.agents().next().expect("one file, one agent");
        assert_eq!(path.file_stem().expect("a listed file has a name").to_str(), Some(policy.name.as_str()));
        let cases = std::fs::read_to_string(path.with_extension("cases")).expect("each policy has cases");
        let told: String = cases.lines().map(|line| format!("{}\n", told(policy, line))).collect();
        golden::check(&path.with_extension("expected"), &told);
    }
}

#[test]
fn all_shipped_policies_load_together() {
    let sources: Vec<Source> = golden::files(&folder(), "yaml")
        .iter()
        .map(|path| Source {
            name: path.display().to_string(),
            text: std::fs::read_to_string(path).expect("policies are readable"),
        })
        .collect();
    let compiled = PolicySet::compile(&sources).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(compiled.set.agents().count(), sources.len());
}

/// The first policy a reader meets must be one that loads.
#[test]
fn the_policies_in_the_readme_load() {
    let readme = std::fs::read_to_string(folder().join("README.md")).expect("policies have a README");
    let blocks: Vec<&str> =
        readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let source = Source { name: "README.md".into(), text: block.into() };
        let compiled = PolicySet::compile(&[source]).unwrap_or_else(|report| panic!("{report}"));
        assert!(compiled.warnings.findings.is_empty(), "{}", compiled.warnings);
    }
}

fn told(policy: &AgentPolicy, line: &str) -> String {
    let Some((method, url)) = line.split_once(' ').filter(|_| !line.starts_with('#')) else {
        return line.to_owned();
    };
    let verdict = match Request::parse(method, url).map(|request| policy.decide(&request, Moment::ANY)) {
        Ok(Decision::Allow { rule, template }) => format!("allow  {} {template}", rule.name),
        Ok(Decision::Deny { rule: Some(rule) }) => format!("deny   {}", rule.name),
        Ok(Decision::Deny { rule: None }) => "deny   -".to_owned(),
        Ok(Decision::Needs(_)) => "needs a body".to_owned(),
        Err(error) => format!("refuse {}", error.code),
    };
    format!("{verdict:<60} {line}")
}

/// What is shipped is laid out as `enforcer policy fmt` would.
#[test]
fn shipped_policies_have_the_one_layout() {
    for path in golden::files(&folder(), "yaml") {
        let text = std::fs::read_to_string(&path).expect("policies are readable");
        let source = Source { name: path.display().to_string(), text: text.clone() };
        let laid_out = enforcer_policy::format(&source).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(laid_out, text, "{}: `enforcer policy fmt` changes it", path.display());
    }
}
