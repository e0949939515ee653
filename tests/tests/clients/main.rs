//! Clients that people use, unchanged, with nothing but the environment that `enforcer run` gives: each does its jobs at real
//! servers, with a credential that it does not have.
//!
//! The table is in `table.rs`, the results are in `enforcer/docs/clients.md`. What clients say is not believed: the shop's
//! nginx says what it was asked, and with which credential, and its server what arrived.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod distrust;
mod judge;
mod stacks;
mod table;
mod upstream;

use std::path::{Path, PathBuf};
use std::time::Duration;

use enforcer_tests::world::{Daemon, Output, World, command, plan};

use table::{CLIENTS, Client, Family};
use upstream::{LISTS, Shop};

const POLICY: &str = r#"
version: 1
agent: bot
credentials:
  api: { bearer: { secret: api-token, env: API_TOKEN } }
  git: { basic: { username: bot, secret: git-password, env: GIT_PASSWORD } }
allow:
  - { name: socket, host: shop.example.test, methods: GET, paths: [/socket, /moved/socket], websocket: true, credential: api }
  - { name: shop, host: shop.example.test, methods: [GET, HEAD, POST, PUT, DELETE], credential: api }
  - { name: git, host: git.example.test, methods: [GET, POST], paths: "/project.git/**", credential: git }
"#;

/// All jobs of a client, two of them of 64 MiB, by a daemon that was built without optimisation.
const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn debians_clients() {
    check(Family::System);
}

#[test]
fn python_clients() {
    check(Family::Python);
}

#[test]
fn javascript_clients() {
    check(Family::JavaScript);
}

#[test]
fn clients_that_fetch_packages() {
    check(Family::Packages);
}

#[test]
fn clients_of_other_languages() {
    check(Family::Languages);
}

#[test]
#[ignore = "takes hundreds of megabytes to install: cargo xtask clients"]
fn clients_that_are_large() {
    check(Family::Large);
}

/// Every client of the family is tried before the test fails with all that did not work.
fn check(family: Family) {
    let world = World::new().unwrap();
    let shop = Shop::open(&world, &installed()).unwrap();
    if family == Family::Packages {
        shop.stock_registries().unwrap();
    }
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    daemon.secret_set("api-token", plan::SHOP, &world.canaries.bearer).unwrap();
    daemon.secret_set("git-password", plan::GIT, &world.canaries.git_password).unwrap();
    let only = std::env::var("ENFORCER_CLIENT").ok();
    let wanted = |client: &&Client| client.family == family && only.as_ref().is_none_or(|n| n == client.name);
    let mut wrong = Vec::new();
    for client in CLIENTS.iter().filter(wanted) {
        let output = as_agent(&daemon, &shop, &[format!("CLIENT={}", client.name)], client.run);
        let found = judge::judge(&world, &shop, client, &output);
        report(client, &output, &found);
        if !found.is_empty() {
            wrong.push(format!("{}: {}\n{output}", client.name, found.join("; ")));
        }
    }
    assert!(wrong.is_empty(), "{}\n--- daemon\n{}", wrong.join("\n\n"), daemon.log_text());
}

/// A line of the table in `enforcer/docs/clients.md`.
fn report(client: &Client, output: &Output, wrong: &[String]) {
    let mut asked = command::command(&["sh", "-c", client.version]);
    asked.current_dir(LISTS);
    let version = command::run(asked, LIMIT).map(|version| version.stdout).unwrap_or_default();
    let jobs: Vec<_> = client.jobs().iter().map(|job| job.word()).collect();
    println!(
        "{} | {} | {} | {} | {:.1} s{}",
        client.name,
        table::version(&version),
        jobs.join(" "),
        client.typical,
        output.took.as_secs_f32(),
        if wrong.is_empty() { "" } else { " | WRONG" }
    );
}

/// A shell line in the directory of the scripts. The variables, and `more`, say where things are; none of them is about trust.
fn as_agent(daemon: &Daemon<'_>, shop: &Shop, more: &[String], line: &str) -> Output {
    let floor = shop.floor.display();
    let node = format!("{floor}/installed/node/node_modules");
    let variables = [
        format!("SHOP=https://{}", plan::SHOP),
        format!("FLOOR={floor}"),
        format!("BULK={floor}/bulk"),
        format!("PYTHON={floor}/installed/python/bin/python"),
        format!("UV={floor}/installed/python/bin/uv"),
        format!("DENO={}", one_of(&node, "@deno/linux-*-glibc/deno")),
        format!("BUN={}", one_of(&node, "@oven/bun-linux-*/bin/bun")),
        format!("RUST={floor}/rust"),
        format!("RUST_CLIENTS={floor}/installed/rust/debug"),
        format!("IDLE={}", if everything() { 35 } else { 1 }),
        "PYTHONDONTWRITEBYTECODE=1".to_owned(),
    ];
    let mut words = vec!["env"];
    words.extend(variables.iter().chain(more).map(String::as_str));
    words.extend(["sh", "-c", line]);
    let mut command = daemon.agent_command("bot", &words);
    command.current_dir(&shop.floor);
    command::run(command, LIMIT).unwrap()
}

/// The shell finds it: packages carry the platform in their names.
fn one_of(dir: &str, pattern: &str) -> String {
    let line = format!("ls -d {dir}/{pattern} 2>/dev/null | head -n 1");
    command::must(&["sh", "-c", &line]).unwrap().trim().to_owned()
}

/// `cargo xtask clients` asks for all that there is; the tests of every change have less time.
fn everything() -> bool {
    std::env::var_os("ENFORCER_CLIENTS").is_some()
}

/// Where `cargo xtask setup` puts clients.
fn installed() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients");
    let there = dir.join("python/bin/python").exists() && dir.join("node/node_modules").exists();
    assert!(there, "the clients are not installed. Run: cargo xtask setup");
    dir.canonicalize().unwrap()
}
