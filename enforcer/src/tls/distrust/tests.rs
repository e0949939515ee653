//! Findings by what is seen of a process, and when there are none.

use super::*;
use crate::agent::{Agent, NetnsCookie, SessionId};

/// Looks at nothing: what there is to see was said before. `None`: the process has ended.
pub(crate) struct Told(pub(crate) Option<Process>);

impl Processes for Told {
    fn look(&self, _session: &str, _pid: u32) -> Looking<'_> {
        let process = self.0.clone().ok_or_else(|| "it has ended".to_owned());
        Box::pin(async move { process })
    }
}

fn caller(pid: u32, comm: &str) -> Caller {
    let agent = Agent {
        name: enforcer_policy::Name::parse("bot").unwrap(),
        session: SessionId("bot-abcdef".into()),
        cgroup: CgroupId(7),
        netns: NetnsCookie(8),
        uid: 61600,
    };
    Caller { agent: Arc::new(agent), pid, uid: 61600, comm: comm.into() }
}

fn process(exe: &str, lacks: &[(&str, &str)]) -> Process {
    let lacks = lacks.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Process { exe: exe.into(), lacks }
}

async fn check(seen: Option<Process>, comm: &str, kind: &str, fix: &str) {
    let distrust = Distrust::new(Arc::new(Told(seen)));
    let finding = distrust.found(&caller(11, comm), "api.example.test", Sign::UnknownCa).await.unwrap();
    assert_eq!(finding.kind, kind);
    assert!(finding.fix.contains(fix), "{}", finding.fix);
}

#[tokio::test]
async fn the_fix_fits_the_kind_of_client() {
    let node = [("NODE_EXTRA_CA_CERTS", "/run/ca.pem"), ("SSL_CERT_FILE", "/run/bundle.pem")];
    check(Some(process("/usr/bin/node", &node)), "node", "Node", "NODE_EXTRA_CA_CERTS=/run/ca.pem,").await;
    check(Some(process("/usr/bin/node", &[])), "node", "Node", "option `ca`").await;
    // A thread's name says nothing where the program is known.
    let python = process("/usr/bin/python3.11", &[("SSL_CERT_FILE", "/b"), ("REQUESTS_CA_BUNDLE", "/b")]);
    check(Some(python), "worker", "Python", "SSL_CERT_FILE=/b REQUESTS_CA_BUNDLE=/b").await;
    let python = process("/x/python3", &[("REQUESTS_CA_BUNDLE", "/b")]);
    check(
        Some(python),
        "x",
        "Python",
        "start it with REQUESTS_CA_BUNDLE=/b, which it lacks; if that is not enough: its code",
    )
    .await;
    check(Some(process("/x/python3", &[])), "x", "Python", "certifi").await;
    let java = process("/opt/java", &[("JAVA_TOOL_OPTIONS", "-Da=b -Dc=d")]);
    check(Some(java), "HttpClient-1", "Java", "JAVA_TOOL_OPTIONS='-Da=b -Dc=d'").await;
    check(None, "curl", "curl", "--cacert").await;
    check(Some(process("/x/headless_shell", &[])), "x", "Chromium", "nssdb").await;
    check(Some(process("/x/uvicorn", &[("SSL_CERT_FILE", "/b")])), "x", "unknown", "SSL_CERT_FILE=/b").await;
    check(Some(process("/x/thing", &[])), "x", "unknown", "`tls: passthrough` for api.example.test").await;
}

#[tokio::test]
async fn the_same_again_is_counted() {
    let distrust = Distrust::new(Arc::new(Told(None)));
    for pid in 1..=3 {
        distrust.found(&caller(pid, "thing"), "a.test", Sign::BadCertificate).await;
    }
    distrust.found(&caller(4, "thing"), "b.test", Sign::BadCertificate).await;
    let found: Vec<_> = distrust.all().iter().map(|f| (f.host.clone(), f.pid, f.times)).collect();
    assert_eq!(found, [("a.test".to_owned(), 3, 3), ("b.test".to_owned(), 4, 1)]);
    for number in 0..2 * MOST {
        distrust.found(&caller(5, "thing"), &format!("{number}.test"), Sign::UnknownCa).await;
    }
    assert_eq!(distrust.all().len(), MOST);
}

#[tokio::test]
async fn who_leaves_is_found_only_if_it_never_went_on() {
    let distrust = Distrust::new(Arc::new(Told(Some(process("/usr/bin/node", &[])))));
    let (browser, node) = (caller(1, "browser"), caller(2, "node"));
    for process in [&browser, &node] {
        distrust.meet(process).await;
    }
    distrust.trusts(&browser);
    assert_eq!(distrust.found(&browser, "a.test", Sign::Left).await, None);
    assert_eq!(distrust.all(), []);
    let finding = distrust.found(&node, "a.test", Sign::Left).await.unwrap();
    assert!(
        finding.reason().contains("node (/usr/bin/node, pid 2) closed the connection"),
        "{}",
        finding.reason()
    );
    assert_eq!(distrust.all(), [finding]);
    // An alert is an alert, whoever sends it.
    assert!(distrust.found(&browser, "a.test", Sign::UnknownCa).await.is_some());
}
