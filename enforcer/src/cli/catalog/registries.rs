//! `catalog registries`: the hosts that this user's npm, pip and cargo install from, as settings of `packages`.
//!
//! When a policy is written, not when it is loaded: a file that an agent could change must not decide where it may
//! go. What is not configured is asked of the client itself, so no host is written down here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::{Value, json};

use crate::cli::failure::FAILED;
use crate::cli::{Context, Ended, Failure, Output};

/// Settings of the catalogue and the hosts found for each.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    npm: BTreeSet<String>,
    pip: BTreeSet<String>,
    pip_files: BTreeSet<String>,
    cargo: BTreeSet<String>,
    cargo_files: BTreeSet<String>,
}

pub(super) fn registries(context: &Context, out: &mut Output) -> Ended {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let mut found = Found::default();
    if let Some(settings) = answer("npm", &["config", "list", "--json"]) {
        npm(&settings, &mut found);
    }
    if let Some(settings) = answer("pip", &["config", "list"]).or_else(|| answer("pip3", &["config", "list"]))
    {
        pip(&settings, &mut found);
    }
    if let Some(defaults) = answer("python3", &["-c", PIP_DEFAULTS]) {
        pip_defaults(&defaults, &mut found);
    }
    if let Some(home) = &home {
        cargo(home, &mut found);
    }
    let settings = found.settings();
    if settings.is_empty() {
        return Err(Failure::text(
            FAILED,
            "neither npm nor pip nor cargo is here, or none says where it installs from",
        )
        .hint("run it as the user whose configuration counts"));
    }
    if context.json {
        let settings: serde_json::Map<String, Value> =
            settings.iter().map(|(name, hosts)| ((*name).to_owned(), json!(hosts))).collect();
        out.json(&settings, true)?;
        return Ok(ExitCode::SUCCESS);
    }
    out.line("services:\n  packages:\n    settings:")?;
    for (name, hosts) in &settings {
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        out.line(format!("      {name}: [{}]", hosts.join(", ")))?;
    }
    out.line(format!("    allow: [{}]", found.actions().join(", ")))?;
    Ok(ExitCode::SUCCESS)
}

/// What a client prints; nothing where it is not there or fails.
fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The index that pip takes where none is configured, and where its files are.
const PIP_DEFAULTS: &str = "from pip._internal.models.index import PyPI as p; print(p.simple_url); print('https://' + p.file_storage_domain)";

fn npm(json: &str, found: &mut Found) {
    let Ok(Value::Object(settings)) = serde_json::from_str(json) else { return };
    for (key, value) in &settings {
        // Scopes may have registries of their own.
        if key == "registry" || key.ends_with(":registry") {
            found.npm.extend(value.as_str().and_then(host));
        }
    }
}

/// `global.index-url='https://mirror.example/simple'`, one setting a line; several URLs stand with blanks between.
fn pip(list: &str, found: &mut Found) {
    for line in list.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let name = key.rsplit('.').next().unwrap_or_default();
        if matches!(name, "index-url" | "extra-index-url" | "find-links") {
            found.pip.extend(value.split(['\'', '"', ' ', '\\']).filter_map(host));
        }
    }
}

/// Only where no index is configured.
fn pip_defaults(lines: &str, found: &mut Found) {
    let mut lines = lines.lines().filter_map(host);
    if found.pip.is_empty() {
        found.pip.extend(lines.next());
        found.pip_files.extend(lines.next());
    }
}

/// What cargo has used: each index has a folder with its `config.json`, which says where the files are. Registries
/// and sources of the configuration are added.
fn cargo(home: &Path, found: &mut Found) {
    for index in std::fs::read_dir(home.join("registry/index")).into_iter().flatten().flatten() {
        let name = index.file_name().to_string_lossy().into_owned();
        // HOST-HASH
        let Some((host_name, _)) = name.rsplit_once('-') else { continue };
        if host(&format!("https://{host_name}")).is_none() || !host_name.contains('.') {
            continue;
        }
        found.cargo.insert(host_name.to_owned());
        for config in [index.path().join("config.json"), index.path().join(".cache/config.json")] {
            let text = std::fs::read_to_string(config).unwrap_or_default();
            let Ok(config) = serde_json::from_str::<Value>(&text) else { continue };
            found.cargo_files.extend(config.get("dl").and_then(Value::as_str).and_then(host));
        }
    }
    let texts =
        ["config.toml", "config"].map(|name| std::fs::read_to_string(home.join(name)).unwrap_or_default());
    for line in texts.iter().flat_map(|text| text.lines()) {
        let Some((key, value)) = line.split_once('=') else { continue };
        if matches!(key.trim(), "registry" | "index") {
            let url = value.trim().trim_matches('"').trim_start_matches("sparse+");
            found.cargo.extend(host(url));
        }
    }
}

/// Of a URL, without port.
fn host(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    let host = authority.split(':').next()?;
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    plain.then(|| host.to_ascii_lowercase())
}

impl Found {
    fn settings(&self) -> Vec<(&'static str, &BTreeSet<String>)> {
        let all = [
            ("npm", &self.npm),
            ("pip", &self.pip),
            ("pip_files", &self.pip_files),
            ("cargo", &self.cargo),
            ("cargo_files", &self.cargo_files),
        ];
        all.into_iter().filter(|(_, hosts)| !hosts.is_empty()).collect()
    }

    fn actions(&self) -> Vec<&'static str> {
        let all = [("npm-install", &self.npm), ("pip-install", &self.pip), ("cargo-fetch", &self.cargo)];
        all.into_iter().filter(|(_, hosts)| !hosts.is_empty()).map(|(action, _)| action).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(hosts: &[&str]) -> BTreeSet<String> {
        hosts.iter().map(|host| (*host).to_owned()).collect()
    }

    #[test]
    fn hosts_come_from_the_clients_own_configuration() {
        let mut found = Found::default();
        npm(
            r#"{"registry":"https://mirror.example:8443/npm/","@my:registry":"https://own.example/","cache":"/c"}"#,
            &mut found,
        );
        assert_eq!(found.npm, set(&["mirror.example", "own.example"]));
        pip_defaults("https://index.example/simple\nhttps://files.example\n", &mut found);
        assert_eq!((&found.pip, &found.pip_files), (&set(&["index.example"]), &set(&["files.example"])));

        let mut found = Found::default();
        pip(
            "global.index-url='https://user:pw@mirror.example/simple'\ninstall.extra-index-url='https://a.example/x https://b.example/y'\nglobal.timeout='60'\n",
            &mut found,
        );
        pip_defaults("https://index.example/simple\nhttps://files.example\n", &mut found);
        assert_eq!(found.pip, set(&["a.example", "b.example", "mirror.example"]));
        assert_eq!(found.pip_files, set(&[]));
    }

    #[test]
    fn cargo_is_asked_what_it_has_used() {
        let home = tempfile::tempdir().unwrap();
        let index = home.path().join("registry/index/index.example-0a1b2c");
        std::fs::create_dir_all(&index).unwrap();
        std::fs::write(
            index.join("config.json"),
            r#"{"dl":"https://files.example/crates","api":"https://api.example"}"#,
        )
        .unwrap();
        std::fs::create_dir_all(home.path().join("registry/index/-0a1b2c")).unwrap();
        let config = "[source.crates-io]\nreplace-with = \"m\"\n[source.m]\nregistry = \"sparse+https://mirror.example/index/\"\n";
        std::fs::write(home.path().join("config.toml"), config).unwrap();
        let mut found = Found::default();
        cargo(home.path(), &mut found);
        assert_eq!(found.cargo, set(&["index.example", "mirror.example"]));
        assert_eq!(found.cargo_files, set(&["files.example"]));
        assert_eq!(found.actions(), ["cargo-fetch"]);
    }

    #[test]
    fn what_is_no_https_url_names_no_host() {
        for text in
            ["", "mirror.example", "http://mirror.example/", "https:///x", "https://a b/", "file:///x"]
        {
            assert_eq!(host(text), None, "{text}");
        }
    }
}
