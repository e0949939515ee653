//! How errors read: each file of `errors/` and the exact text it gives.

mod golden;

use std::path::Path;

use enforcer_policy::{PolicySet, Source};

#[test]
fn every_error_reads_as_reviewed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors");
    for path in golden::files(&folder, "yaml") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let report = match PolicySet::compile(&[Source { name, text }]) {
            Ok(compiled) => compiled.warnings,
            Err(report) => report,
        };
        golden::check(&path.with_extension("txt"), &report.to_string());
    }
}

#[test]
fn two_files_for_one_agent_name_both_places() {
    let source = |name: &str| Source { name: name.into(), text: "version: 1\nagent: bot\n".into() };
    let report = PolicySet::compile(&[source("a.yaml"), source("b.yaml")]).unwrap_err();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors");
    golden::check(&folder.join("two-files.txt"), &report.to_string());
}
