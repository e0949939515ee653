//! A policy that speaks in actions: what an agent does is called so in answers and receipts.

use enforcer_tests::world::{Daemon, World, plan};
use serde_json::Value;

/// The shipped catalogue, for a server of the stage's. GraphQL tells its action in the body.
const POLICY: &str = r#"
version: 1
agent: bot
credentials:
  api: { bearer: { secret: api-token, env: API_TOKEN } }
services:
  github:
    credential: api
    resources: [myorg/web]
    settings: { api: api.example.test, git: git.example.test }
    allow: [read, create-pr]
    deny: [merge-pr]
"#;

/// The action of one receipt as `receipts ls --json` has it, and as `receipts show` writes it.
fn told(daemon: &Daemon<'_>, method: &str, path: &str) -> (Option<String>, Option<String>) {
    let receipts = daemon.receipts().unwrap();
    let of_it = |receipt: &&Value| receipt["method"] == method && receipt["path"] == path;
    let receipt = receipts.iter().find(of_it).unwrap_or_else(|| panic!("{method} {path}: {receipts:#?}"));
    let shown = daemon.cli_ok(&["receipts", "show", receipt["id"].as_str().unwrap()]).unwrap();
    let line = shown.lines().find_map(|line| line.strip_prefix("action "));
    (receipt["action"].as_str().map(str::to_owned), line.map(|line| line.trim().to_owned()))
}

#[test]
fn receipts_name_the_action_and_its_resource() {
    let world = World::new().unwrap();
    let daemon = world.serving(POLICY).unwrap();
    for (method, path, status, rule, action) in [
        ("POST", "/repos/myorg/web/pulls", "200", Some("github/create-pr"), "github/create-pr myorg/web"),
        (
            "GET",
            "/repos/myorg/web/issues/7",
            "200",
            Some("github/read-issues"),
            "github/read-issues myorg/web",
        ),
        (
            "PUT",
            "/repos/myorg/web/pulls/3/merge",
            "403",
            Some("github/merge-pr"),
            "github/merge-pr myorg/web",
        ),
        // What no rule allows is called by its name all the same.
        ("DELETE", "/repos/myorg/web", "403", None, "github/delete-repo myorg/web"),
        ("POST", "/repos/other/web/pulls", "403", None, "github/create-pr other/web"),
    ] {
        let url = format!("https://{}{path}", plan::API);
        let words = ["curl", "-sS", "-m", "30", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, &url];
        let output = daemon.run_agent("bot", &words).unwrap();
        assert_eq!(output.stdout, status, "{method} {path}\n{output}\n{}", daemon.log_text());
        let action = Some(action.to_owned());
        assert_eq!(told(&daemon, method, path), (action.clone(), action), "{method} {path}");
        let receipts = daemon.receipts().unwrap();
        let receipt = receipts.iter().find(|r| r["method"] == method && r["path"] == path).unwrap();
        assert_eq!(receipt["rule"].as_str(), rule, "{receipt}");
    }
    // The server saw those that passed, with the key.
    let seen: Vec<String> = world.seen().iter().map(|seen| seen.uri.clone()).collect();
    assert_eq!(seen, ["/repos/myorg/web/pulls", "/repos/myorg/web/issues/7"]);
}
