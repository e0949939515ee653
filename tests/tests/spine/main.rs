//! The main job on real input: unmodified programmes call real servers with keys that they do not have.
//!
//! Everything goes through the binary, as a user would do it: settings, policy files, `enforcer …`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod actions;
mod canary;
mod clients;
mod confined;
mod decisions;
mod faults;
mod inside;
mod process;
mod relays;

use enforcer_tests::world::{Daemon, World, plan};

/// The agent of these tests. Rules are in the order that the tests speak of them.
const POLICY: &str = r#"
version: 1
agent: bot
credentials:
  api: { bearer: { secret: api-token, env: API_TOKEN } }
  key: { header: { name: x-api-key, secret: api-key, env: API_KEY } }
  git: { basic: { username: bot, secret: git-password, env: GIT_PASSWORD } }
deny:
  - { name: no-secrets, host: api.example.test, paths: "/v1/secret/**" }
allow:
  - { name: echo, host: api.example.test, methods: [GET, HEAD], paths: ["/echo", "/echo-gzip", "/redirect", "/big"], credential: api }
  - { name: items, host: api.example.test, methods: POST, paths: "/v1/items", credential: api, rate: 5/hour }
  - { name: notes, host: api.example.test, methods: POST, paths: "/v1/notes", credential: api }
  - { name: read, host: api.example.test, methods: [GET, HEAD], paths: "/v1/**", credential: api }
  - { name: with-key, host: other.example.test, methods: [GET, POST], paths: "/key/**", credential: key }
  - { name: without, host: other.example.test, methods: [GET, POST], paths: "/open/**" }
  - { name: plain, host: plain.example.test, port: 80, protocol: http, methods: [GET, POST], paths: "/open/**" }
  - { name: bad-certificate, host: badcert.example.test, methods: GET }
  - { name: internal, host: [internal.example.test, rebound.example.test], methods: GET }
  - { name: git, host: git.example.test, methods: [GET, POST], paths: "/project.git/**", credential: git }
"#;

/// The daemon with that policy and the stage's secrets in its vault.
fn serving(world: &World) -> Daemon<'_> {
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    for (name, host, value) in [
        ("api-token", plan::API, &world.canaries.bearer),
        ("api-key", plan::OTHER, &world.canaries.api_key),
        ("git-password", plan::GIT, &world.canaries.git_password),
    ] {
        daemon.secret_set(name, host, value).unwrap();
    }
    daemon
}

/// What the server was sent for a bearer token.
fn bearer(world: &World) -> String {
    format!("Bearer {}", world.canaries.bearer)
}

/// A directory that an agent may write to.
fn shared(world: &World) -> String {
    use std::os::unix::fs::PermissionsExt;
    let dir = world.dir.join("shared");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o1777)).unwrap();
    dir.display().to_string()
}
