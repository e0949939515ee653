//! The policies that are shipped: they load without a warning, and decide as reviewed.
//!
//! `policies/NAME.cases` has a request per line; `NAME.expected` has what becomes of each, and no rule is without one.

mod golden;

use std::path::{Path, PathBuf};

use enforcer_policy::{PolicySet, Source};

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
        let told = policy.cases(&cases, "");
        golden::check(&path.with_extension("expected"), &told.expected);
        // Of connections that are relayed unread there are no cases.
        let relayed = |rule: &String| rule == "migrations";
        let uncovered: Vec<&String> = told.uncovered.iter().filter(|rule| !relayed(rule)).collect();
        assert!(uncovered.is_empty(), "{}: no case or test comes to {uncovered:?}", path.display());
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
