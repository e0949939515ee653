//! Command lines with their exit codes and what they print, without and with a daemon.

use std::io;
use std::path::Path;

use clap::{CommandFactory, Parser};

use super::*;

/// What is written to it can be read after it was given away.
#[derive(Clone, Default)]
pub(super) struct Page(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

impl Page {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader that has gone, as `| head` does.
pub(super) struct Gone;

impl io::Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Exit code, standard output and standard error of a command line, without colour.
pub(super) fn enforcer(arguments: &[&str]) -> (u8, String, String) {
    let page = Page::default();
    let out = &mut Output::to(page.clone());
    let cli = match Cli::try_parse_from([&["enforcer"], arguments].concat()) {
        Ok(cli) => cli,
        Err(error) => return (u8::try_from(error.exit_code()).unwrap(), String::new(), error.to_string()),
    };
    let context = Context { config: cli.config, socket: cli.socket, json: cli.json };
    let (code, error) = match dispatch(cli.command, &context, out) {
        Ok(code) => (code, String::new()),
        Err(failure) => {
            (ExitCode::from(failure.code()), anstream::adapter::strip_str(&failure.render()).to_string())
        }
    };
    let text = anstream::adapter::strip_str(&page.text()).to_string();
    let code = (0..=255).find(|n| ExitCode::from(*n) == code).unwrap();
    (code, text, error)
}

pub(super) fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const POLICY: &str =
    "version: 1\nagent: bot\nallow:\n  - name: read\n    host: api.example.com\n    methods: GET\n";

#[test]
fn the_arguments_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn wrong_usage_exits_with_2_and_help_with_0() {
    for arguments in [
        &["secret", "set", "github"][..],
        &["secret", "set", "github", "--host", "a.example.com", "the-value"],
        &["policy", "check"],
        &["why"],
        &["nonsense"],
        &["status", "--color", "sometimes"],
    ] {
        assert_eq!(enforcer(arguments).0, 2, "{arguments:?}");
    }
    let (code, _, help) = enforcer(&["--help"]);
    assert_eq!(code, 0);
    assert!(!help.contains("agent-init"), "{help}");
}

#[test]
fn policy_check_needs_no_daemon_and_exits_with_3() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path(), "good.yaml", POLICY);
    let bad = file(
        folder.path(),
        "bad.yaml",
        "version: 1\nagent: other\nallow:\n  - name: read\n    hots: api.example.com\n",
    );
    assert_eq!(enforcer(&["policy", "check", &good]), (0, "ok: 1 file, 1 agent\n".into(), String::new()));
    let (code, text, _) = enforcer(&["policy", "check", &good, &bad]);
    assert_eq!(code, 3);
    assert!(
        text.contains("bad.yaml:5:5") && text.contains("`hots`") && text.contains("not ok: 2 files"),
        "{text}"
    );
    let (code, text, _) = enforcer(&["--json", "policy", "check", &bad]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let findings = json["findings"].as_array().unwrap();
    assert_eq!((code, &json["ok"]), (3, &false.into()));
    assert!(findings.iter().any(|f| f["line"] == 5 && f["error"] == true), "{findings:?}");
    let (code, _, error) = enforcer(&["policy", "check", "/nonexistent.yaml"]);
    assert_eq!(code, 1);
    assert!(error.starts_with("error: cannot read /nonexistent.yaml\n  caused by: "), "{error}");
    // A folder: all of its policies together.
    assert_eq!(enforcer(&["policy", "check", folder.path().to_str().unwrap()]).0, 3);
}

#[test]
fn policy_explain_answers_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let policy = file(folder.path(), "bot.yaml", POLICY);
    let explain = |method: &str, more: &[&str]| {
        let base = ["policy", "explain", "--policy", &policy, "bot", method, "https://api.example.com/x"];
        enforcer(&[&base[..], more].concat())
    };
    let (code, text, _) = explain("GET", &[]);
    assert_eq!(code, 0);
    assert!(text.starts_with("+ allow GET https://api.example.com/x\n"), "{text}");
    assert!(text.contains("read") && text.contains("bot.yaml:"), "{text}");
    let (code, text, _) = explain("DELETE", &[]);
    assert_eq!(code, 0);
    assert!(text.starts_with("- deny DELETE"), "{text}");
    assert_eq!(explain("DELETE", &["--exit-code"]).0, 6);
    assert_eq!(explain("GET", &["--exit-code"]).0, 0);
    let (code, _, error) =
        enforcer(&["policy", "explain", "--policy", &policy, "robot", "GET", "https://api.example.com/"]);
    assert_eq!(code, 1);
    assert!(error.contains("hint: agents with a policy: bot"), "{error}");
}

#[test]
fn a_missing_daemon_exits_with_5_and_says_how_to_start_it() {
    for arguments in
        [&["status"][..], &["reload"], &["secret", "ls"], &["why", "r_x"], &["ca", "export"], &["agents"]]
    {
        let (code, text, error) = enforcer(&[&["--socket", "/nonexistent/control.sock"], arguments].concat());
        assert_eq!((code, text.as_str()), (5, ""), "{arguments:?}");
        assert!(
            error.contains("error: the daemon is not running") && error.contains("hint: start it with"),
            "{error}"
        );
    }
}

#[test]
fn a_running_daemon_answers_in_words() {
    use crate::control::tests::{nobody, stage};
    let stage = stage(&nobody());
    let id = stage.refuse("new.example.com").to_string();
    let socket = stage.client.socket().to_str().unwrap().to_owned();
    let asked = |arguments: &[&str]| {
        let (code, text, error) = enforcer(&[&["--socket", &socket], arguments].concat());
        assert_eq!((code, error.as_str()), (0, ""), "{arguments:?}");
        text
    };
    let status = asked(&["status"]);
    assert!(status.contains("policies  1 in force from ") && status.contains("sessions  1"), "{status}");
    assert!(status.contains("backstop  ! absent (nft is not installed)"), "{status}");
    assert_eq!(
        asked(&["agents"]),
        "AGENT  SESSION     UID    CGROUP  STATE\nbot    bot-abc123  61600  7       on\n"
    );
    assert!(asked(&["reload"]).starts_with("in force: 1 policy file from "));
    assert!(asked(&["ca", "export"]).starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(asked(&["secret", "ls"]).starts_with("there are no secrets"));

    let folder = tempfile::tempdir().unwrap();
    let value = file(folder.path(), "value", "canary-77c1\n");
    let stored = asked(&["secret", "set", "github", "--host", "api.github.com", "--file", &value]);
    assert_eq!(stored, "stored `github` version 1, for api.github.com only\n");
    let listed = asked(&["secret", "ls"])
        + &asked(&["secret", "show", "github"])
        + &asked(&["--json", "secret", "list"]);
    assert!(listed.contains("length     11 bytes") && !listed.contains("canary"), "{listed}");
    assert_eq!(asked(&["secret", "rm", "github"]), "removed secret `github`\n");

    let why = asked(&["why", &id]);
    let lines: Vec<&str> = why.lines().filter(|l| !l.contains("when ")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    - deny GET https://new.example.com/
      agent    bot (session bot-abc123)
      process  1 (`curl`), user 61600
      because  no rule allows it (no_rule)
      outcome  refused

    To allow it, add this to the policy of `bot`:

    allow:
      - name: choose-a-name
        host: new.example.com
        methods: GET
        paths: "/"
    "#);
    let explained = asked(&["policy", "explain", "bot", "GET", "https://api.example.com/"]);
    assert!(explained.starts_with("+ allow GET https://api.example.com/"), "{explained}");
}

#[test]
fn findings_are_drawn_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let bad = file(folder.path(), "bot.yaml", &POLICY.replace("methods: GET", "metods: GET"));
    let (code, text, _) = enforcer(&["policy", "check", &bad]);
    assert_eq!(code, 3);
    insta::assert_snapshot!(text.replace(folder.path().to_str().unwrap(), "."), @"
    error[E001]: unknown field `metods` in a rule
     --> ./bot.yaml:6:5
      |
    6 |     metods: GET
      |     ^^^^^^
      |
      = help: did you mean `methods`?
    not ok: 1 file, 1 error
    ");
}

#[test]
fn bad_settings_exit_with_3_and_show_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let config = file(folder.path(), "enforcer.yaml", "run_dri: /tmp\n");
    let (code, _, error) = enforcer(&["--config", &config, "status"]);
    assert_eq!(code, 3);
    assert!(error.contains("enforcer.yaml:1:1: `run_dri` is not a setting"), "{error}");
    assert!(error.contains("hint: did you mean `run_dir`?"), "{error}");
    assert_eq!(enforcer(&["--config", "/nonexistent.yaml", "status"]).0, 1);
}

#[test]
fn a_closed_pipe_is_success() {
    let failure = Output::to(Gone).line("text").unwrap_err();
    assert_eq!(failure.code(), 0);
    assert_eq!(failure.render(), "");
}

#[test]
fn errors_cannot_move_the_cursor() {
    let failure = Failure::text(1, "bad \x1b[2Jname\nsecond line\r").hint("\u{202e}x");
    let text = anstream::adapter::strip_str(&failure.render()).to_string();
    assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text:?}");
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn the_place_of_a_secret_is_in_the_url_and_its_value_is_not() {
    let cli = Cli::try_parse_from([
        "enforcer",
        "secret",
        "set",
        "github",
        "--host",
        "api.github.com",
        "--host",
        "*.example.com,x.test:8443",
        "--wildcard",
    ]);
    let Command::Secret(secret::SecretCommand::Set(args)) = cli.unwrap().command else { panic!("not a set") };
    assert_eq!(
        secret::set_path(&args),
        "/v1/secrets/github?host=api.github.com%2C%2A.example.com%2Cx.test%3A8443&wildcard=true"
    );
}

#[test]
fn tables_line_up_and_escape() {
    let page = Page::default();
    let mut out = Output::to(page.clone());
    let rows = [vec!["a".to_owned(), "b\nc".to_owned()], vec!["long name".to_owned(), String::new()]];
    out.table(&["NAME", "X"], &rows).unwrap();
    let text = page.text();
    assert_eq!(text, "NAME       X\na          b\\nc\nlong name\n");
}

#[test]
fn spans_are_read_at_a_glance() {
    for (seconds, text) in [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (90_000, "1 d 1 h")]
    {
        assert_eq!(output::span(seconds), text);
    }
}

#[test]
fn catalogues_are_listed_shown_and_imported() {
    let (code, text, _) = enforcer(&["catalog", "ls"]);
    assert_eq!(code, 0);
    assert!(text.contains("github") && text.contains("stripe"), "{text}");
    let (code, text, _) = enforcer(&["catalog", "show", "github"]);
    assert_eq!(code, 0);
    for part in [
        "resources: OWNER/REPO",
        "  delete-repo: Delete a repository.",
        "    ! dangerous: deletes a repository",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (code, _, error) = enforcer(&["catalog", "show", "gihub"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("known are"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("openapi.yaml");
    std::fs::write(&spec, "openapi: 3.0.0\npaths: { /a: { get: { operationId: getA } } }\n").unwrap();
    let spec = spec.to_str().unwrap();
    let (code, _, error) = enforcer(&["catalog", "import", spec, "--service", "mine"]);
    assert_eq!(code, 3);
    assert!(error.contains("--host"), "{error}");
    let services = folder.path().join("services");
    std::fs::create_dir(&services).unwrap();
    let file = services.join("mine.yaml");
    let import = [
        "catalog",
        "import",
        spec,
        "--service",
        "mine",
        "--host",
        "api.example.com",
        "-o",
        file.to_str().unwrap(),
    ];
    let (code, text, error) = enforcer(&import);
    assert_eq!(code, 0, "{error}");
    assert!(text.contains("with 1 action"), "{text}");
    // A policy beside it can name what was imported.
    let policy = folder.path().join("bot.yaml");
    std::fs::write(&policy, "version: 1\nagent: bot\nservices: { mine: { allow: [get-a] } }\n").unwrap();
    let policy = policy.to_str().unwrap();
    assert_eq!(enforcer(&["policy", "check", policy]).0, 0);
    let (_, text, _) =
        enforcer(&["policy", "explain", "--policy", policy, "bot", "GET", "https://api.example.com/a"]);
    assert!(text.contains("mine/get-a"), "{text}");
    let (code, text, _) = enforcer(&["catalog", "show", "mine", "--services", services.to_str().unwrap()]);
    assert_eq!(code, 0);
    assert!(text.contains("GET,HEAD api.example.com/a"), "{text}");
    // Without the file beside it the policy says what is missing.
    std::fs::remove_file(&file).unwrap();
    let (code, text, _) = enforcer(&["policy", "check", policy]);
    assert_eq!(code, 3);
    assert!(text.contains("there is no catalogue of a service `mine`"), "{text}");
}
