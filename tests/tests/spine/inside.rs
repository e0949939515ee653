//! What is inside a request decides: git by ref, GraphQL by field, MCP by tool, JSON by value.
//!
//! Each attack works first, by a rule that does not look, and then fails.

use enforcer_tests::world::{Daemon, Output, World, plan};
use serde_json::Value;

const POLICY: &str = r#"
version: 1
agent: bot
credentials:
  git: { basic: { username: bot, secret: git-password, env: GIT_PASSWORD } }
allow:
  - name: git
    host: git.example.test
    paths: "/project.git/**"
    git: { fetch: true, push: { refs: ["refs/heads/bot/*"], create: true } }
    credential: git
  - name: queries
    host: api.example.test
    methods: POST
    paths: "/graphql"
    graphql: { operations: [query], fields: [viewer, repository.issues], deny_fields: [email] }
  - name: tools
    host: api.example.test
    methods: [GET, POST]
    paths: "/mcp"
    mcp: { tools: [{ name: create_comment, args: { issue: { glob: "WEB-*" } } }] }
  - { name: pulls, host: api.example.test, methods: POST, paths: "/pulls", json: { base: { in: [main] } } }
"#;

/// The same without a look inside.
fn blind() -> String {
    POLICY
        .lines()
        .filter(|line| {
            !["git: {", "graphql:", "mcp:"]
                .iter()
                .any(|word| line.trim_start().starts_with(word) && !line.contains("basic"))
        })
        .collect::<Vec<_>>()
        .join("\n")
        .replace(", json: { base: { in: [main] } }", "")
}

fn serving<'w>(world: &'w World, policy: &str) -> Daemon<'w> {
    let daemon = world.daemon(&[("bot", policy)]).unwrap();
    daemon.secret_set("git-password", plan::GIT, &world.canaries.git_password).unwrap();
    daemon
}

/// Runs a script in a clone of the project.
fn in_clone(world: &World, daemon: &Daemon<'_>, place: &str, script: &str) -> Output {
    let dir = super::shared(world);
    let git = "git -c user.name=Bot -c user.email=bot@example.test";
    let text = format!(
        "cd {dir} && {{ [ -d {place} ] || git clone -q https://git.example.test/project.git {place}; }} && cd {place} && {}",
        script.replace("GIT", git)
    );
    daemon.run_agent("bot", &["sh", "-c", &text]).unwrap()
}

/// The refs that the server has.
fn refs(world: &World) -> String {
    let bare = world.dir.join("outside/git/project.git");
    let output = std::process::Command::new("git")
        .args(["-c", "safe.directory=*", "--git-dir"])
        .arg(&bare)
        .args(["for-each-ref", "--format=%(refname) %(objectname)"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {output:?}", bare.display());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn git_pushes_only_where_and_how_the_policy_says() {
    let world = World::new().unwrap();
    {
        // The attack: with no look inside, main is rewritten and a branch deleted.
        let daemon = serving(&world, &blind());
        let output = in_clone(
            &world,
            &daemon,
            "attack",
            "git push -q origin main:refs/heads/victim && GIT commit -q --allow-empty --amend -m rewritten && git push -q --force origin main:refs/heads/victim && git push -q --delete origin victim && git push -q origin origin/main:refs/heads/victim",
        );
        assert!(output.ok(), "{output}\n{}", daemon.log_text());
    }
    let daemon = serving(&world, POLICY);
    let fine = in_clone(
        &world,
        &daemon,
        "work",
        "GIT commit -q --allow-empty -m one && git push origin HEAD:refs/heads/bot/x 2>&1 && GIT commit -q --allow-empty -m two && GIT commit -q --allow-empty -m three && git push origin HEAD:refs/heads/bot/x 2>&1",
    );
    assert!(fine.ok(), "a new branch of its own, then a fast-forward\n{fine}\n{}", daemon.log_text());
    let before = refs(&world);
    assert!(before.contains("refs/heads/bot/x ") && before.contains("refs/heads/victim "), "{before}");
    for (script, words) in [
        (
            "GIT commit -q --allow-empty -m four; git push origin HEAD:refs/heads/main",
            "refs/heads/main` is not one of refs/heads/bot/*",
        ),
        ("git push origin HEAD:refs/heads/bot/deeper/y", "is not one of"),
        ("git push origin --delete bot/x", "refs/heads/bot/x` may not be deleted"),
        ("git push origin --delete victim", "is not one of"),
        (
            "git reset -q --hard HEAD~2; GIT commit -q --allow-empty -m other; git push --force origin HEAD:refs/heads/bot/x",
            "may not be forced",
        ),
        ("git push origin HEAD:refs/heads/bot/z HEAD:refs/heads/main", "is not one of"),
        ("git push -o ci.skip origin HEAD:refs/heads/bot/o", "push options"),
        ("git tag t; git push origin t", "refs/tags/t` is not one of"),
    ] {
        let output = in_clone(&world, &daemon, "work", &format!("{{ {script}; }} 2>&1"));
        assert!(!output.ok() && output.stdout.contains(words), "{script}\n{output}\n{}", daemon.log_text());
        assert_eq!(refs(&world), before, "{script}");
    }
    let receipts: String = daemon.receipts().unwrap().iter().map(|receipt| format!("{receipt}\n")).collect();
    assert!(receipts.contains("push: create refs/heads/bot/x"), "{receipts}");
    assert!(receipts.contains("push: update refs/heads/bot/x"), "{receipts}");
    assert!(receipts.contains("push: delete refs/heads/bot/x"), "{receipts}");
}

#[test]
fn a_large_push_streams_through() {
    let world = World::new().unwrap();
    let daemon = serving(&world, POLICY);
    let output = in_clone(
        &world,
        &daemon,
        "large",
        "head -c 4000000 /dev/urandom > big && git add big && GIT commit -q -m big && git push origin HEAD:refs/heads/bot/big 2>&1 && GIT commit -q --allow-empty -m more && head -c 3000000 /dev/urandom > big && git add big && GIT commit -q -m bigger && git push origin HEAD:refs/heads/bot/big 2>&1",
    );
    assert!(output.ok(), "{output}\n{}", daemon.log_text());
}

fn post(daemon: &Daemon<'_>, path: &str, body: &str) -> (String, String) {
    let url = format!("https://api.example.test{path}");
    let words = [
        "curl",
        "-sS",
        "-m",
        "10",
        "-w",
        "\n%{http_code}",
        "-H",
        "content-type: application/json",
        "-d",
        body,
        &url,
    ];
    let output = daemon.run_agent("bot", &words).unwrap();
    let (body, status) = output.stdout.rsplit_once('\n').unwrap_or(("", ""));
    (status.to_owned(), body.to_owned())
}

#[test]
fn bodies_decide_by_operation_tool_and_value() {
    let world = World::new().unwrap();
    let call = |name: &str, issue: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{{"issue":"{issue}"}}}}}}"#
        )
    };
    let query = |text: &str| serde_json::json!({ "query": text }).to_string();
    let init = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#.to_owned();
    let batch = format!("[{},{}]", call("create_comment", "WEB-1"), call("delete_issue", "WEB-1"));
    let bad = [
        ("/graphql", query("mutation { deleteRepository(id: 1) { ok } }"), "no mutation may be sent"),
        ("/graphql", query("{ viewer { ...F } } fragment F on User { mail: email }"), "may not be selected"),
        ("/graphql", query("query A { viewer { id } } mutation B { x }"), "no mutation"),
        ("/graphql", query("{ viewer: secrets { id } }"), "is not among"),
        (
            "/graphql",
            r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}"#.to_owned(),
            "persisted",
        ),
        ("/mcp", call("delete_issue", "WEB-1"), "only these tools"),
        ("/mcp", call("create_comment", "HR-1"), "only these tools"),
        ("/mcp", batch, "only these tools"),
        (
            "/mcp",
            r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{}}"#.to_owned(),
            "only these tools",
        ),
        ("/pulls", r#"{"base":"gh-pages"}"#.to_owned(), "must be one of main"),
    ];
    {
        let daemon = serving(&world, &blind());
        for (path, body, _) in &bad {
            assert_eq!(post(&daemon, path, body).0, "200", "the attack works where no rule looks: {body}");
        }
    }
    let daemon = serving(&world, POLICY);
    for (path, body) in [
        (
            "/graphql",
            query(
                "query Q { viewer { login } repository(name: \"r\") { issues { nodes { title __typename } } } }",
            ),
        ),
        ("/mcp", init),
        ("/mcp", call("create_comment", "WEB-17")),
        ("/pulls", r#"{"base":"main"}"#.to_owned()),
    ] {
        let (status, answer) = post(&daemon, path, &body);
        assert_eq!(status, "200", "{body}: {answer}");
        assert!(
            world.wait_seen(|seen| seen.uri == path && seen.body == body).is_some(),
            "the same bytes: {body}"
        );
    }
    let before = world.seen().len();
    for (path, body, words) in &bad {
        let (status, answer) = post(&daemon, path, body);
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        assert_eq!(status, "403", "{body}: {answer}");
        assert!(answer["reason"].as_str().unwrap().contains(words), "{words}: {answer}");
    }
    assert_eq!(world.seen().len(), before, "nothing of it reached the server");
    let receipts: String = daemon.receipts().unwrap().iter().map(|receipt| format!("{receipt}\n")).collect();
    for words in [
        "tools/call create_comment",
        "tools/call delete_issue",
        "query viewer repository",
        "mutation deleteRepository",
    ] {
        assert!(receipts.contains(words), "{words}\n{receipts}");
    }
    assert!(
        !receipts.contains("WEB-17") && !receipts.contains("gh-pages"),
        "values are nobody's business: {receipts}"
    );
}
