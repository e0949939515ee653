//! Walls between crates: what a crate may depend on, and where dangerous words may stand.

use super::source::{before_tests, code, lines_with_word};
use super::{Finding, SourceFile};

/// Manifest, dependency it must not have, reason.
const NEVER: &[(&str, &str, &str)] = &[
    ("enforcer/crates/policy/Cargo.toml", "tokio", "decisions are pure"),
    ("enforcer/crates/policy/Cargo.toml", "aya", "decisions are pure"),
    ("enforcer/crates/policy/Cargo.toml", "rustix", "decisions are pure"),
    ("enforcer/crates/policy/Cargo.toml", "libc", "decisions are pure"),
    ("enforcer/crates/policy/Cargo.toml", "enforcer-vault", "policies know no secrets"),
    ("enforcer/crates/policy/Cargo.toml", "enforcer-capture", "policies know no kernel"),
    ("enforcer/crates/vault/Cargo.toml", "tokio", "the vault is synchronous; callers own the thread"),
    ("enforcer/crates/vault/Cargo.toml", "aya", "the vault knows no kernel"),
    ("enforcer/crates/vault/Cargo.toml", "enforcer-policy", "the vault enforces its own bindings"),
    ("enforcer/crates/vault/Cargo.toml", "enforcer-capture", "the vault knows no kernel"),
    ("enforcer/crates/capture/Cargo.toml", "enforcer-policy", "the keeper decides nothing"),
    ("enforcer/crates/capture/Cargo.toml", "enforcer-vault", "the keeper holds no secret"),
    ("enforcer/crates/capture/Cargo.toml", "tokio", "the keeper is threads and system calls"),
    ("enforcer/crates/capture/Cargo.toml", "hyper", "the keeper parses nothing of an agent's"),
    (
        "enforcer/crates/probe/Cargo.toml",
        "enforcer-capture",
        "who tries to get out shares nothing with who shuts in",
    ),
    ("common/Cargo.toml", "std", "the kernel has none"),
    ("tests/Cargo.toml", "enforcer", "tests drive the binary, as a user does"),
    ("tests/Cargo.toml", "enforcer-capture", "tests drive the binary, as a user does"),
];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["enforcer/crates/capture/", "common/", "enforcer-ebpf/", "enforcer/crates/probe/"];

/// Where the value of a secret may be looked at.
const EXPOSE: &[&str] = &[
    "enforcer/src/credential/",
    "enforcer/src/redact/",
    "enforcer/crates/vault/",
    // ring calls reading fresh random bytes the same; a request's id is no secret.
    "enforcer/src/audit/record.rs",
];

pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    if file.path.ends_with("Cargo.toml") {
        return dependencies(file);
    }
    if !file.path.ends_with(".rs") {
        return Vec::new();
    }
    let code = code(&file.text);
    let mut findings = Vec::new();
    if !UNSAFE.iter().any(|dir| file.path.starts_with(dir)) {
        let what =
            "`unsafe` is only for capture, common, enforcer-ebpf and the probes; move this behind `capture`";
        findings.extend(at(file, &lines_with_word(&code, "unsafe"), what));
    }
    // Tests look at the values they made themselves.
    let is_test = file.path.ends_with("tests.rs") || file.path.contains("/tests/");
    if !is_test && !EXPOSE.iter().any(|dir| file.path.starts_with(dir)) {
        let lines = lines_containing(before_tests(&code), ".expose(");
        findings.extend(at(file, &lines, "`expose()` is only for credential/, redact/ and the vault"));
    }
    findings
}

fn dependencies(file: &SourceFile) -> Vec<Finding> {
    let mut section = String::new();
    let mut findings = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
        }
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        // `[dependencies.NAME]` as well as `NAME = …`; what only tests use is not in the product.
        let named = match section.strip_prefix("dependencies") {
            Some("") => name,
            Some(rest) => rest.trim_start_matches('.'),
            None => continue,
        };
        for (_, _, why) in NEVER.iter().filter(|(m, d, _)| *m == file.path && *d == named) {
            let what = format!("must not depend on `{named}`: {why}");
            findings.push(Finding { file: file.path.clone(), line: number + 1, what });
        }
    }
    findings.dedup_by(|a, b| a.what == b.what);
    findings
}

fn lines_containing(code: &str, needle: &str) -> Vec<usize> {
    code.lines().enumerate().filter(|(_, line)| line.contains(needle)).map(|(n, _)| n + 1).collect()
}

fn at(file: &SourceFile, lines: &[usize], what: &str) -> Vec<Finding> {
    lines.iter().map(|line| Finding { file: file.path.clone(), line: *line, what: what.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&SourceFile { path: path.to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn the_policy_crate_stays_pure() {
        let manifest = "enforcer/crates/policy/Cargo.toml";
        assert_eq!(count(manifest, "[dependencies]\nserde.workspace = true\n"), 0);
        assert_eq!(count(manifest, "[dependencies]\ntokio.workspace = true\n"), 1);
        assert_eq!(count(manifest, "[dependencies]\naya = \"0.14\"\n"), 1);
        assert_eq!(count(manifest, "[dependencies.tokio]\nversion = \"1\"\n"), 1);
        assert_eq!(count(manifest, "[dev-dependencies]\ntokio.workspace = true\n"), 0);
    }

    #[test]
    fn capture_does_not_know_the_policy() {
        assert_eq!(
            count("enforcer/crates/capture/Cargo.toml", "[dependencies]\nenforcer-policy.workspace = true"),
            1
        );
    }

    #[test]
    fn unsafe_is_kept_in_its_places() {
        assert_eq!(count("enforcer/src/proxy/mod.rs", "fn f() {\n    unsafe { g() }\n}"), 1);
        assert_eq!(count("enforcer/src/proxy/mod.rs", "#![forbid(unsafe_code)] // no unsafe here"), 0);
        assert_eq!(count("enforcer/crates/capture/src/sys.rs", "unsafe { g() }"), 0);
    }

    #[test]
    fn values_of_secrets_are_looked_at_in_three_places() {
        assert_eq!(count("enforcer/src/proxy/upstream.rs", "let v = secret.expose();"), 1);
        assert_eq!(count("enforcer/src/credential/bearer.rs", "let v = secret.expose();"), 0);
    }
}
