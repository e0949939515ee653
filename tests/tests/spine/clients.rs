//! Programmes that people use, unchanged: each does a GET and a POST with an injected credential.

use enforcer_tests::world::{Output, World, plan};

use super::{bearer, serving, shared};

/// The server got the right credential for exactly this request, and the agent's output lacks it.
fn check(world: &World, output: &Output, method: &str, uri: &str, body: &str) {
    assert!(output.ok(), "{output}");
    let wanted = bearer(world);
    let seen = world.wait_seen(|s| s.method == method && s.uri == uri);
    let seen = seen.unwrap_or_else(|| panic!("the server saw no {method} {uri}\n{output}"));
    assert_eq!(seen.authorization, wanted, "{output}");
    assert_eq!(seen.body, body, "{output}");
    assert_eq!(seen.status, "200");
    for canary in world.canaries.all() {
        assert!(!output.all().contains(canary), "the agent saw a secret: {output}");
    }
}

#[test]
fn curl() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let get = daemon.run_agent("bot", &["curl", "-sS", "https://api.example.test/v1/curl?page=2"]).unwrap();
    check(&world, &get, "GET", "/v1/curl?page=2", "");
    assert!(get.stdout.contains(r#""credential":"right""#), "{get}");
    let post = daemon
        .run_agent("bot", &["curl", "-sS", "-d", "a=1&b=2", "https://api.example.test/v1/notes"])
        .unwrap();
    check(&world, &post, "POST", "/v1/notes", "a=1&b=2");
}

#[test]
fn curl_speaks_http_1_and_2() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    for (flag, version, uri) in [("--http1.1", "1.1", "/v1/one"), ("--http2", "2", "/v1/two")] {
        let url = format!("https://api.example.test{uri}");
        let output = daemon.run_agent("bot", &["curl", "-sS", flag, "-w", "%{http_version}", &url]).unwrap();
        check(&world, &output, "GET", uri, "");
        assert!(output.stdout.ends_with(version), "{output}");
    }
    // Several requests on one connection, each judged by itself.
    let output = daemon
        .run_agent(
            "bot",
            &[
                "curl",
                "-sS",
                "--http2",
                "https://api.example.test/v1/a",
                "https://api.example.test/v1/b",
                "https://api.example.test/nowhere",
            ],
        )
        .unwrap();
    assert_eq!(output.stdout.matches(r#""credential":"right""#).count(), 2, "{output}");
    assert!(output.stdout.contains("blocked_by_policy"), "{output}");
}

#[test]
fn wget() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let get = daemon.run_agent("bot", &["wget", "-q", "-O-", "https://api.example.test/v1/wget"]).unwrap();
    check(&world, &get, "GET", "/v1/wget", "");
    let post = daemon
        .run_agent(
            "bot",
            &["wget", "-q", "-O-", "--post-data=from=wget", "https://api.example.test/v1/notes"],
        )
        .unwrap();
    check(&world, &post, "POST", "/v1/notes", "from=wget");
}

#[test]
fn git_clones_and_pushes() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let place = format!("{}/project", shared(&world));
    let clone = daemon
        .run_agent("bot", &["git", "clone", "-q", "https://git.example.test/project.git", &place])
        .unwrap();
    assert!(clone.ok(), "{clone}");
    let push = format!(
        "cd {place} && git -c user.name=Bot -c user.email=bot@example.test commit -q --allow-empty -m pushed \
         && git push -q origin HEAD:refs/heads/topic"
    );
    let push = daemon.shell("bot", &push).unwrap();
    assert!(push.ok(), "{push}\n{}", daemon.log_text());
    let basic = format!("Basic {}", world.canaries.basic());
    assert!(world.wait_seen(|s| s.uri.ends_with("git-receive-pack") && s.authorization == basic).is_some());
    for canary in [world.canaries.git_password.as_str(), &world.canaries.basic()] {
        assert!(!clone.all().contains(canary) && !push.all().contains(canary));
    }
}

#[test]
fn python_requests() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let script = "import os, requests\n\
        h = {'Authorization': 'Bearer ' + os.environ['API_TOKEN']}\n\
        assert requests.get('https://api.example.test/v1/requests', headers=h).json()['credential'] == 'right'\n\
        assert requests.post('https://api.example.test/v1/notes', data='from requests', headers=h).status_code == 200\n";
    let output = daemon.run_agent("bot", &["/usr/bin/python3", "-c", script]).unwrap();
    check(&world, &output, "GET", "/v1/requests", "");
    check(&world, &output, "POST", "/v1/notes", "from requests");
}

#[test]
fn python_httpx() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let script = "import httpx\n\
        c = httpx.Client()\n\
        assert c.get('https://api.example.test/v1/httpx').json()['credential'] == 'right'\n\
        assert c.post('https://api.example.test/v1/notes', content='from httpx').status_code == 200\n";
    let output = daemon.run_agent("bot", &["/usr/bin/python3", "-c", script]).unwrap();
    check(&world, &output, "GET", "/v1/httpx", "");
    check(&world, &output, "POST", "/v1/notes", "from httpx");
}

#[test]
fn node_fetch() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let script = "(async () => {\
        const get = await fetch('https://api.example.test/v1/node');\
        if ((await get.json()).credential !== 'right') throw new Error('GET');\
        const post = await fetch('https://api.example.test/v1/notes', { method: 'POST', body: 'from node' });\
        if (post.status !== 200) throw new Error('POST ' + post.status);\
        })()";
    let output = daemon.run_agent("bot", &["node", "-e", script]).unwrap();
    check(&world, &output, "GET", "/v1/node", "");
    check(&world, &output, "POST", "/v1/notes", "from node");
}

#[test]
fn plain_http_and_other_credentials() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let output =
        daemon.run_agent("bot", &["curl", "-sS", "-d", "x", "http://plain.example.test/open/form"]).unwrap();
    assert!(output.ok() && output.stdout.contains(r#""credential":"none""#), "{output}");
    // A header of the rule's own, and what the agent put there is removed first.
    let output = daemon
        .run_agent("bot", &["curl", "-sS", "-H", "X-Api-Key: mine", "https://other.example.test/key/a"])
        .unwrap();
    assert!(output.stdout.contains(r#""credential":"right""#), "{output}");
    let seen = world.wait_seen(|s| s.server == plan::OTHER && s.uri == "/key/a").unwrap();
    assert_eq!(seen.api_key, world.canaries.api_key);
}

#[test]
fn a_large_answer_arrives_whole() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let output = daemon.shell("bot", "curl -sS https://api.example.test/big | wc -c").unwrap();
    assert_eq!(output.stdout.trim(), (4 << 20).to_string(), "{output}");
}

/// On loopback the kernel makes segments longer than an IPv6 header can say, and puts a header of its own before them. When the packet
/// program refused that, uploads crept.
#[test]
fn large_uploads_arrive_at_speed_in_both_families() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    for (family, uri) in [("-4", "/v1/notes?upload=4"), ("-6", "/v1/notes?upload=6")] {
        let url = format!("https://api.example.test{uri}");
        let line = format!(
            "head -c 33554432 /dev/zero | curl -sS {family} --http1.1 -X POST -H Expect: -T - '{url}'"
        );
        let output = daemon.shell("bot", &line).unwrap();
        assert!(output.ok() && output.stdout.contains(r#""credential":"right""#), "{output}");
    }
}
