use enforcer_policy::{Name, Source};

use super::*;

const POLICY: &str = r#"
version: 1
agent: bot
credentials:
  a: { bearer: { secret: token-a, env: A } }
  b: { bearer: { secret: token-b, env: B } }
allow:
  - { name: open, host: api.test, paths: "/open/**" }
  - { name: with, host: api.test, paths: "/with/**", credential: a }
"#;

fn policies(text: &str) -> PolicySet {
    let source = Source { name: "bot.yaml".into(), text: text.into() };
    PolicySet::compile(&[source]).unwrap_or_else(|report| panic!("{report}")).set
}

fn bot() -> AgentName {
    Name::parse("bot").unwrap()
}

fn request(path: &str) -> Arc<Request> {
    Arc::new(Request::parse("GET", &format!("https://api.test{path}")).unwrap())
}

#[test]
fn each_withdrawal_cuts_what_depends_on_it_and_nothing_else() {
    let all = Arc::new(Lifelines::default());
    let session = CancellationToken::new();
    let open = all.request(&bot(), &request("/open/x"));
    let with = all.request(&bot(), &request("/with/x"));
    with.uses(vec!["token-a".into()]);
    let connection = all.connection(&bot(), &session);
    let pool = all.upstream(&bot(), vec!["token-a".into()]);
    let other = all.request(&Name::parse("other").unwrap(), &request("/open/x"));

    assert_eq!(all.cut_secret("token-b"), 0);
    assert_eq!(all.cut_secret("token-a"), 2);
    assert_eq!(with.cause(), Some(&Cause::SecretChanged("token-a".into())));
    assert!(pool.token().is_cancelled() && !connection.token().is_cancelled());
    assert_eq!(all.cut_agent("bot"), 2);
    assert_eq!(
        (open.cause(), connection.cause()),
        (Some(&Cause::AgentDisabled), Some(&Cause::AgentDisabled))
    );
    assert_eq!(with.cause(), Some(&Cause::SecretChanged("token-a".into())), "the first cause stands");
    assert!(other.cause().is_none());
}

#[test]
fn a_new_policy_cuts_what_it_does_not_allow_or_would_send_with_another_secret() {
    let check = |text: &str, path: &str, secret: Option<&str>, cut: bool| {
        let all = Arc::new(Lifelines::default());
        let line = all.request(&bot(), &request(path));
        line.uses(secret.map(str::to_owned).into_iter().collect());
        let cut_now = all.cut_disallowed(&policies(text), Moment::ANY, &Cause::PolicyChanged);
        assert_eq!(cut_now, usize::from(cut), "{path} {secret:?}\n{text}");
        assert_eq!(line.cause().is_some(), cut);
    };
    check(POLICY, "/open/x", None, false);
    check(POLICY, "/with/x", Some("token-a"), false);
    check(POLICY, "/with/x", None, false);
    check(&POLICY.replace("/open", "/shut"), "/open/x", None, true);
    check(&POLICY.replace("agent: bot", "agent: other"), "/open/x", None, true);
    check(&POLICY.replace("credential: a", "credential: b"), "/with/x", Some("token-a"), true);
    check(&POLICY.replace(", credential: a", ""), "/with/x", Some("token-a"), true);
}

#[test]
fn a_window_that_closes_cuts_what_only_its_rule_allowed() {
    let until = ", when: { until: \"2026-01-10T00:00:00Z\" } }";
    let timed = POLICY.replacen(" }\n  - { name: with", &format!("{until}\n  - {{ name: with"), 1);
    let (all, timed) = (Arc::new(Lifelines::default()), policies(&timed));
    let open = all.request(&bot(), &request("/open/x"));
    let with = all.request(&bot(), &request("/with/x"));
    let at = |text: &str| Moment::parse(text).unwrap();
    assert_eq!(all.cut_disallowed(&timed, at("2026-01-09T23:59:59Z"), &Cause::WindowClosed), 0);
    assert_eq!(all.cut_disallowed(&timed, at("2026-01-10T00:00:00Z"), &Cause::WindowClosed), 1);
    assert_eq!((open.cause(), with.cause()), (Some(&Cause::WindowClosed), None));
}

#[tokio::test]
async fn work_is_left_when_the_line_is_cut_and_the_end_is_waited_for() {
    let all = Arc::new(Lifelines::default());
    let line = all.request(&bot(), &request("/open/x"));
    let cutoff = line.cutoff();
    assert_eq!(cutoff.unless(async { 1 }).await, Ok(1));
    assert!(all.ended("bot", Duration::from_secs(5)).await, "nothing was cut yet");
    let working = tokio::spawn(async move {
        let left = cutoff.unless(std::future::pending::<()>()).await;
        drop(line);
        left
    });
    tokio::task::yield_now().await;
    all.cut_agent("bot");
    assert!(all.ended("bot", Duration::from_secs(5)).await);
    assert_eq!(working.await.unwrap(), Err(Cause::AgentDisabled));

    let held = all.request(&bot(), &request("/open/x"));
    all.cut_agent("bot");
    assert!(!all.ended("bot", Duration::from_millis(10)).await);
    drop(held);
}

#[test]
fn a_connection_ends_with_its_session_without_a_cause() {
    let all = Arc::new(Lifelines::default());
    let session = CancellationToken::new();
    let connection = all.connection(&bot(), &session);
    session.cancel();
    assert!(connection.token().is_cancelled() && connection.cause().is_none());
}
