//! What is refused, how it reads, and that the server hears nothing of it.

use std::time::Duration;

use enforcer_tests::world::{Daemon, Output, World, plan};
use serde_json::Value;

use super::{bearer, serving};

/// curl as the agent: status and body.
fn ask(daemon: &Daemon<'_>, words: &[&str]) -> (u16, String, Output) {
    let mut line = vec!["curl", "-sS", "-m", "10", "-w", "\n%{http_code}"];
    line.extend(words);
    let output = daemon.run_agent("bot", &line).unwrap();
    let (body, status) = output.stdout.rsplit_once('\n').unwrap_or(("", "0"));
    (status.trim().parse().unwrap_or(0), body.to_owned(), output)
}

/// A refusal: status, reason code, and not one request upstream.
fn refused(world: &World, daemon: &Daemon<'_>, words: &[&str], status: u16) -> Value {
    let before = world.seen().len();
    let (got, body, output) = ask(daemon, words);
    assert_eq!(got, status, "{output}\n{}", daemon.log_text());
    assert_eq!(world.seen().len(), before, "the server was asked\n{output}");
    serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: a refusal is JSON\n{output}"))
}

#[test]
fn a_method_no_rule_allows_is_told_so() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let body = refused(&world, &daemon, &["-X", "DELETE", "https://api.example.test/v1/items/7"], 403);
    assert_eq!(body["error"], "blocked_by_policy");
    assert_eq!(body["agent"], "bot");
    assert_eq!(body["retry"], false);
    assert!(
        body["request"].as_str().unwrap().starts_with("DELETE https://api.example.test/v1/items/7"),
        "{body}"
    );
    assert!(body["request_id"].as_str().unwrap().starts_with("r_"), "{body}");
    assert!(body["advice"].as_str().is_some_and(|a| a.contains("Do not retry")), "{body}");
}

#[test]
fn a_deny_rule_wins_and_is_named() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let body = refused(&world, &daemon, &["https://api.example.test/v1/secret/x"], 403);
    assert_eq!(body["rule"], "no-secrets", "{body}");
}

#[test]
fn the_sixth_of_five_an_hour_waits() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    for _ in 0..5 {
        assert_eq!(ask(&daemon, &["-d", "x", "https://api.example.test/v1/items"]).0, 200);
    }
    let body = refused(&world, &daemon, &["-d", "x", "https://api.example.test/v1/items"], 429);
    assert!(body["retry_after"].as_u64().is_some_and(|s| (1..=3600).contains(&s)), "{body}");
    let (_, _, output) = ask(&daemon, &["-i", "-d", "x", "https://api.example.test/v1/items"]);
    assert!(output.stdout.to_lowercase().contains("\nretry-after: "), "{output}");
}

#[test]
fn names_must_agree() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    // One name in the handshake, another in the request.
    for version in ["--http1.1", "--http2"] {
        let before = world.seen().len();
        let (status, _, output) =
            ask(&daemon, &[version, "-H", "Host: other.example.test", "https://api.example.test/v1/x"]);
        assert!(matches!(status, 400 | 421), "{output}");
        assert_eq!(world.seen().len(), before, "{output}");
    }
    // To the attacker's address under an allowed name: the name is what counts, and we look it up.
    let mark = world.sniffer.mark();
    let (status, body, output) = ask(
        &daemon,
        &["--connect-to", &format!("::{}:443", plan::ATTACKER_V4), "https://api.example.test/v1/pinned"],
    );
    assert!(status == 200 && body.contains("right"), "{output}");
    let to_attacker =
        |p: &enforcer_tests::packet::Packet| p.ip.is_some_and(|ip| ip.destination == plan::ATTACKER_V4);
    assert!(!world.sniffer.since(mark).iter().any(to_attacker), "the attacker's address was dialled");
    // A name that no rule has, over an allowed address.
    let (status, _, output) =
        ask(&daemon, &["--connect-to", "evil.test:443:api.example.test:443", "https://evil.test/v1/x"]);
    assert!(status != 200, "{output}");
}

#[test]
fn special_addresses_and_bad_certificates_are_refused() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    for name in [plan::INTERNAL, plan::REBOUND] {
        let mark = world.sniffer.mark();
        let (status, body, output) = ask(&daemon, &[&format!("https://{name}/")]);
        assert!(status != 200, "{output}");
        let _reads_well_or_no_name_at_all = body;
        let to_private =
            |p: &enforcer_tests::packet::Packet| p.ip.is_some_and(|ip| ip.destination == plan::PRIVATE_V4);
        assert!(!world.sniffer.since(mark).iter().any(to_private));
    }
    let before = world.seen().len();
    let (status, body, output) = ask(&daemon, &["https://badcert.example.test/"]);
    assert_eq!(status, 502, "{output}");
    assert!(body.contains("certificate"), "{output}");
    assert_eq!(world.seen().len(), before);
}

#[test]
fn the_injected_value_never_comes_back() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    for (uri, flags) in
        [("/echo", vec!["-i"]), ("/echo-gzip", vec!["-i", "--compressed"]), ("/echo-gzip", vec!["-i"])]
    {
        let url = format!("https://api.example.test{uri}");
        let mut words = flags.clone();
        words.push(&url);
        let (status, body, output) = ask(&daemon, &words);
        assert_eq!(status, 200, "{output}");
        assert!(body.contains("you sent: Bearer "), "the body is the server's: {output}");
        assert!(!output.all().contains(&world.canaries.bearer), "{output}");
        let wanted = bearer(&world);
        assert!(world.wait_seen(|s| s.uri == uri && s.authorization == wanted).is_some());
    }
}

#[test]
fn a_placeholder_anywhere_else_is_refused() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let token = daemon.shell("bot", "printf %s \"$API_TOKEN\"").unwrap().stdout;
    assert!(token.starts_with("enf-") && !token.contains("canary"), "{token}");
    let in_query = format!("https://api.example.test/v1/x?token={token}");
    let in_path = format!("https://api.example.test/v1/{token}");
    let in_header = format!("X-Note: {token}");
    for words in
        [vec![in_query.as_str()], vec![&in_path], vec!["-H", &in_header, "https://api.example.test/v1/x"]]
    {
        let before = world.seen().len();
        let (status, body, output) = ask(&daemon, &words);
        assert!((400..500).contains(&status), "{output}");
        assert!(body.contains("placeholder"), "{output}");
        assert_eq!(world.seen().len(), before, "{output}");
    }
    // In a body: the request is cut before the server has all of it.
    let (status, _, output) =
        ask(&daemon, &["-d", &format!("note={token}"), "https://api.example.test/v1/notes"]);
    assert!(status != 200, "{output}");
    // For the host of another credential it is nothing but text, and refused as well.
    let (status, _, output) =
        ask(&daemon, &["-H", &format!("Authorization: Bearer {token}"), "https://other.example.test/open/x"]);
    assert!(status != 200, "{output}");
}

#[test]
fn a_redirect_is_the_clients_to_follow() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let (status, _, output) = ask(&daemon, &["https://api.example.test/redirect"]);
    assert_eq!(status, 302, "{output}");
    // Followed, it is a new request to another host, which no rule allows.
    let (status, _, output) = ask(&daemon, &["-L", "https://api.example.test/redirect"]);
    assert_eq!(status, 403, "{output}");
    assert!(!world.seen().iter().any(|s| s.server == plan::OTHER));
}

#[test]
fn names_no_rule_has_cause_no_packet() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let script = "import socket,sys\n\
        try:\n  socket.getaddrinfo(sys.argv[1], 443); print('resolved')\n\
        except socket.gaierror as e: print('no such name')";
    let mark = world.sniffer.mark();
    for name in ["c2VjcmV0LWRhdGE.tunnel.test", "unlisted.example.test"] {
        let output = daemon.run_agent("bot", &["/usr/bin/python3", "-c", script, name]).unwrap();
        assert_eq!(output.stdout.trim(), "no such name", "{output}");
    }
    assert_eq!(world.sniffer.since(mark).len(), 0);
    let output = daemon.run_agent("bot", &["/usr/bin/python3", "-c", script, plan::API]).unwrap();
    assert_eq!(output.stdout.trim(), "resolved", "{output}");
}

#[test]
fn a_reload_with_an_error_keeps_the_old_policy() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    assert_eq!(ask(&daemon, &["https://api.example.test/v1/a"]).0, 200);
    daemon
        .write_policy(
            "bot",
            &super::POLICY
                .replace("methods: [GET, HEAD], paths: \"/v1/**\"", "metods: [GET], paths: \"/v1/**\""),
        )
        .unwrap();
    let reload = daemon.cli(&["reload"]).unwrap();
    assert!(!reload.ok(), "{reload}");
    assert!(reload.all().contains("metods") && reload.all().contains("did you mean"), "{reload}");
    assert_eq!(ask(&daemon, &["https://api.example.test/v1/b"]).0, 200, "the old policy holds");
    assert_eq!(ask(&daemon, &["-X", "DELETE", "https://api.example.test/v1/b"]).0, 403);
    // A good one takes effect, also for an agent that runs.
    daemon
        .write_policy(
            "bot",
            &super::POLICY.replace(
                "deny:\n",
                "deny:\n  - { name: closed, host: api.example.test, paths: \"/v1/b\" }\n",
            ),
        )
        .unwrap();
    daemon.cli_ok(&["reload"]).unwrap();
    assert_eq!(ask(&daemon, &["https://api.example.test/v1/b"]).0, 403);
}

#[test]
fn sighup_reloads() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    daemon
        .write_policy(
            "bot",
            &super::POLICY.replace(
                "deny:\n",
                "deny:\n  - { name: closed, host: api.example.test, paths: \"/v1/b\" }\n",
            ),
        )
        .unwrap();
    let pid = daemon.pid().unwrap().to_string();
    assert!(daemon.world.on_host(&["kill", "-HUP", &pid]).status().unwrap().success());
    let mut status = 0;
    for _ in 0..50 {
        status = ask(&daemon, &["https://api.example.test/v1/b"]).0;
        if status == 403 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(status, 403);
}

#[test]
fn every_request_has_a_receipt_and_the_chain_verifies() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    ask(&daemon, &["https://api.example.test/v1/a?token=hidden"]);
    ask(&daemon, &["-X", "DELETE", "https://api.example.test/v1/a"]);
    let receipts = daemon.receipts().unwrap();
    let of = |method: &str| {
        receipts
            .iter()
            .find(|r| r.to_string().contains(&format!("\"{method}\"")))
            .unwrap_or_else(|| panic!("{receipts:#?}"))
    };
    let (get, delete) = (of("GET").to_string(), of("DELETE").to_string());
    for words in [["\"allow\"", "api.example.test", "\"api@1\""], ["\"read\"", "\"bot\"", "\"token\""]] {
        assert!(words.iter().all(|w| get.contains(w)), "{get}");
    }
    assert!(!get.contains("hidden"), "values of the query are nobody's business: {get}");
    assert!(delete.contains("\"deny\"") && delete.contains("no_rule"), "{delete}");
    let verified = daemon.cli(&["receipts", "verify"]).unwrap();
    assert!(verified.ok(), "{verified}");
    // Change one byte of the log: the next verify says where.
    daemon.tool(&["status"]).output().unwrap();
    let log = find(&daemon.settings.state_dir, "receipts");
    let mut bytes = std::fs::read(&log).unwrap();
    let at = bytes.windows(6).position(|w| w == b"DELETE").expect("the log has the method as text");
    bytes[at] = b'B';
    std::fs::write(&log, bytes).unwrap();
    let verified = daemon.cli(&["receipts", "verify"]).unwrap();
    assert!(!verified.ok(), "{verified}");
}

/// The newest segment below a directory of that name.
fn find(state: &std::path::Path, name: &str) -> std::path::PathBuf {
    let dir = state.join("worker").join(name);
    let mut segments: Vec<_> =
        std::fs::read_dir(&dir).unwrap().flatten().map(|e| e.path()).filter(|p| p.is_file()).collect();
    segments.retain(|p| std::fs::read(p).unwrap().windows(6).any(|w| w == b"DELETE"));
    segments.retain(|p| !p.to_string_lossy().contains(".db"));
    segments.pop().expect("a segment")
}
