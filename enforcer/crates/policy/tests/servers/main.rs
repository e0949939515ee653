//! Targets that we allow, judged by what real servers do with them: nginx, Apache, node and Python.
//!
//! Each server says which path it went by and which file that led to. What a rule lets through must be in
//! the rule's own part of every server's tree, in the one spelling that we send on.

mod run;
mod targets;

use std::path::Path;

use enforcer_policy::{AgentPolicy, Decision, Moment, PolicySet, Request, Source};
use run::{Server, Taken};

/// A policy, and where its allow rule ends on a server, with paths decoded.
struct Claim {
    policy: &'static str,
    inside: fn(&[u8]) -> bool,
}

const CLAIMS: &[Claim] = &[
    Claim {
        policy: "allow: [{ name: r, host: a.test, paths: \"/ok/**\" }]",
        inside: |path| below(path, b"/ok"),
    },
    Claim {
        policy: "allow: [{ name: r, host: a.test, paths: \"/ok/*\" }]",
        inside: |path| below(path, b"/ok") && path.iter().filter(|byte| **byte == b'/').count() == 2,
    },
    Claim {
        policy: "allow: [{ name: r, host: a.test, paths: [/ok/a, \"/ok/@x\"] }]",
        inside: |path| path == b"/ok/a" || path == b"/ok/@x",
    },
    Claim {
        policy: "deny: [{ name: d, paths: \"/admin/**\" }]\nallow: [{ name: r, host: a.test }]",
        inside: |path| !below(path, b"/admin"),
    },
    Claim {
        policy: "deny: [{ name: d, paths: /admin/secret }]\nallow: [{ name: r, host: a.test }]",
        inside: |path| path.strip_suffix(b"/").unwrap_or(path) != b"/admin/secret",
    },
    // With encoded slashes, which Apache decodes here.
    Claim {
        policy: "allow: [{ name: r, host: a.test, paths: \"/ok/**\", raw_path: true }]",
        inside: |path| below(path, b"/ok"),
    },
    Claim {
        policy: "deny: [{ name: d, paths: \"/admin/**\" }]\nallow: [{ name: r, host: a.test, raw_path: true }]",
        inside: |path| !below(path, b"/admin"),
    },
];

/// `/ok` itself and what is below it, with nothing left in it that could still lead out.
fn below(path: &[u8], base: &[u8]) -> bool {
    let up = path.split(|byte| *byte == b'/').any(|segment| segment == b"..");
    !up && path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[test]
fn no_server_leaves_the_rule_that_allowed() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let servers = Server::all(folder.path());
    let targets = targets::targets();
    assert!(targets.len() >= 200, "{}", targets.len());

    // Without us: what begins with `/ok/` and ends in `/admin/secret`, and what only looks as if it were not below `/admin/`.
    let mut led_astray = vec![0; servers.len()];
    for target in targets.iter().filter(|target| sendable(target)) {
        for (server, led_astray) in servers.iter().zip(&mut led_astray) {
            let taken = server.ask(target);
            let secret = taken.files.iter().any(|file| file == "/admin/secret");
            *led_astray += u32::from(secret && !target.starts_with("/admin/"));
        }
    }
    let names = || servers.iter().map(|server| server.name);
    println!(
        "{} targets; to the secret by another way: {:?}",
        targets.len(),
        names().zip(&led_astray).collect::<Vec<_>>()
    );
    assert!(led_astray.iter().all(|count| *count > 0), "the table shows no attack: {led_astray:?}");

    let mut wrong = Vec::new();
    let mut allowed = vec![0; CLAIMS.len()];
    let mut found = 0;
    let policies: Vec<_> = CLAIMS.iter().map(|claim| policy(claim.policy)).collect();
    for target in &targets {
        let Ok(request) = Request::parse("GET", &format!("https://a.test{target}")) else { continue };
        let verdicts: Vec<bool> = policies.iter().map(|policy| allows(policy, &request)).collect();
        if !verdicts.contains(&true) {
            continue;
        }
        for server in &servers {
            // In the spelling that is sent on.
            let taken = server.ask(request.target.as_str());
            found += usize::from(!taken.files.is_empty());
            for (at, claim) in CLAIMS.iter().enumerate().filter(|(at, _)| verdicts[*at]) {
                allowed[at] += 1;
                if !holds(claim, &taken) {
                    wrong.push(format!(
                        "{} on {target}, sent as {}: {taken:?} by {}",
                        server.name, request.target, claim.policy
                    ));
                }
            }
        }
    }
    println!("allowed, of each policy, times servers: {allowed:?}; files found: {found}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Refusing everything would be right, too.
    assert!(
        allowed[0] > 100 && allowed[3] > 150 && allowed[2] >= 12 && allowed[5] > allowed[0] && found > 20,
        "{allowed:?}, {found}"
    );
}

/// Every server goes by paths, and all of them and all files are inside.
fn holds(claim: &Claim, taken: &Taken) -> bool {
    let refused = (400..500).contains(&taken.status) && taken.files.is_empty();
    (refused || !taken.paths.is_empty())
        && taken.paths.iter().all(|path| (claim.inside)(path))
        && taken.files.iter().all(|file| (claim.inside)(file.as_bytes()))
}

fn policy(rules: &str) -> std::sync::Arc<AgentPolicy> {
    let text = format!("version: 1\nagent: bot\n{rules}\n");
    let compiled = PolicySet::compile(&[Source { name: "p.yaml".into(), text }]).expect("it loads");
    compiled.set.agent("bot").expect("it is there").clone()
}

fn allows(policy: &AgentPolicy, request: &Request) -> bool {
    matches!(policy.decide(request, Moment::ANY), Decision::Allow { .. })
}

/// What would end the request line cannot be asked.
fn sendable(target: &str) -> bool {
    !target.is_empty() && !target.contains([' ', '\r', '\n'])
}

const WRITABLE: &str = "a folder of our own can be written";

/// Each file says where it is.
fn files(root: &Path) {
    for path in
        ["/ok/a", "/ok/sub/b", "/ok/@x", "/ok/a b", "/ok/..a", "/ok/admin/secret", "/admin/secret", "/secret"]
    {
        let file = root.join("files").join(path.trim_start_matches('/'));
        std::fs::create_dir_all(file.parent().expect("it is in a folder")).expect(WRITABLE);
        std::fs::write(&file, format!("file:{path}\n")).expect(WRITABLE);
    }
    // Apache reads as another user.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o755)).expect(WRITABLE);
}
