//! The steps of the show, in order. Each says what is coming, does it, and checks it.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::Result;
use enforcer_tests::packet::Packet;
use enforcer_tests::probes::judge;
use enforcer_tests::world::{Daemon, Output, World, command, plan};

use super::screen::Screen;

const POLICY: &str = r#"version: 1
agent: demo
credentials:
  api: { bearer: { secret: api-token, env: API_TOKEN } }
  git: { basic: { username: bot, secret: git-password, env: GIT_PASSWORD } }
allow:
  - { name: read, host: api.example.test, methods: [GET], paths: ["/v1/**", "/echo"], credential: api }
  - { name: create, host: api.example.test, methods: POST, paths: "/v1/items", credential: api, rate: 5/hour }
  - { name: git, host: git.example.test, methods: [GET, POST], paths: "/project.git/**", credential: git }
"#;

/// One waits this long for a thing that takes milliseconds.
const SOON: Duration = Duration::from_secs(10);

/// What a step may use and change.
pub(super) struct Stage<'w> {
    world: &'w World,
    daemon: Daemon<'w>,
    screen: &'w Screen,
}

type Step = fn(&mut Stage<'_>) -> Result<()>;

pub(super) const STEPS: &[Step] = &[
    policy_and_secret,
    injected,
    python,
    git,
    refused_method,
    rate,
    scrubbed,
    raw_egress,
    kill_and_restart,
    receipts,
];

/// Builds nothing: the stage stands. Starts the daemon and plays every step.
pub(super) fn play(world: &World, screen: &Screen) -> Result<()> {
    let daemon = world.configured(&[("demo", POLICY)])?;
    let mut stage = Stage { world, daemon, screen };
    for step in STEPS {
        step(&mut stage)?;
    }
    Ok(())
}

impl Stage<'_> {
    /// Shows `enforcer run demo -- WORDS`, runs it, shows what it said.
    fn agent(&self, words: &[&str]) -> Result<Output> {
        let line: Vec<String> = words.iter().map(|w| shell(w)).collect();
        self.screen.typed(&format!("enforcer run demo -- {}", line.join(" ")));
        let output = self.daemon.run_agent("demo", words)?;
        self.screen.output(&output);
        Ok(output)
    }

    fn says_no_canary(&self, output: &Output) -> bool {
        self.world.canaries.all().iter().all(|canary| !output.all().contains(canary))
    }
}

fn policy_and_secret(stage: &mut Stage<'_>) -> Result<()> {
    let screen = stage.screen;
    screen.headline(
        "A daemon, a policy, a secret",
        "The policy is the only thing that allows; the secret goes from standard input into the vault.",
    );
    screen.typed("cat policies/demo.yaml");
    screen.text(POLICY);
    screen.typed("enforcer policy check policies/demo.yaml");
    let file = stage.daemon.settings.policy_dir.join("demo.yaml").display().to_string();
    let checked = stage.daemon.cli(&["policy", "check", &file])?;
    screen.output(&checked);
    screen.check("the policy is valid", checked.ok());

    screen.typed("enforcer daemon --config enforcer.yaml &");
    stage.daemon.start()?;
    let (keepers, workers) = (stage.daemon.ours(&["daemon"]), stage.daemon.ours(&["worker"]));
    screen.check(
        &format!("keeper {keepers:?} runs, and its worker {workers:?}, which has no privilege"),
        keepers.len() == 1 && workers.len() == 1,
    );

    for (name, host, value) in [
        ("api-token", plan::API, &stage.world.canaries.bearer),
        ("git-password", plan::GIT, &stage.world.canaries.git_password),
    ] {
        screen.typed(&format!("enforcer secret set {name} --host {host} < the-value"));
        stage.daemon.secret_set(name, host, value)?;
    }
    screen.typed("enforcer secret ls");
    let list = stage.daemon.cli(&["secret", "ls"])?;
    screen.output(&list);
    let listed = list.ok() && ["api-token", "git-password"].iter().all(|name| list.stdout.contains(name));
    screen.check("the vault lists both, without their values", listed && stage.says_no_canary(&list));
    Ok(())
}

fn injected(stage: &mut Stage<'_>) -> Result<()> {
    let screen = stage.screen;
    screen.headline(
        "A call that succeeds with a key the agent never sees",
        "The agent sends no credential. The server says which one it got.",
    );
    let output = stage.agent(&["curl", "-s", "https://api.example.test/v1/hello"])?;
    screen.check("the server got the right credential", output.stdout.contains(r#""credential":"right""#));
    let bearer = format!("Bearer {}", stage.world.canaries.bearer);
    let logged = stage.world.wait_seen(|s| s.uri == "/v1/hello" && s.authorization == bearer);
    screen.check("its own log says so, too", logged.is_some());
    let variable = stage.agent(&["sh", "-c", "echo \"API_TOKEN=$API_TOKEN\"; id -u; ls /sys/class/net"])?;
    screen.check("what the agent holds is a placeholder", variable.stdout.contains("API_TOKEN=enf-"));
    screen.check(
        "the key is in nothing the agent saw",
        stage.says_no_canary(&output) && stage.says_no_canary(&variable),
    );
    Ok(())
}

fn python(stage: &mut Stage<'_>) -> Result<()> {
    let screen = stage.screen;
    screen.headline(
        "Python requests, unchanged",
        "The agent puts its placeholder where the key belongs; it is swapped on the way.",
    );
    let script = "import os, requests\n\
        r = requests.get('https://api.example.test/v1/from-python', headers={'Authorization': 'Bearer ' + os.environ['API_TOKEN']})\n\
        print(r.status_code, r.json()['credential'])";
    let output = stage.agent(&["/usr/bin/python3", "-c", script])?;
    screen.check("200, with the right credential", output.stdout.trim() == "200 right");
    screen.check("the key is in nothing the agent saw", stage.says_no_canary(&output));
    Ok(())
}

fn git(stage: &mut Stage<'_>) -> Result<()> {
    let screen = stage.screen;
    screen.headline(
        "git clone and git push over HTTPS",
        "The server is git's own http-backend behind nginx, and asks for a password.",
    );
    let place = shared(stage.world)?;
    let clone = format!("{place}/project");
    let output = stage.agent(&["git", "clone", "https://git.example.test/project.git", &clone])?;
    screen.check("cloned", output.ok());
    let push = format!(
        "cd {clone} && git -c user.name=Agent -c user.email=agent@example.test commit -q --allow-empty -m 'by the agent' && git push origin HEAD:refs/heads/by-agent"
    );
    let output = stage.agent(&["sh", "-c", &push])?;
    screen.check("pushed", output.ok());
    let bare = stage.world.dir.join("outside/git/project.git").display().to_string();
    let there =
        command::must(&["git", "-C", &bare, "log", "-1", "--format=%s", "by-agent"]).unwrap_or_default();
    screen.check("the commit is in the server's repository", there.trim() == "by the agent");
    Ok(())
}

fn refused_method(stage: &mut Stage<'_>) -> Result<()> {
    let screen = stage.screen;
    screen.headline(
        "A method that no rule allows",
        "The answer is one that an agent can read and act on, not a dead socket.",
    );
    let output = stage.agent(&[
        "curl",
        "-s",
        "-w",
        "\\n%{http_code}\\n",
        "-X",
        "DELETE",
        "https://api.example.test/v1/items/7",
    ])?;
    screen.check(
        "403 with a reason in JSON",
        output.stdout.trim_end().ends_with("403") && output.stdout.contains("\"error\""),
    );
    let reached = stage.world.seen().iter().any(|s| s.method == "DELETE");
    screen.check("the server was not asked", !reached);
    Ok(())
}

fn rate(stage: &mut Stage<'_>) -> Result<()> {
    let screen = stage.screen;
    screen.headline("The sixth call of a 5/hour rule", "Five pass. The sixth is told when to come back.");
    let script = "for i in 1 2 3 4 5; do curl -s -o /dev/null -w '%{http_code} ' -d x https://api.example.test/v1/items; done; \
                  echo; curl -s -i -d x https://api.example.test/v1/items";
    let output = stage.agent(&["sh", "-c", script])?;
    let lower = output.stdout.to_lowercase();
    screen.check("five times 200", output.stdout.starts_with("200 200 200 200 200"));
    screen.check("then 429 with Retry-After", lower.contains(" 429") && lower.contains("retry-after:"));
    let posts = || stage.world.seen().iter().filter(|s| s.method == "POST" && s.uri == "/v1/items").count();
    screen.check("the server was asked five times", wait(|| posts() == 5));
    Ok(())
}

fn scrubbed(stage: &mut Stage<'_>) -> Result<()> {
    let screen = stage.screen;
    screen.headline(
        "A server that sends the key back",
        "This one echoes what it was sent, in a header and in the body.",
    );
    let output = stage.agent(&["curl", "-s", "-i", "https://api.example.test/echo"])?;
    let echoed =
        stage.world.wait_seen(|s| s.uri == "/echo" && s.authorization.contains(&stage.world.canaries.bearer));
    screen.check(
        "the server had it, the agent does not get it back",
        echoed.is_some() && output.ok() && stage.says_no_canary(&output),
    );
    Ok(())
}

fn raw_egress(stage: &mut Stage<'_>) -> Result<()> {
    let screen = stage.screen;
    screen.headline(
        "Every other way out",
        "The same programme first without a guard, then as an agent. A packet counter outside is the judge.",
    );
    let ways = [
        ("tcp-other-port", "TCP to another port"),
        ("udp-sendto", "UDP"),
        ("icmp-ping-dgram", "ICMP"),
        ("quic-443", "QUIC"),
        ("dns-tunnel", "data in a DNS name"),
        ("metadata", "the cloud metadata address"),
        ("host-loopback", "the host's own loopback services"),
    ];
    let probe = stage.world.bin("probe").display().to_string();
    let line = |name: &'static str| {
        [
            probe.clone(),
            name.to_owned(),
            format!("v4={}", plan::ATTACKER_V4),
            format!("v6={}", plan::ATTACKER_V6),
        ]
    };
    screen.typed("probe NAME");
    let mut leaked = Vec::new();
    for (name, _) in ways {
        let mark = stage.world.sniffer.position();
        let off = command::run(stage.world.unguarded(&line(name)), SOON)?;
        leaked.push(match judge(name) {
            Some(wanted) => stage.world.sniffer.saw(mark, Duration::from_millis(500), wanted),
            None => off.ok(),
        });
    }
    screen.check("without the guard all of them get out", leaked.iter().all(|l| *l));
    screen.typed("enforcer run demo -- probe NAME");
    for (name, what) in ways {
        let mark = stage.world.sniffer.mark();
        let on = stage.daemon.run_agent("demo", &line(name))?;
        let packets: Vec<_> =
            stage.world.sniffer.since(mark).into_iter().filter(|p| !to_servers(p)).collect();
        packets.iter().for_each(|packet| screen.text(&packet.to_string()));
        let said = on.stdout.trim().trim_start_matches(name).trim_start_matches(": ");
        let said: String = said.chars().take(70).collect();
        let held = matches!(on.code, Some(1 | 3)) && packets.is_empty();
        screen.check(&format!("{what}: {} packets ({said})", packets.len()), held);
    }
    Ok(())
}

fn kill_and_restart(stage: &mut Stage<'_>) -> Result<()> {
    let screen = stage.screen;
    screen.headline(
        "kill -9",
        "An agent keeps calling while every process of the daemon is killed, and when it is started again.",
    );
    let log = format!("{}/loop", shared(stage.world)?);
    let script = format!(
        "while :; do curl -s -o /dev/null -m 2 -w '%{{http_code}}\\n' https://api.example.test/v1/loop; sleep 0.2; done > {log} 2>&1"
    );
    screen.typed("enforcer run demo -- sh -c 'while :; do curl https://api.example.test/v1/loop; done' &");
    let agent = stage.daemon.spawn_agent("demo", &["sh", "-c", &script])?;
    screen.check("it gets 200s", wait(|| last(&log) == "200"));

    let killed = stage.daemon.kill9()?;
    screen
        .typed(&format!("kill -9 {}", killed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")));
    screen.check("the agent runs on and gets nothing (curl says 000)", wait(|| last(&log) == "000"));
    let mark = stage.world.sniffer.mark();
    std::thread::sleep(Duration::from_secs(2));
    let packets = stage.world.sniffer.since(mark).len();
    screen.check(&format!("{packets} packets left while the daemon was dead"), packets == 0);

    screen.typed("enforcer daemon --config enforcer.yaml &");
    stage.daemon.start()?;
    screen.check("the new daemon picks the running agent up: 200s again", wait(|| last(&log) == "200"));
    // The agent itself goes with the stage.
    agent.abandon()
}

fn receipts(stage: &mut Stage<'_>) -> Result<()> {
    let screen = stage.screen;
    screen.headline("Receipts", "One for each operation, refused ones too, chained by their hashes.");
    for words in [["receipts", "ls"], ["receipts", "verify"]] {
        screen.typed(&format!("enforcer {}", words.join(" ")));
        let output = stage.daemon.cli(&words)?;
        screen.output(&output);
        screen.check(
            &format!("`{}` succeeds and shows no key", words.join(" ")),
            output.ok() && stage.says_no_canary(&output),
        );
    }
    Ok(())
}

/// Connections that the daemon keeps open to servers it was allowed to call may close at any time.
fn to_servers(packet: &Packet) -> bool {
    let servers = [IpAddr::from(plan::SERVER_V4), IpAddr::from(plan::SERVER_V6)];
    packet.ip.is_some_and(|ip| servers.contains(&ip.destination) && ip.destination_port == 443)
}

/// A directory that the agent's user may write to.
fn shared(world: &World) -> Result<String> {
    let dir = world.dir.join("shared");
    fs::create_dir_all(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777))?;
    Ok(dir.display().to_string())
}

fn last(log: &str) -> String {
    fs::read_to_string(log).unwrap_or_default().lines().last().unwrap_or_default().to_owned()
}

fn wait(done: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + SOON;
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%\\{}".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
