//! The control socket from end to end: a real socket, a real client, a vault and receipts in a temporary folder.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use enforcer_policy::AgentName;
use enforcer_vault::VaultKey;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::client::{Client, ClientError};
use super::*;
use crate::agent::{Agent, CgroupId, NetnsCookie, SessionId};
use crate::audit::verify::Report;
use crate::audit::{Intent, Options, Outcome, RequestId, Verdict};

const POLICY: &str = r#"
version: 1
agent: bot
description: Reads the API
allow:
  - name: read
    host: api.example.com
    methods: GET
"#;
const CANARY: &str = "canary-4f1c9a7be2";

pub(crate) struct Stage {
    folder: tempfile::TempDir,
    pub(crate) client: Client,
    state: ControlState,
    kernel: Arc<Kernel>,
    shutdown: CancellationToken,
    runtime: tokio::runtime::Runtime,
    served: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
}

/// A daemon's control side; processes below `managed_root` are agents.
pub(crate) fn stage(managed_root: &Path) -> Stage {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("policies")).unwrap();
    std::fs::set_permissions(path("policies"), PermissionsExt::from_mode(0o755)).unwrap();
    write_policy(&path("policies/bot.yaml"), POLICY);
    VaultKey::create(&path("key")).unwrap();
    let key = VaultKey::read(std::fs::File::open(path("key")).unwrap()).unwrap();
    let agents = Arc::new(Agents::default());
    agents.insert(Arc::new(Agent {
        name: AgentName::parse("bot").unwrap(),
        session: SessionId("bot-abc123".into()),
        cgroup: CgroupId(7),
        netns: NetnsCookie(8),
        uid: 61600,
    }));
    let audit = AuditLog::open(folder.path(), Options::default()).unwrap();
    let switches = Arc::new(crate::switches::Switches::open(folder.path()).unwrap());
    let kernel = Arc::new(Kernel::default());
    let switchboard =
        Switchboard::new(switches, Arc::default(), Arc::clone(&kernel) as Arc<_>, audit.clone());
    let state = ControlState {
        policies: Policies::open(&path("policies")),
        agents,
        switchboard: Arc::new(switchboard),
        secrets: Secrets::open(&path("vault.db"), key).unwrap(),
        audit,
        ca_pem: "-----BEGIN CERTIFICATE-----\n".into(),
        confinement: "unconfined".into(),
        backstop: enforcer_capture::message::Backstop::Absent,
        proofs: std::sync::Arc::default(),
        distrust: Arc::new(crate::tls::Distrust::new(Arc::new(crate::tls::distrust::tests::Told(None)))),
        started: Instant::now(),
    };
    let socket = path("control.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let shutdown = CancellationToken::new();
    let served = runtime.spawn(serve(listener, managed_root.to_owned(), state.clone(), shutdown.clone()));
    drop(entered);
    Stage { folder, client: Client::new(socket), state, kernel, shutdown, runtime, served: Some(served) }
}

/// Writes down what it is asked for.
#[derive(Default)]
struct Kernel {
    asked: std::sync::Mutex<Vec<String>>,
    fails: std::sync::atomic::AtomicBool,
}

impl Kernel {
    fn ask(&self, what: String) -> Contained<'_> {
        self.asked.lock().unwrap().push(what);
        let fails = self.fails.load(std::sync::atomic::Ordering::SeqCst);
        Box::pin(async move { if fails { Err("as told".to_owned()) } else { Ok(()) } })
    }
}

impl Containment for Kernel {
    fn shut_in(&self, agent: &str, freeze: bool) -> Contained<'_> {
        self.ask(format!("shut in {agent} {freeze}"))
    }

    fn let_out(&self, agent: &str) -> Contained<'_> {
        self.ask(format!("let out {agent}"))
    }
}

/// No process of this machine is below this.
pub(crate) fn nobody() -> PathBuf {
    "/sys/fs/cgroup/enforcer-test-nobody".into()
}

fn write_policy(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
}

impl Stage {
    pub(crate) fn refuse(&self, host: &str) -> RequestId {
        let id = RequestId::random();
        let intent = Intent {
            id: id.clone(),
            agent: "bot".into(),
            session: "bot-abc123".into(),
            cgroup: 7,
            pid: 1,
            uid: 61600,
            comm: "curl".into(),
            protocol: "https".into(),
            method: Some("GET".into()),
            host: Some(host.into()),
            port: Some(443),
            path: Some("/".into()),
            template: None,
            action: None,
            query_keys: Vec::new(),
            verdict: Verdict::Deny,
            rule: None,
            reason: "no_rule".into(),
            policy: None,
            credential: None,
        };
        let outcome = Outcome { end: "refused".into(), ..Outcome::default() };
        self.runtime.block_on(self.state.audit.refused(intent, outcome)).unwrap();
        id
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.client.json(Method::POST, path, body.to_string().into_bytes())
    }
}

fn answered(error: ClientError) -> (StatusCode, String, Option<String>) {
    match error {
        ClientError::Answered { status, body } => (status, body.error, body.hint),
        other => panic!("{other}"),
    }
}

#[test]
fn status_agents_and_policies_say_what_is_in_force() {
    let stage = stage(&nobody());
    let status: Value = stage.client.get("/v1/status").unwrap();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&status["agents"], &status["sessions"], &status["secrets"]),
        (&json!(1), &json!(1), &json!(0))
    );
    assert_eq!(status["policies"]["in_force"], true);
    let agents: Value = stage.client.get("/v1/agents").unwrap();
    assert_eq!(agents[0]["session"], "bot-abc123");
    let policies: Value = stage.client.get("/v1/policies").unwrap();
    assert_eq!(policies["agents"][0]["agent"], "bot");
    assert_eq!(policies["agents"][0]["hosts"], json!(["api.example.com"]));
    let pem = stage.client.bytes(Method::GET, "/v1/ca", Vec::new()).unwrap();
    assert!(pem.starts_with(b"-----BEGIN"));
}

#[test]
fn an_agent_is_switched_off_and_on_and_the_record_says_by_whom() {
    let stage = stage(&nobody());
    let asked = || std::mem::take(&mut *stage.kernel.asked.lock().unwrap());
    let state = || stage.client.get::<Value>("/v1/agents").unwrap()[0]["state"].clone();
    let off = stage.post("/v1/agents/bot/disable", &json!({ "reason": "it went wild" })).unwrap();
    assert_eq!(
        (&off["state"], &off["already"], &off["frozen"]),
        (&json!("disabled"), &json!(false), &json!(false))
    );
    assert_eq!((asked(), state()), (vec!["shut in bot false".to_owned()], json!("disabled")));
    let again = stage.post("/v1/agents/bot/disable", &json!({ "freeze": true })).unwrap();
    assert_eq!((&again["already"], &again["frozen"]), (&json!(true), &json!(true)));
    assert_eq!((asked(), state()), (vec!["shut in bot true".to_owned()], json!("frozen")));
    let status: Value = stage.client.get("/v1/status").unwrap();
    assert_eq!(status["disabled"]["bot"]["uid"], rustix::process::geteuid().as_raw());
    // What a restarted worker reads.
    assert!(crate::switches::Switches::open(stage.folder.path()).unwrap().off("bot").unwrap().frozen);

    stage.kernel.fails.store(true, std::sync::atomic::Ordering::SeqCst);
    let (code, text, _) = answered(stage.post("/v1/agents/bot/enable", &Value::Null).unwrap_err());
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        text.contains("agent `bot` is on, but: the kernel still denies") && text.contains("as told"),
        "{text}"
    );
    stage.kernel.fails.store(false, std::sync::atomic::Ordering::SeqCst);
    let on = stage.post("/v1/agents/bot/enable", &Value::Null).unwrap();
    assert_eq!((&on["state"], &on["already"]), (&json!("on"), &json!(true)));
    assert_eq!((asked(), state()), (vec!["let out bot".to_owned(); 2], json!("on")));
    assert!(crate::switches::Switches::open(stage.folder.path()).unwrap().all().is_empty());

    let (code, _, hint) = answered(stage.post("/v1/agents/bto/disable", &Value::Null).unwrap_err());
    assert_eq!((code, hint.as_deref()), (StatusCode::NOT_FOUND, Some("agents with a policy: bot")));
    let (code, _, _) =
        answered(stage.post("/v1/agents/bot/disable", &json!({ "frezze": true })).unwrap_err());
    assert_eq!(code, StatusCode::BAD_REQUEST);

    let receipts: Vec<Value> = stage.client.get("/v1/receipts").unwrap();
    let told: Vec<_> =
        receipts.iter().map(|r| format!("{} {} {}", r["agent"], r["reason"], r["protocol"])).collect();
    assert_eq!(told.iter().filter(|t| *t == r#""bot" "agent_disabled" "control""#).count(), 2, "{told:?}");
    assert_eq!(told.iter().filter(|t| t.contains("agent_enabled")).count(), 2, "{told:?}");
    assert!(receipts.iter().any(|r| r["outcome"]["error"] == "it went wild"), "{receipts:?}");
}

#[test]
fn explain_answers_for_the_agent_that_was_named() {
    let stage = stage(&nobody());
    let ask = |agent: &str, method: &str, url: &str| {
        stage.post("/v1/explain", &json!({ "agent": agent, "method": method, "url": url }))
    };
    let yes = ask("bot", "GET", "https://api.example.com/x").unwrap();
    assert_eq!((&yes["allowed"], &yes["agent"], &yes["rule"]), (&json!(true), &json!("bot"), &json!("read")));
    assert!(yes["revision"].as_str().is_some_and(|r| !r.is_empty()));
    let no = ask("bot", "POST", "https://api.example.com/x").unwrap();
    assert_eq!(no["allowed"], false);
    let (status, _, hint) = answered(ask("bto", "GET", "https://api.example.com/x").unwrap_err());
    assert_eq!((status, hint.as_deref()), (StatusCode::NOT_FOUND, Some("agents with a policy: bot")));
    let (status, _, _) = answered(ask("bot", "GET", "https://api.example.com/../x").unwrap_err());
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _, _) = answered(stage.post("/v1/explain", &json!({ "agnt": 1 })).unwrap_err());
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[test]
fn a_reload_that_fails_keeps_the_old_policy_and_exits_with_3() {
    let stage = stage(&nobody());
    let file = stage.folder.path().join("policies/bot.yaml");
    write_policy(&file, &POLICY.replace("allow:", "alow:"));
    let error = stage.client.json::<Value>(Method::POST, "/v1/policies/reload", Vec::new()).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    let (status, text, hint) = answered(error);
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(text.contains("bot.yaml") && text.contains("alow"), "{text}");
    assert!(hint.unwrap().contains("stay in force"));
    assert!(stage.state.policies.current().agent("bot").is_some());
    let status: Value = stage.client.get("/v1/status").unwrap();
    assert_eq!(status["policies"]["in_force"], false);
    assert!(status["policies"]["report"].as_str().unwrap().contains("alow"));

    write_policy(&file, POLICY);
    let loaded: Value = stage.client.json(Method::POST, "/v1/policies/reload", Vec::new()).unwrap();
    assert_eq!(loaded["in_force"], true);
}

#[test]
fn a_secret_goes_in_and_only_its_metadata_comes_out() {
    let stage = stage(&nobody());
    let put =
        |path: &str, value: &str| stage.client.json::<Value>(Method::PUT, path, value.as_bytes().to_vec());
    let stored = put("/v1/secrets/github?host=api.github.com,uploads.github.com", CANARY).unwrap();
    assert_eq!(stored["version"], 1);
    let mut said = stored.to_string();
    for path in ["/v1/secrets", "/v1/secrets/github", "/v1/status"] {
        said.push_str(&stage.client.get::<Value>(path).unwrap().to_string());
    }
    assert!(said.contains("uploads.github.com") && !said.contains(CANARY), "{said}");

    let table: [(&str, &str, StatusCode); 8] = [
        ("/v1/secrets/github", "x", StatusCode::BAD_REQUEST),
        ("/v1/secrets/github?host=", "x", StatusCode::BAD_REQUEST),
        ("/v1/secrets/github?host=*.github.com", "x", StatusCode::BAD_REQUEST),
        ("/v1/secrets/github?host=http://api.github.com", "x", StatusCode::BAD_REQUEST),
        ("/v1/secrets/Git_Hub?host=api.github.com", "x", StatusCode::BAD_REQUEST),
        ("/v1/secrets/github?host=api.github.com", "", StatusCode::BAD_REQUEST),
        ("/v1/secrets/github?host=api.github.com", "a\nb", StatusCode::BAD_REQUEST),
        ("/v1/secrets/github?host=api.github.com&value=x", "x", StatusCode::BAD_REQUEST),
    ];
    for (path, value, expected) in table {
        let (status, text, _) = answered(put(path, value).unwrap_err());
        assert_eq!(status, expected, "{path}: {text}");
    }
    let big = "x".repeat(200 * 1024);
    assert!(put("/v1/secrets/github?host=api.github.com", &big).is_err());

    let removed: Value = stage.client.json(Method::DELETE, "/v1/secrets/github", Vec::new()).unwrap();
    assert_eq!(removed["removed"], "github");
    let (status, _, hint) = answered(stage.client.get::<Value>("/v1/secrets/github").unwrap_err());
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(hint.unwrap().contains("secret ls"));
}

#[test]
fn receipts_are_listed_shown_verified_and_exported() {
    let stage = stage(&nobody());
    let ids: Vec<RequestId> = ["a.example.com", "b.example.com"].iter().map(|h| stage.refuse(h)).collect();
    let list: Vec<Value> = stage.client.get("/v1/receipts?denied=true&host=b.example.com").unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0]["id"], ids[1].to_string());
    let one: Value = stage.client.get(&format!("/v1/receipts/{}", ids[0])).unwrap();
    assert_eq!((&one["host"], &one["verdict"]), (&json!("a.example.com"), &json!("deny")));
    let (status, _, _) = answered(stage.client.get::<Value>("/v1/receipts/r_nothere").unwrap_err());
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, _, _) = answered(stage.client.get::<Value>("/v1/receipts?denid=true").unwrap_err());
    assert_eq!(status, StatusCode::BAD_REQUEST);

    let verified: Report = stage.client.json(Method::POST, "/v1/receipts/verify", Vec::new()).unwrap();
    assert!(verified.is_good() && verified.entries > 0, "{verified:?}");
    let export =
        |path: &str| String::from_utf8(stage.client.bytes(Method::GET, path, Vec::new()).unwrap()).unwrap();
    let lines = export("/v1/receipts/export");
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(serde_json::from_str::<Value>(lines.lines().next().unwrap()).is_ok());
    assert_eq!(export("/v1/receipts/export?limit=1").lines().count(), 1);
    let csv = export("/v1/receipts/export?format=csv&host=a.example.com");
    assert!(csv.starts_with("seq,time,id") && csv.lines().count() == 2, "{csv}");
    let (status, _, _) = answered(stage.client.get::<Value>("/v1/receipts/export?format=xml").unwrap_err());
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[test]
fn receipts_are_followed_as_they_come_until_the_daemon_stops() {
    let mut stage = stage(&nobody());
    let client = stage.client.clone();
    let (sender, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        client.lines("/v1/receipts/follow?after_seq=0", |line| match sender.send(line.to_owned()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
    });
    let id = stage.refuse("c.example.com").to_string();
    let line = lines.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(line.contains(&id), "{line}");
    stage.shutdown.cancel();
    reader.join().unwrap().unwrap();
    let served = stage.served.take().unwrap();
    stage
        .runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(5), served).await })
        .unwrap()
        .unwrap()
        .unwrap();
}

#[test]
fn a_peer_inside_a_managed_cgroup_gets_nothing_whatever_its_user() {
    // Below the top of the hierarchy is every process, this one as well.
    let everybody = enforcer_capture::cgroup::hierarchy().unwrap();
    let stage = stage(&everybody);
    for path in ["/v1/status", "/v1/secrets"] {
        let error = stage.client.get::<Value>(path).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        let (status, text, _) = answered(error);
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(text.contains("processes of an agent"), "{text}");
    }
    let put = stage.client.json::<Value>(Method::PUT, "/v1/secrets/x?host=a.example.com", b"x".to_vec());
    assert_eq!(answered(put.unwrap_err()).0, StatusCode::FORBIDDEN);
    let secrets = stage.runtime.block_on(stage.state.secrets.list()).unwrap();
    assert!(secrets.is_empty());
}

#[test]
fn what_is_no_command_gets_an_answer_that_helps() {
    let stage = stage(&nobody());
    let raw = |request: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(stage.client.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let close = "Host: x\r\nConnection: close\r\n\r\n";
    let table = [
        (format!("GET /v2/x HTTP/1.1\r\n{close}"), "HTTP/1.1 404", "no such command"),
        (format!("DELETE /v1/status HTTP/1.1\r\n{close}"), "HTTP/1.1 405", "another method"),
        ("nonsense\r\n\r\n".to_owned(), "HTTP/1.1 400", ""),
    ];
    for (request, status, text) in table {
        let answer = raw(&request);
        assert!(answer.starts_with(status) && answer.contains(text), "{request:?}: {answer}");
    }
}

#[test]
fn a_client_says_when_nobody_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let error = Client::new(socket.clone()).get::<Value>("/v1/status").unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(error.hint().unwrap().contains("enforcer daemon"));
    // A socket nobody listens on any more, as after a kill.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_eq!(Client::new(socket).get::<Value>("/v1/status").unwrap_err().exit_code(), 5);
}
