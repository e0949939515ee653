//! Credentials against an agent that wants to see them, misplace them, or send its own beside them.

use std::sync::Arc;

use enforcer_policy::{AgentPolicy, Decision, Host, Name, PolicySet, Request, Source};
use enforcer_vault::{Binding, Dangers, Secret, VaultKey};
use http::request::Parts;

use super::{Authorized, BodyGuard, CredentialError, KINDS, Placeholders, Tripwires, authorize};
use crate::agent::{Agent, CgroupId, NetnsCookie, SessionId};
use crate::gate::{Permit, Touched};
use crate::secret::{Secrets, encode};

const VALUE: &str = "real/value+7Hq2Zr9Lw4Xk8=";
const POLICY: &str = r#"
version: 1
agent: bot
credentials:
  gh: { bearer: { secret: token, env: GH_TOKEN } }
  key: { header: { name: x-api-key, secret: token, env: API_KEY, format: "Key {};v=1" } }
  git: { basic: { username: x-access-token, secret: token, env: GIT_TOKEN } }
  maps: { query: { name: key, secret: token, env: MAPS_KEY } }
  tg: { placeholder: { secret: token, env: TG, in: [path, { header: authorization }, { header: x-tok }, { query: q }] } }
  must: { placeholder: { secret: token, env: MUST, in: [{ header: authorization }], required: true } }
  elsewhere: { bearer: { secret: unbound, env: ELSEWHERE } }
  missing: { bearer: { secret: not-stored, env: MISSING } }
decoys:
  - { name: aws, env: AWS_SECRET_ACCESS_KEY }
  - { name: pat, env: GH_PAT, format: "ghp_{}" }
allow:
  - { name: gh, host: gh.example, credential: gh }
  - { name: key, host: key.example, credential: key }
  - { name: git, host: git.example, credential: git }
  - { name: maps, host: maps.example, credential: maps }
  - { name: tg, host: tg.example, credential: tg }
  - { name: must, host: must.example, credential: must }
  - { name: elsewhere, host: elsewhere.example, credential: elsewhere }
  - { name: missing, host: missing.example, credential: missing }
  - { name: free, host: free.example }
"#;

struct World {
    policy: Arc<AgentPolicy>,
    placeholders: Placeholders,
    secrets: Secrets,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let source = Source { name: "bot.yaml".to_owned(), text: POLICY.to_owned() };
        let set = PolicySet::compile(&[source]).unwrap_or_else(|report| panic!("{report}")).set;
        let directory = tempfile::tempdir().unwrap();
        let key = VaultKey::read([1; 32].as_slice()).unwrap();
        let secrets = Secrets::open(&directory.path().join("vault.db"), key).unwrap();
        let hosts = ["gh", "key", "git", "maps", "tg", "must"]
            .map(|host| Binding::parse(&format!("{host}.example"), Dangers::default()).unwrap());
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec()).unwrap();
        secrets.set("token".to_owned(), hosts.to_vec(), secret(VALUE)).await.unwrap();
        secrets.set("unbound".to_owned(), vec![hosts[0].clone()], secret("another-value")).await.unwrap();
        World {
            policy: set.agent("bot").unwrap().clone(),
            placeholders: Placeholders::new(&[5; 32]),
            secrets,
            _directory: directory,
        }
    }

    fn placeholder(&self, credential: &str) -> String {
        self.placeholders.of("bot", credential)
    }

    fn tripwires(&self, host: &str) -> Tripwires {
        Tripwires::new(&self.policy, &self.placeholders, &Host::parse(host).unwrap())
    }

    fn decoy(&self, env: &str) -> String {
        let found = self.placeholders.environment(&self.policy).into_iter().find(|(name, _)| name == env);
        found.unwrap().1
    }

    /// `{gh}` in texts stands for that credential's placeholder, `{b64:TEXT}` for base64.
    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for spec in self.policy.credentials() {
            text = text.replace(&format!("{{{}}}", spec.name), &self.placeholder(spec.name.as_str()));
        }
        while let Some((before, rest)) = text.split_once("{b64:") {
            let (inner, after) = rest.split_once('}').unwrap();
            let coded = String::from_utf8(encode::base64_padded(inner.as_bytes()).to_vec()).unwrap();
            text = format!("{before}{coded}{after}");
        }
        text
    }

    async fn send(
        &self,
        host: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Authorized, CredentialError> {
        let target = self.fill(target);
        let request = Request::parse("GET", &format!("https://{host}.example{target}")).unwrap();
        let Decision::Allow { rule, .. } = self.policy.decide(&request, enforcer_policy::Moment::ANY) else {
            panic!("{host}{target} is denied")
        };
        let agent = Agent {
            name: Name::parse("bot").unwrap(),
            session: SessionId("bot-1".into()),
            cgroup: CgroupId(1),
            netns: NetnsCookie(1),
            uid: 1,
        };
        let credential = rule.credential.as_ref().and_then(|c| self.policy.credential(c.as_str())).cloned();
        let mut parts = http::Request::get(target.as_str()).body(()).unwrap().into_parts().0;
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(self.fill(name).as_bytes()).unwrap();
            parts.headers.append(name, self.fill(value).parse().unwrap());
        }
        let permit = Permit::for_test(request, rule, credential, Arc::new(agent));
        authorize(permit, parts, &self.policy, &self.placeholders, &self.secrets).await
    }

    async fn sent(&self, host: &str, target: &str, headers: &[(&str, &str)]) -> Authorized {
        self.send(host, target, headers).await.unwrap_or_else(|e| panic!("{host}{target} {headers:?}: {e}"))
    }
}

fn all<'a>(parts: &'a Parts, name: &str) -> Vec<&'a str> {
    parts.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect()
}

#[tokio::test]
async fn each_kind_puts_the_value_in_once() {
    let world = World::new().await;
    let basic = world.fill(&format!("Basic {{b64:x-access-token:{VALUE}}}"));
    for (host, name, written) in [
        ("gh", "authorization", format!("Bearer {VALUE}")),
        ("key", "x-api-key", format!("Key {VALUE};v=1")),
        ("git", "authorization", basic),
    ] {
        // With the placeholder, with something else, with both, with nothing.
        let own = format!("Bearer {{{host}}}");
        for headers in [
            vec![],
            vec![(name, own.as_str())],
            vec![(name, "junk")],
            vec![(name, "junk"), (name, own.as_str())],
        ] {
            let out = world.sent(host, "/a?b=c", &headers).await;
            assert_eq!(all(&out.parts, name), [written.as_str()], "{host} {headers:?}");
            assert!(out.parts.headers[name].is_sensitive());
            assert_eq!(out.parts.uri, "/a?b=c");
            assert_eq!((out.injected.len(), out.injected[0].version), (1, 1));
            assert!(!format!("{:?}", out.parts.headers).contains(VALUE));
        }
    }
    let coded = "real%2Fvalue%2B7Hq2Zr9Lw4Xk8%3D";
    for (target, expected) in [
        ("/m", format!("/m?key={coded}")),
        ("/m?key={maps}", format!("/m?key={coded}")),
        ("/m?a=1&key=own&b=%20x&key={maps}&", format!("/m?a=1&b=%20x&&key={coded}")),
        ("/m?key=own&key", format!("/m?key={coded}")),
    ] {
        let out = world.sent("maps", target, &[]).await;
        assert_eq!(out.parts.uri.to_string(), expected, "{target}");
    }
}

#[tokio::test]
async fn git_finds_its_placeholder_inside_basic() {
    let world = World::new().await;
    let placeholder = world.placeholder("git");
    for user in ["x-access-token", "me", ""] {
        let header = format!("Basic {{b64:{user}:{placeholder}}}");
        let out = world
            .sent("git", "/r.git/info/refs?service=git-upload-pack", &[("authorization", &header)])
            .await;
        let coded = all(&out.parts, "authorization")[0].strip_prefix("Basic ").unwrap().to_owned();
        assert_eq!(encode::base64_decode(coded.as_bytes()), format!("x-access-token:{VALUE}").as_bytes());
    }
}

#[tokio::test]
async fn placeholders_are_swapped_where_the_agent_put_them() {
    let world = World::new().await;
    let coded = "real%2Fvalue%2B7Hq2Zr9Lw4Xk8%3D";
    for (target, expected) in [
        ("/bot{tg}/send", format!("/bot{coded}/send")),
        ("/send?q={tg}&r=1", format!("/send?q={coded}&r=1")),
        ("/send?q=a%20{tg}", format!("/send?q=a%20{coded}")),
        ("/{tg}/{tg}", format!("/{coded}/{coded}")),
    ] {
        let out = world.sent("tg", target, &[]).await;
        assert_eq!(out.parts.uri.to_string(), expected);
        assert_eq!(out.injected.len(), 1);
    }
    let basic = world.fill("Basic {b64:me:{tg}}".replace("{tg}", &world.placeholder("tg")).as_str());
    let swapped = world.fill(&format!("Basic {{b64:me:{VALUE}}}"));
    let token = format!("token {VALUE}");
    for (header, expected) in [("token {tg}", token.as_str()), (&basic, &swapped)] {
        let out = world.sent("tg", "/", &[("authorization", header), ("x-tok", "a{tg}.b")]).await;
        assert_eq!(all(&out.parts, "authorization"), [expected]);
        assert_eq!(all(&out.parts, "x-tok"), [format!("a{VALUE}.b")]);
        assert!(out.parts.headers["authorization"].is_sensitive());
    }
    // What the agent put into those places itself is removed; without a placeholder nothing goes in.
    let out = world.sent("tg", "/?q=own&r=1", &[("authorization", "Bearer own"), ("x_tok", "{b64:x}")]).await;
    assert_eq!(out.parts.uri, "/?r=1");
    assert!(out.parts.headers.is_empty() && out.injected.is_empty());
}

#[tokio::test]
async fn a_required_placeholder_is_required() {
    let world = World::new().await;
    for headers in [vec![], vec![("authorization", "Bearer mine")]] {
        let refused = world.send("must", "/", &headers).await.err().unwrap();
        assert!(matches!(refused, CredentialError::Required { .. }), "{refused}");
    }
    let out = world.sent("must", "/", &[("authorization", "Bearer {must}")]).await;
    assert_eq!(all(&out.parts, "authorization"), [format!("Bearer {VALUE}")]);
}

#[tokio::test]
async fn what_the_agent_sends_as_a_credential_is_removed() {
    let world = World::new().await;
    let headers = [
        ("authorization", "Bearer mine"),
        ("authorization", "Basic bWU6bWU="),
        ("proxy-authorization", "Basic bWU6bWU="),
        ("x-api-key", "mine"),
        ("x_api_key", "mine"),
        ("x.api.key", "mine"),
        ("x_api.key", "mine"),
        ("private-token", "mine"),
        ("x-goog-api-key", "mine"),
        ("cookie", "session=mine"),
        ("accept", "text/html"),
        ("accept", "text/plain"),
    ];
    let out = world.sent("gh", "/", &headers).await;
    let names: Vec<_> = out.parts.headers.keys().map(|n| n.as_str()).collect();
    assert_eq!(all(&out.parts, "authorization"), [format!("Bearer {VALUE}")]);
    assert_eq!(all(&out.parts, "accept"), ["text/html", "text/plain"]);
    assert_eq!(names.len(), 3, "{names:?}");
    let out = world.sent("key", "/", &headers).await;
    assert_eq!(all(&out.parts, "x-api-key"), [format!("Key {VALUE};v=1")]);
    assert_eq!(out.parts.headers.keys().len(), 3);
}

#[tokio::test]
async fn without_a_credential_the_agents_own_passes() {
    let world = World::new().await;
    let out = world
        .sent("free", "/?key=1", &[("authorization", "Bearer mine"), ("proxy-authorization", "x")])
        .await;
    assert_eq!(all(&out.parts, "authorization"), ["Bearer mine"]);
    assert!(!out.parts.headers.contains_key("proxy-authorization") && out.injected.is_empty());
    assert_eq!(out.parts.uri, "/?key=1");
}

/// The first column is where a server might store or show it.
#[tokio::test]
async fn a_placeholder_anywhere_else_refuses_the_request() {
    let world = World::new().await;
    let cases: &[(&str, &str, &str, &str)] = &[
        // (host, target, header, value)
        ("gh", "/gists/{gh}", "", ""),
        ("gh", "/?q={gh}", "", ""),
        ("gh", "/?{gh}=1", "", ""),
        ("gh", "/?{gh}", "", ""),
        ("gh", "/a%20{gh}", "", ""),
        ("gh", "/", "referer", "https://gh.example/{gh}"),
        ("gh", "/", "user-agent", "curl {gh}"),
        ("gh", "/", "cookie", "a={gh}"),
        ("gh", "/", "x-api-key", "{gh}"),
        ("gh", "/", "x-title", "{gh}"),
        ("gh", "/", "proxy-authorization", "Bearer {gh}"),
        ("gh", "/", "{gh}", "1"),
        ("gh", "/", "x-title", "a%20enf%2d"),
        ("gh", "/", "authorization", "Bearer {git}"),
        ("gh", "/", "authorization", "Bearer {gh} {git}"),
        ("key", "/", "authorization", "Bearer {key}"),
        ("key", "/", "x_api_key", "{key}"),
        ("key", "/?x-api-key={key}", "", ""),
        ("git", "/{git}", "", ""),
        ("maps", "/?Key={maps}", "", ""),
        ("maps", "/?key=1&kez={maps}", "", ""),
        ("maps", "/", "x-key", "{maps}"),
        ("tg", "/", "x-other", "{tg}"),
        ("tg", "/?r={tg}", "", ""),
        ("must", "/{must}", "authorization", "Bearer {must}"),
        ("free", "/{gh}", "", ""),
        ("free", "/", "authorization", "Bearer {gh}"),
    ];
    for (host, target, name, value) in cases {
        let headers: Vec<_> = if name.is_empty() { vec![] } else { vec![(*name, *value)] };
        let result = world.send(host, target, &headers).await;
        // The control: the same header without a placeholder passes.
        if *value == "a%20enf%2d" {
            assert!(result.is_ok());
            continue;
        }
        let refused = result.err().unwrap_or_else(|| panic!("{host}{target} {name}: {value} passed"));
        assert!(matches!(refused, CredentialError::Misplaced { .. }), "{refused}");
    }
    // Escaped, and inside base64.
    let escaped = world.placeholder("gh").replace('-', "%2D");
    for (name, value) in [
        ("x-title", escaped.clone()),
        ("authorization", format!("Bearer {escaped}")),
        ("cookie", format!("a={escaped}")),
    ] {
        let refused = world.send("gh", "/", &[(name, &value)]).await.err().unwrap();
        assert!(matches!(refused, CredentialError::Misplaced { .. }), "{name}: {refused}");
    }
    for scheme in ["Basic", "basic", "BASIC", " Basic "] {
        let value = format!("{scheme} {{b64:me:{}}}", world.placeholder("key"));
        for host in ["gh", "free", "tg"] {
            let refused = world.send(host, "/", &[("authorization", value.trim())]).await.err().unwrap();
            assert!(matches!(refused, CredentialError::Misplaced { .. }), "{host} {scheme}: {refused}");
        }
    }
}

#[tokio::test]
async fn foreign_unknown_and_look_alike_placeholders_get_the_same_answer() {
    let world = World::new().await;
    let own = world.placeholder("gh");
    let foreign = world.placeholders.of("other-agent", "gh");
    let other_host = Placeholders::new(&[6; 32]).of("bot", "gh");
    let unknown = format!("enf-gh-{}", "0".repeat(32));
    let mut almost = own.clone();
    let last = if almost.ends_with('0') { "1" } else { "0" };
    almost.replace_range(almost.len() - 1.., last);
    let longer = format!("{own}0");
    let nested = format!("enf-{own}");
    let expected = "the placeholder of credential `gh` may not be used in header `authorization`";
    for look_alike in [&foreign, &other_host, &unknown, &almost, &longer] {
        let header = format!("Bearer {look_alike}");
        let refused = world.send("gh", "/", &[("authorization", &header)]).await.err().unwrap();
        assert_eq!(refused.to_string(), expected, "{look_alike}");
    }
    assert!(world.send("gh", "/", &[("authorization", &format!("Bearer {nested}"))]).await.is_err());
    // Less than the shape is text like any other.
    for text in ["enf-", "enf-gh-", "enf-gh-0123", &own.to_uppercase(), &own.replacen("enf", "emf", 1)] {
        assert!(world.send("gh", "/", &[("x-title", text)]).await.is_ok(), "{text}");
    }
}

#[tokio::test]
async fn the_vaults_no_is_final() {
    let world = World::new().await;
    let refused = world.send("elsewhere", "/", &[]).await.err().unwrap();
    let CredentialError::Secret { name, error } = refused else { panic!("{refused}") };
    assert_eq!(name, "unbound");
    assert!(error.to_string().contains("bound to https://gh.example:443"), "{error}");
    let refused = world.send("missing", "/", &[]).await.err().unwrap();
    assert!(matches!(refused, CredentialError::Secret { .. }));
}

#[tokio::test]
async fn placeholders_are_stable_and_differ() {
    let world = World::new().await;
    let own = world.placeholder("gh");
    assert!(own.starts_with("enf-gh-") && own.len() == "enf-gh-".len() + 32, "{own}");
    assert_eq!(own, Placeholders::new(&[5; 32]).of("bot", "gh"));
    for other in [
        world.placeholder("git"),
        world.placeholders.of("bot2", "gh"),
        Placeholders::new(&[6; 32]).of("bot", "gh"),
    ] {
        assert_ne!(own, other);
    }
    let environment = world.placeholders.environment(&world.policy);
    assert_eq!(environment.len(), world.policy.credentials().len() + world.policy.decoys().len());
    assert!(environment.contains(&("GH_TOKEN".to_owned(), own)));
}

#[tokio::test]
async fn a_body_ends_where_a_placeholder_is_complete() {
    let world = World::new().await;
    let long = "a-".repeat(31) + "z";
    for credential in ["gh", &long, "git"] {
        let placeholder = world.placeholder(credential);
        let body = format!("{{\"enf\": \"enf-\", \"files\": \"x enf-{placeholder} y\"}}");
        for at in 0..=body.len() {
            let (first, second) = body.as_bytes().split_at(at);
            let mut guard = BodyGuard::new(world.tripwires("api.example.test"), "the body");
            let refused = guard.check(first).and_then(|()| guard.check(second));
            assert!(matches!(refused, Err(CredentialError::Misplaced { .. })), "{credential} at {at}");
        }
        for size in 1..50 {
            let mut guard = BodyGuard::new(world.tripwires("api.example.test"), "the body");
            let mut seen = 0;
            let cut = body.as_bytes().chunks(size).any(|chunk| {
                seen += chunk.len();
                guard.check(chunk).is_err()
            });
            // Never after the chunk that completes it.
            let end = body.find(&placeholder).unwrap() + placeholder.len();
            assert!(cut && seen < end + size, "{credential} by {size}");
        }
        let broken = body.replace(&placeholder, &placeholder.replacen('-', "_", 2));
        let mut guard = BodyGuard::new(world.tripwires("api.example.test"), "the body");
        for chunk in broken.as_bytes().chunks(7) {
            guard.check(chunk).unwrap();
        }
    }
}

#[tokio::test]
async fn decoys_look_like_keys_and_stay_the_same() {
    let world = World::new().await;
    let (aws, pat) = (world.decoy("AWS_SECRET_ACCESS_KEY"), world.decoy("GH_PAT"));
    assert!(aws.len() == 40 && aws.bytes().all(|b| b.is_ascii_alphanumeric()), "{aws}");
    assert!(pat.len() == 44 && pat.starts_with("ghp_") && !pat.ends_with(&aws), "{pat}");
    assert_eq!(aws, World::new().await.decoy("AWS_SECRET_ACCESS_KEY"));
}

#[tokio::test]
async fn a_head_touches_a_tripwire_by_a_decoy_anywhere_and_by_a_placeholder_at_a_wrong_host() {
    let world = World::new().await;
    let decoy = world.decoy("GH_PAT");
    let touched = |host: &str, target: &str, value: &str| {
        let mut parts = http::Request::get(world.fill(target)).body(()).unwrap().into_parts().0;
        parts.headers.insert("authorization", world.fill(value).parse().unwrap());
        world.tripwires(&format!("{host}.example")).head(&parts).cloned()
    };
    let bitten = Some(Touched::Decoy { name: "pat".into() });
    for host in ["gh", "free", "nowhere"] {
        assert_eq!(touched(host, "/", &format!("Bearer {decoy}")), bitten);
        assert_eq!(touched(host, &format!("/x?y={decoy}"), "x"), bitten);
        assert_eq!(touched(host, "/", &format!("Basic {{b64:x:{decoy}}}")), bitten);
        assert_eq!(touched(host, &format!("/%67{decoy}"), "x"), bitten, "beside an escape");
        assert_eq!(
            touched(host, "/", &format!("Bearer {}", decoy.strip_suffix(|_| true).unwrap())),
            None,
            "not all of it"
        );
    }
    let strayed = Some(Touched::Stray { credential: "gh".into() });
    assert_eq!(touched("gh", "/", "Bearer {gh}"), None);
    assert_eq!(touched("gh", "/{gh}", "x"), None, "misplaced, but not at a wrong host");
    for host in ["key", "free", "nowhere"] {
        assert_eq!(touched(host, "/", "Bearer {gh}"), strayed);
        assert_eq!(touched(host, "/{gh}", "x"), strayed);
        assert_eq!(touched(host, "/", "Basic {b64:x:{gh}}"), strayed);
    }
}

#[tokio::test]
async fn a_decoy_in_a_body_ends_it_and_raises_the_alarm_once_it_is_complete() {
    let world = World::new().await;
    let decoy = world.decoy("AWS_SECRET_ACCESS_KEY");
    let body = format!("secret={decoy}&x=1");
    for size in 1..=body.len() {
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let alarm = heard.clone();
        let tripwires = world
            .tripwires("free.example")
            .with_alarm(Arc::new(move |touched: &Touched| alarm.lock().unwrap().push(touched.clone())));
        let mut guard = BodyGuard::new(tripwires, "the body");
        let refused = body.as_bytes().chunks(size).find_map(|chunk| guard.check(chunk).err());
        assert!(matches!(refused, Some(CredentialError::Decoy { name }) if name == "aws"), "by {size}");
        assert_eq!(*heard.lock().unwrap(), [Touched::Decoy { name: "aws".into() }], "by {size}");
    }
    let mut guard = BodyGuard::new(world.tripwires("free.example"), "the body");
    for chunk in body.replace(&decoy, decoy.strip_prefix(|_| true).unwrap()).as_bytes().chunks(3) {
        guard.check(chunk).unwrap();
    }
}

#[test]
fn the_table_of_kinds_is_whole() {
    for (at, kind) in KINDS.iter().enumerate() {
        assert!(kind.name.bytes().all(|b| b.is_ascii_lowercase()), "{}", kind.name);
        assert!(KINDS.iter().skip(at + 1).all(|other| other.name != kind.name), "{}", kind.name);
        let text = format!(
            "version: 1\nagent: bot\ncredentials:\n  one:\n    {}\nallow:\n  - {{ name: a, host: a.example, credential: one }}\n",
            kind.example
        );
        let set = PolicySet::compile(&[Source { name: "example.yaml".to_owned(), text }])
            .unwrap_or_else(|report| panic!("{}: {report}", kind.name))
            .set;
        let spec = &set.agent("bot").unwrap().credentials()[0];
        let read: Vec<_> = KINDS.iter().filter(|k| (k.read)(&spec.kind).is_some()).map(|k| k.name).collect();
        assert_eq!(read, [kind.name]);
    }
}
