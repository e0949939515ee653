//! The enforcer as a peer: everything on, for agents with policies of several sizes.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use enforcer_tests::world::{Daemon, World, command, plan};

use super::upstream::UPSTREAM;

pub(super) const NAME: &str = "enforcer";
/// Peer and agent. The first one plays all rows, with the few rules that a person would write.
pub(super) const AGENTS: [(&str, &str); 4] =
    [(NAME, "bench"), ("1 rule", "one"), ("100 rules", "hundred"), ("1,000 rules", "thousand")];
/// An agent beside the one that is measured.
pub(super) const ANOTHER: &str = "one";
/// Its index waits a quarter of a second for rest.
pub(super) const LOOK: Duration = Duration::from_millis(350);

const SETTING: Duration = Duration::from_secs(60);

/// Not started yet.
pub(super) fn daemon(world: &World) -> Result<Daemon<'_>> {
    let head = |agent: &str| {
        format!(
            "version: 1\nagent: {agent}\ncredentials:\n  api: {{ bearer: {{ secret: api-token, env: API_TOKEN }} }}\n"
        )
    };
    let api = plan::API;
    let usual = format!(
        "{}  many: {{ bearer: {{ secret: many-token }} }}\ndeny:\n  - {{ name: no-delete, host: {api}, methods: DELETE }}\n  - {{ name: no-admin, host: {api}, paths: /admin/** }}\nallow:\n\
         \x20 - {{ name: all, host: {api}, port: {UPSTREAM}, methods: [GET, POST, PUT], credential: api }}\n\
         \x20 - {{ name: many, host: \"*.{}\", port: {UPSTREAM}, methods: GET, credential: many }}\n\
         \x20 - {{ name: unread, host: {}, port: {UPSTREAM}, tls: passthrough }}\n",
        head("bench"),
        plan::MANY_ZONE,
        plan::OTHER,
    );
    let many = |agent: &str, rules: usize| -> Result<String> {
        let mut text = head(agent) + "allow:\n";
        for rule in 1..rules {
            writeln!(
                text,
                "  - {{ name: r{rule}, host: {api}, port: {UPSTREAM}, methods: GET, paths: /r{rule}/**, credential: api }}"
            )?;
        }
        writeln!(
            text,
            "  - {{ name: last, host: {api}, port: {UPSTREAM}, methods: GET, paths: /v1/**, credential: api }}"
        )?;
        Ok(text)
    };
    let policies = [
        ("bench", usual),
        ("one", many("one", 1)?),
        ("hundred", many("hundred", 100)?),
        ("thousand", many("thousand", 1000)?),
    ];
    world.configured(&policies.each_ref().map(|(name, text)| (*name, text.as_str())))
}

/// What its rules put in, once it runs.
pub(super) fn secrets(daemon: &Daemon<'_>) -> Result<()> {
    let value = &daemon.world.canaries.bearer;
    daemon.secret_set("api-token", &format!("https://{}:{UPSTREAM}", plan::API), value)?;
    let below = format!("https://*.{}:{UPSTREAM}", plan::MANY_ZONE);
    let command = daemon.tool(&["secret", "set", "many-token", "--wildcard", "--host", &below]);
    let output = command::run_with_input(command, Some(value.as_bytes()), SETTING)?;
    ensure!(output.ok(), "{output}");
    Ok(())
}
