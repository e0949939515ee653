//! Around a power cut: an agent that makes requests and tells which were answered, and a look at what the disk has of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use enforcer_tests::world::{Daemon, World, command, plan};

use super::Report;

/// Names of the scenes; the host asks for them by name.
pub(in crate::vm) const SYNCED: &str = "power-synced";
pub(in crate::vm) const WRITTEN: &str = "power-written";
pub(in crate::vm) const CHECK: &str = "power-check";

const DISK: &str = "/mnt";
/// One request after the other on one connection; each number is said when its answer is there. A guest may be so slow
/// that a name or an answer does not come in time: then again.
const CLIENT: &str = r#"
import http.client, ssl
trust = ssl.create_default_context()
number = 0
while True:
    connection = http.client.HTTPSConnection("api.example.test", context=trust, timeout=100)
    try:
        while True:
            number += 1
            connection.request("GET", f"/v1/{number}")
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                print(number, flush=True)
    except (OSError, http.client.HTTPException):
        connection.close()
"#;

/// Works until the power is gone.
pub(super) fn work(report: &Report, durability: &str) -> Result<()> {
    mount()?;
    let world = World::new()?;
    let mut daemon = on_disk(&world, durability)?;
    daemon.start()?;
    daemon.secret_set("api-token", plan::API, &world.canaries.bearer)?;
    let mut agent = daemon
        .agent_command("bot", &["/usr/bin/python3", "-c", CLIENT])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    for line in BufReader::new(agent.stdout.take().context("the agent has an output")?).lines() {
        report.say(&format!("@answered {}", line?));
    }
    let ended = agent.wait()?;
    ensure!(ended.success(), "the agent ended before the power did: {ended}\n{}", daemon.log_text());
    Ok(())
}

/// Says what is left, as a person would look: a new boot, the daemon, `receipts`.
pub(super) fn check(report: &Report) -> Result<()> {
    mount()?;
    let world = World::new()?;
    let mut daemon = on_disk(&world, "synced")?;
    daemon.start()?;
    let verified = command::run(daemon.tool(&["receipts", "verify"]), Duration::from_secs(60))?;
    report.say(&format!("@verified {}", verified.code.unwrap_or(-1)));
    report.say(&verified.to_string());
    for receipt in daemon.receipts()? {
        if let Some(number) = receipt.to_string().split("/v1/").nth(1) {
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            report.say(&format!("@found {digits}"));
        }
    }
    Ok(())
}

fn mount() -> Result<()> {
    command::must(&["modprobe", "virtio_blk"])?;
    command::must(&["mount", "-t", "ext4", "/dev/vda", DISK])?;
    Ok(())
}

/// A daemon that keeps what it must keep on the disk.
fn on_disk<'w>(world: &'w World, durability: &str) -> Result<Daemon<'w>> {
    let policy = format!(
        "version: 1\nagent: bot\naudit: {{ durability: {durability} }}\n\
         credentials:\n  api: {{ bearer: {{ secret: api-token, env: API_TOKEN }} }}\n\
         allow:\n  - {{ name: read, host: api.example.test, methods: GET, paths: \"/v1/**\", credential: api }}\n"
    );
    let mut daemon = world.configured(&[("bot", &policy)])?;
    daemon.settings.state_dir = Path::new(DISK).join("state");
    daemon.settings.vault_key = Path::new(DISK).join("vault.key");
    fs::metadata(DISK)?;
    Ok(daemon)
}
