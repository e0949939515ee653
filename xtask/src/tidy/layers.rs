//! Layers of the `enforcer` crate point down only.

use super::source::{before_tests, code, is_word};
use super::{Finding, SourceFile};

/// The order, lowest first; a module knows modules of lower rows only. `architecture.md`, section 4.
/// Foundations have an order among themselves, written out here.
const LAYERS: &[&[&str]] = &[
    &["text"],
    &["shutdown", "telemetry", "config", "agent", "policies", "switches"],
    &["secret", "audit"],
    &["tls"],
    &["gate"],
    &["credential", "dns", "redact"],
    &["proxy"],
    &["protocol"],
    &["control"],
    &["cli", "web"],
    &["app"],
];

/// Arrows that are wanted although they point up: file, target, reason.
const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("cli/daemon.rs", "app", "`enforcer worker` is how the keeper starts the app")];

const SOURCES: &str = "enforcer/src/";

/// Arrows out of this file that point up or sideways.
pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    let Some(inside) = file.path.strip_prefix(SOURCES).filter(|p| p.ends_with(".rs")) else {
        return Vec::new();
    };
    // The binary and the tour of the crate stand above all layers; tests may reach where they like.
    if matches!(inside, "main.rs" | "lib.rs") || inside.ends_with("tests.rs") || inside.contains("/tests/") {
        return Vec::new();
    }
    let own = inside.split(['/', '.']).next().unwrap_or_default();
    let Some(rank) = rank(own) else {
        let what = format!(
            "module `{own}` has no layer. Give it one in xtask/src/tidy/layers.rs and docs/architecture.md"
        );
        return vec![Finding { file: file.path.clone(), line: 0, what }];
    };
    let code = code(&file.text);
    let mut findings = Vec::new();
    for (line, target) in arrows(before_tests(&code), depth(inside)) {
        let Some(other) = self::rank(&target) else { continue };
        let excepted = EXCEPTIONS.iter().any(|(f, t, _)| *f == inside && *t == target);
        if target == own || other < rank || excepted {
            continue;
        }
        let what = format!("`{own}` may not know `{target}`: layers point down only (docs/architecture.md)");
        let finding = Finding { file: file.path.clone(), line, what };
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// How many `super` lead to the root of the crate: `gate/mod.rs` is one deep, `gate/permit.rs` two.
fn depth(inside: &str) -> usize {
    let parts = inside.trim_end_matches(".rs").split('/');
    parts.filter(|part| *part != "mod").count()
}

/// Every first-level module that is named by `crate::x`, `crate::{x, y}` or enough `super`s.
fn arrows(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let supers = "super::".repeat(depth);
    for start in ["crate::", supers.as_str()] {
        for (at, _) in code.match_indices(start) {
            let before = code.get(..at).unwrap_or_default();
            // Not a longer path (`super::super::` for a file that is one deep) nor a longer word.
            if before.ends_with("super::")
                || before.chars().next_back().is_some_and(|c| is_word(c) || c == '$')
            {
                continue;
            }
            let line = before.matches('\n').count() + 1;
            let rest = code.get(at + start.len()..).unwrap_or_default();
            for name in heads(rest) {
                found.push((line, name));
            }
        }
    }
    found
}

/// `a::b` gives a; `{a::b, c::{d, e}}` gives a and c.
fn heads(rest: &str) -> Vec<String> {
    let word = |text: &str| text.trim_start().chars().take_while(|c| is_word(*c)).collect::<String>();
    let Some(group) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.push(word(group.get(start..i).unwrap_or_default()));
                start = i + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile { path: format!("enforcer/src/{path}"), text: text.to_owned() };
        check(&file).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn down_is_fine() {
        assert!(
            found("gate/mod.rs", "use crate::audit::AuditLog;\nuse crate::{agent::Agent, gate::limit};")
                .is_empty()
        );
        assert!(found("app/mod.rs", "use crate::{cli, protocol, web};").is_empty());
    }

    #[test]
    fn up_is_found_with_its_line() {
        let findings = found("gate/mod.rs", "\nuse crate::proxy::Upstream;");
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].starts_with("enforcer/src/gate/mod.rs:2: `gate` may not know `proxy`"),
            "{findings:?}"
        );
    }

    #[test]
    fn sideways_is_found_too() {
        assert_eq!(found("dns/server.rs", "use crate::credential::KINDS;").len(), 1);
    }

    #[test]
    fn groups_paths_and_supers_are_seen() {
        assert_eq!(
            found("redact/mod.rs", "use crate::{\n    secret::Fetched,\n    control::{Command, Reply},\n};")
                .len(),
            1
        );
        assert_eq!(found("redact/mod.rs", "fn f() { crate::protocol::http::f() }").len(), 1);
        assert_eq!(found("redact/mod.rs", "use super::proxy::x;").len(), 1);
        assert_eq!(found("redact/scan.rs", "use super::super::proxy::x;").len(), 1);
        assert!(found("redact/scan.rs", "use super::proxy::x;").is_empty(), "that is redact's own");
    }

    #[test]
    fn comments_strings_and_tests_are_free() {
        let text = "// crate::proxy\nlet a = \"crate::proxy::x\";\n#[cfg(test)]\nmod tests {\n use crate::proxy::x;\n}";
        assert!(found("gate/mod.rs", text).is_empty());
        assert!(found("gate/tests.rs", "use crate::proxy::x;").is_empty());
    }

    #[test]
    fn a_new_module_needs_a_layer() {
        assert!(found("shortcut.rs", "")[0].contains("has no layer"));
    }
}
