//! `enforcer attach` and `detach`, as a person uses them on what already runs: in steps, 1 without a guard it gets out, 2 attached
//! it goes through the injector and in no other way, 3 detached it is as before.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::time::{Duration, Instant};

use enforcer_tests::probes;
use enforcer_tests::world::container::{STAGE, UPSTREAM_CA};
use enforcer_tests::world::workload::Workload;
use enforcer_tests::world::{Daemon, Output, World, plan};

const LIMIT: Duration = Duration::from_secs(60);
const POLICY: &str = r#"
version: 1
agent: bot
credentials:
  api: { bearer: { secret: api-token, env: API_TOKEN } }
allow:
  - { name: read, host: api.example.test, methods: GET, paths: "/v1/**", credential: api }
"#;

/// An HTTPS request of the workload's. `ca`: what it trusts.
fn get(workload: &Workload<'_>, ca: &str, path: &str) -> String {
    let url = format!("https://{}/v1/{path}", plan::API);
    let resolve = format!("{}:443:{}", plan::API, plan::SERVER_V4);
    let words =
        ["curl", "-sS", "-m", "10", "--cacert", ca, "--resolve", &resolve, "-w", "%{http_code}", "-o"];
    let output = workload.run(&[&words[..], &["/dev/null", &url]].concat()).unwrap();
    output.all().trim().to_owned()
}

/// What the server saw of it: whether with the credential.
fn injected(world: &World, path: &str) -> Option<bool> {
    let wanted = format!("/v1/{path}");
    let seen = world.wait_seen(|seen| seen.uri == wanted)?;
    Some(format!("{seen:?}").contains(&world.canaries.bearer))
}

/// Every probe that would put a packet on the cable; names of those that did.
fn leaking(workload: &Workload<'_>) -> Vec<&'static str> {
    let world = workload.world;
    leaking_by(world, &world.bin("probe").display().to_string(), |words| workload.run(words))
}

fn leaking_by(
    world: &World,
    program: &str,
    run: impl Fn(&[String]) -> anyhow::Result<Output>,
) -> Vec<&'static str> {
    let (leaking, said) = probes::leaking(world, program, run).unwrap();
    println!("{said}");
    leaking
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn exported_ca(daemon: &Daemon<'_>) -> String {
    let path = daemon.world.dir.join("ca.pem");
    std::fs::write(&path, daemon.cli_ok(&["ca", "export"]).unwrap()).unwrap();
    path.display().to_string()
}

/// Root as in a container, on its own network.
#[test]
fn a_box_of_its_own_goes_through_the_injector_from_attach_to_detach() {
    let world = World::new().unwrap();
    let mut daemon = world.serving(POLICY).unwrap();
    let ours = exported_ca(&daemon);
    let theirs = world.upstream_ca().display().to_string();
    let workload = world.boxed("box").unwrap();
    let stays = workload.spawn(&["sleep", "300"]).unwrap();
    wait("it runs", || !std::fs::read_to_string(workload.cgroup.join("cgroup.procs")).unwrap().is_empty());

    // 1
    assert_eq!(get(&workload, &theirs, "before"), "200");
    assert_eq!(injected(&world, "before"), Some(false));
    let before = leaking(&workload);
    for name in ["tcp4", "tcp6", "udp-sendto", "icmp-raw", "raw-hdrincl", "packet", "igmp-join"] {
        assert!(before.contains(&name), "{name} proves nothing: {before:?}");
    }

    // 2
    let said = daemon.cli_ok(&["attach", "bot", "--cgroup", workload.path()]).unwrap();
    println!("{said}");
    assert_eq!(get(&workload, &ours, "attached"), "200");
    assert_eq!(injected(&world, "attached"), Some(true));
    let after = leaking(&workload);
    assert!(after.is_empty(), "{after:?}\n{}", daemon.log_text());
    let status = daemon.cli_ok(&["status"]).unwrap();
    println!("{status}");
    assert!(status.contains("(its own): programs, nftables, tcx at eth0"), "{status}");

    daemon.kill9().unwrap();
    let mark = world.sniffer.mark();
    assert!(get(&workload, &ours, "dead").contains("000"));
    assert!(world.sniffer.since(mark).is_empty());
    daemon.start().unwrap();
    assert_eq!(get(&workload, &ours, "again"), "200", "{}", daemon.log_text());
    assert_eq!(injected(&world, "again"), Some(true));
    assert!(daemon.cli_ok(&["status"]).unwrap().contains(workload.path()));

    // 3
    daemon.cli_ok(&["detach", "bot"]).unwrap();
    assert_eq!(get(&workload, &theirs, "after"), "200", "{}", daemon.log_text());
    assert_eq!(injected(&world, "after"), Some(false));
    for name in ["tcp6", "packet"] {
        assert!(leaks(&workload, name), "{name} does not get out any more");
    }
    assert!(!daemon.cli_ok(&["status"]).unwrap().contains(workload.path()));
    stays.abandon().unwrap();
}

/// An ordinary service, on the host's network: its loopback is the host's, and others use it, too.
#[test]
fn a_service_on_the_hosts_network_reaches_nothing_but_the_injector() {
    let world = World::new().unwrap();
    let daemon = world.serving(POLICY).unwrap();
    let ours = exported_ca(&daemon);
    let theirs = world.upstream_ca().display().to_string();
    let workload = world.service("svc", 61_991).unwrap();
    // Holds a TCP connection and a datagram socket from before, and tells what becomes of them.
    let old = format!(
        "import socket,time,sys\n\
         t=socket.create_connection(('{1}',443)); u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); u.connect(('{0}',4444))\n\
         print('open',flush=True)\n\
         try: t.settimeout(30); t.recv(64); print('end',flush=True)\n\
         except OSError as e: print('tcp',e.errno,flush=True)\n\
         try: u.send(b'x'); print('sent',flush=True)\n\
         except OSError as e: print('udp',e.errno,flush=True)\n\
         time.sleep(300)",
        plan::ATTACKER_V4,
        plan::SERVER_V4
    );
    let log = world.dir.join("old.log");
    let line = format!("exec python3 -c \"$0\" > {} 2>&1", log.display());
    std::fs::write(&log, "").unwrap();
    std::os::unix::fs::chown(&log, Some(61_991), None).unwrap();
    let stays = workload.spawn(&["sh", "-c", &line, &old]).unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    wait("its sockets are open", || said().contains("open"));

    // 1
    assert_eq!(get(&workload, &theirs, "before"), "200");
    assert_eq!(injected(&world, "before"), Some(false));
    for name in ["tcp4", "udp-sendto", "icmp-ping-dgram"] {
        assert!(leaks(&workload, name), "{name} proves nothing");
    }
    assert!(host_loopback(&workload), "the host's own service is within reach");

    // 2
    let said_json = daemon.cli_ok(&["attach", "bot", "--cgroup", workload.path(), "--json"]).unwrap();
    println!("{said_json}");
    assert!(said_json.contains("\"weak\"") && said_json.contains("shares a network namespace"));
    let status = daemon.cli_ok(&["status"]).unwrap();
    assert!(status.contains("no trust: it shares the host's file system"), "{status}");
    // ECONNABORTED
    wait("the connection of before is ended", || said().contains("tcp 103"));
    wait("the datagram socket of before as well", || said().contains("udp"));
    assert!(!said().contains("sent"), "{}", said());
    assert_eq!(get(&workload, &ours, "attached"), "200", "{}", daemon.log_text());
    assert_eq!(injected(&world, "attached"), Some(true));
    let after = leaking(&workload);
    assert!(after.is_empty(), "{after:?}\n{}", daemon.log_text());
    assert!(!host_loopback(&workload), "loopback is the host's, not the agent's");
    // Names are answered by the policy, whatever server is asked.
    let dig = |name: &str| workload.run(&["python3", "-c", LOOK_UP, name]).unwrap().all();
    assert!(dig(plan::API).contains(&plan::SERVER_V4.to_string()), "{}", dig(plan::API));
    assert!(!dig(plan::OTHER).contains(&plan::SERVER_V4.to_string()));
    // Others on the host are as before, and get nothing at the injector's and the resolver's ports.
    let other = world.service("other", 61_992).unwrap();
    assert!(leaks(&other, "tcp4") && host_loopback(&other));
    for port in ["924", "925"] {
        let knock = other.run(&["python3", "-c", KNOCK, port]).unwrap().all();
        assert!(knock.trim().is_empty() || knock.contains("errno"), "port {port}: {knock}");
    }
    // An agent's process cannot use the tool.
    let config = daemon.config.display().to_string();
    let tool = world.bin("enforcer").display().to_string();
    let inside = workload.run(&[&tool, "--config", &config, "status"]).unwrap();
    assert!(!inside.ok(), "{inside}");

    // 3
    daemon.cli_ok(&["detach", "bot"]).unwrap();
    assert_eq!(get(&workload, &theirs, "after"), "200", "{}", daemon.log_text());
    assert_eq!(injected(&world, "after"), Some(false));
    assert!(leaks(&workload, "udp-sendto") && host_loopback(&workload));
    let tables = world.on_host(&["nft", "list", "tables"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&tables.stdout).trim(), "", "a table is left");
    stays.abandon().unwrap();
}

/// With mounts of its own, as in a container: it trusts us where it reads its roots, and the host is not touched.
#[test]
fn a_workload_with_its_own_mounts_trusts_us_until_it_is_detached() {
    let world = World::new().unwrap();
    let daemon = world.serving(POLICY).unwrap();
    let mut workload = world.boxed("box").unwrap();
    let plain = workload.who.clone();
    let before_it = |words: &[&str]| -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).chain(plain.iter().cloned()).collect()
    };
    workload.who = before_it(&["unshare", "--mount", "--propagation", "private"]);
    let stays = workload.spawn(&["sleep", "300"]).unwrap();
    let procs = workload.cgroup.join("cgroup.procs");
    let first = || {
        let text = std::fs::read_to_string(&procs).unwrap();
        let ours = |pid: &&str| {
            let here = std::fs::read_link("/proc/self/ns/mnt").unwrap();
            std::fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|there| there != here)
        };
        text.lines().find(ours).map(str::to_owned)
    };
    wait("it has mounts of its own", || first().is_some());
    let pid = first().unwrap();
    let roots = |pid: &str| {
        let path = format!("/proc/{pid}/root/etc/ssl/certs/ca-certificates.crt");
        std::fs::read_to_string(path).unwrap()
    };
    let (before, host) = (roots(&pid), roots("self"));
    // As `docker exec` would: in its mounts, without a word about certificates.
    workload.who = before_it(&["nsenter", &format!("--mount=/proc/{pid}/ns/mnt"), "--"]);
    let url = format!("https://{}/v1/trusted", plan::API);
    let resolve = format!("{}:443:{}", plan::API, plan::SERVER_V4);
    let words = ["curl", "-sS", "-m", "10", "--resolve", &resolve, "-o", "/dev/null", &url];
    let fetch = || workload.run(&words).unwrap();
    assert!(!fetch().ok(), "the servers of the stage are signed by nobody known");

    let said = daemon.cli_ok(&["attach", "bot", "--cgroup", workload.path()]).unwrap();
    println!("{said}");
    assert!(said.contains("trust     /etc/ssl/certs"), "{said}\n{}", daemon.log_text());
    assert!(fetch().ok(), "{}\n{}", fetch(), daemon.log_text());
    assert_eq!(injected(&world, "trusted"), Some(true));
    assert_ne!(roots(&pid), before);
    assert_eq!(roots("self"), host, "the host's own store is as it was");

    daemon.cli_ok(&["detach", "bot"]).unwrap();
    assert_eq!(roots(&pid), before);
    assert!(!fetch().ok());
    stays.abandon().unwrap();
}

/// Containers of an engine's, by the cgroup that they were started below, with everything of their own: file system, mounts,
/// processes, network; root inside, with Docker's capabilities.
#[test]
fn containers_below_a_cgroup_are_governed_with_their_own_files_and_network() {
    let world = World::new().unwrap();
    let mut daemon = world.serving(POLICY).unwrap();
    let pod = world.pod().unwrap();
    pod.start("first", &["sleep", "600"]).unwrap();
    let probe = format!("{STAGE}/probe");
    let resolve = format!("{}:443:{}", plan::API, plan::SERVER_V4);
    let get_in = |container: &str, path: &str, more: &[&str]| {
        let url = format!("https://{}/v1/{path}", plan::API);
        let mut words =
            vec!["curl", "-sS", "-m", "10", "--resolve", &resolve, "-w", "%{http_code}", "-o", "/dev/null"];
        words.extend(more);
        words.push(&url);
        pod.exec(container, &words).unwrap().all().trim().to_owned()
    };
    let get = |path: &str, more: &[&str]| get_in("first", path, more);
    let roots_in =
        |container: &str| pod.exec(container, &["cat", "/etc/ssl/certs/ca-certificates.crt"]).unwrap().stdout;
    let roots = || roots_in("first");
    let (theirs, plain) = (["--cacert", UPSTREAM_CA], roots());
    let leaks = |name: &str| {
        let mark = world.sniffer.mark();
        let (v4, v6) = (format!("v4={}", plan::ATTACKER_V4), format!("v6={}", plan::ATTACKER_V6));
        println!("{}", pod.exec("first", &[probe.as_str(), name, &v4, &v6]).unwrap().all().trim());
        !world.sniffer.since(mark).is_empty()
    };

    // 1
    assert_eq!(get("before", &theirs), "200");
    assert_eq!(injected(&world, "before"), Some(false));
    let before = leaking_by(&world, &probe, |words| pod.exec("first", words));
    for name in ["tcp4", "tcp6", "udp-sendto", "icmp-raw", "raw-hdrincl", "packet", "igmp-join"] {
        assert!(before.contains(&name), "{name} proves nothing: {before:?}");
    }

    // 2
    let said = daemon.cli_ok(&["attach", "bot", "--cgroup", pod.path()]).unwrap();
    println!("{said}");
    assert!(said.contains("trust     /etc/ssl/certs"), "{said}\n{}", daemon.log_text());
    // Without a word about certificates.
    assert_eq!(get("attached", &[]), "200", "{}", daemon.log_text());
    assert_eq!(injected(&world, "attached"), Some(true));
    let after = leaking_by(&world, &probe, |words| pod.exec("first", words));
    assert!(after.is_empty(), "{after:?}\n{}", daemon.log_text());
    let status = daemon.cli_ok(&["status"]).unwrap();
    assert!(status.contains("(its own): programs, nftables, tcx at eth0"), "{status}");
    // One that starts later is governed from its first instruction.
    let mark = world.sniffer.mark();
    let target = format!("v4={}", plan::ATTACKER_V4);
    for route in ["udp-sendto", "packet"] {
        let again = format!("while :; do \"$@\" >> /tmp/{route}; sleep 0.1; done");
        pod.start(route, &["sh", "-c", &again, "again", &probe, route, &target]).unwrap();
        wait("it has tried", || pod.file(&format!("tmp/{route}")).lines().count() > 2);
    }
    let packets = world.sniffer.since(mark);
    assert!(packets.is_empty(), "{packets:?}");
    // And trusts us, without a word to its file system: nobody attached it.
    pod.start("later", &["sleep", "600"]).unwrap();
    wait("it trusts us", || get_in("later", "later", &[]) == "200");
    assert_eq!(injected(&world, "later"), Some(true));
    assert_ne!(roots_in("later"), plain);
    let status = daemon.cli_ok(&["status"]).unwrap();
    assert!(!status.contains("no trust:"), "{status}");
    // Also one that was served by an earlier daemon.
    daemon.restart().unwrap();
    pod.start("last", &["sleep", "600"]).unwrap();
    wait("it trusts us", || get_in("last", "last", &[]) == "200");

    // 3
    daemon.cli_ok(&["detach", "bot"]).unwrap();
    for container in ["first", "later", "last"] {
        assert_eq!(roots_in(container), plain, "{container}");
    }
    assert!(!get("after", &[]).contains("200"));
    assert_eq!(get("after", &theirs), "200", "{}", daemon.log_text());
    assert_eq!(injected(&world, "after"), Some(false));
    for name in ["tcp6", "packet"] {
        assert!(leaks(name), "{name} does not get out any more");
    }
}

/// By what a person knows of it, which leads to its cgroup with all that runs there.
#[test]
fn a_container_is_named_by_its_id_and_anything_by_a_process_of_it() {
    let world = World::new().unwrap();
    let daemon = world.serving(POLICY).unwrap();
    let ours = exported_ca(&daemon);
    let pod = world.pod().unwrap();
    // Runtimes name the cgroup after the whole id.
    let part = format!("{:024x}", std::process::id());
    let id = format!("{part:0>64}");
    pod.start(&id, &["sleep", "600"]).unwrap();
    let said = daemon.cli_ok(&["attach", "bot", "--container", &part]).unwrap();
    assert!(said.contains(&format!("{}/{id}", pod.path())), "{said}");
    daemon.cli_ok(&["detach", "bot"]).unwrap();

    let workload = world.boxed("box").unwrap();
    let stays = workload.spawn(&["sleep", "300"]).unwrap();
    let first = || std::fs::read_to_string(workload.cgroup.join("cgroup.procs")).unwrap();
    wait("it runs", || !first().is_empty());
    let said = daemon.cli_ok(&["attach", "bot", "--pid", first().lines().next().unwrap()]).unwrap();
    assert!(said.contains(workload.path()), "{said}");
    wait("it is served", || get(&workload, &ours, "by-pid") == "200");
    assert_eq!(injected(&world, "by-pid"), Some(true));
    stays.abandon().unwrap();
}

/// A namespace that comes later is refused first, told to the keeper by the kernel, and then listened in.
#[test]
fn a_new_namespace_is_refused_until_it_is_listened_in_and_the_end_of_the_cgroup_ends_the_session() {
    let world = World::new().unwrap();
    let daemon = world.serving(POLICY).unwrap();
    let ours = exported_ca(&daemon);
    let workload = world.boxed("box").unwrap();
    daemon.cli_ok(&["attach", "bot", "--cgroup", workload.path()]).unwrap();
    // Nothing ran in it: the first connect is the first that is heard of its namespace.
    let stays = workload.spawn(&["sleep", "300"]).unwrap();
    wait("it is served", || get(&workload, &ours, "later") == "200");
    assert_eq!(injected(&world, "later"), Some(true));
    // The very first try, in a namespace that nobody has seen: EPERM, with an event.
    let script = format!(
        "ip link set lo up; python3 -c \"$0\" {}; sleep 3; python3 -c \"$0\" {}",
        plan::SERVER_V4,
        plan::SERVER_V4
    );
    let apart = world
        .on_host(&[
            "sh",
            "-c",
            &format!("echo 0 > {}/cgroup.procs; exec unshare -n sh -c \"$@\"", workload.path()),
            "x",
            &script,
            CONNECT,
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&apart.stdout).into_owned();
    assert_eq!(
        said.split_whitespace().collect::<Vec<_>>(),
        ["1", "connected"],
        "{said}\n{}",
        daemon.log_text()
    );
    let receipts = daemon.receipts().unwrap();
    assert!(receipts.iter().any(|r| r["reason"] == "unknown_netns" && r["agent"] == "bot"), "{receipts:?}");

    stays.abandon().unwrap();
    workload.kill().unwrap();
    wait("the cgroup is gone", || std::fs::remove_dir(&workload.cgroup).is_ok());
    wait("its session has ended", || !daemon.cli_ok(&["status"]).unwrap().contains("attached"));
}

#[test]
fn what_cannot_be_attached_is_refused_with_a_reason() {
    let world = World::new().unwrap();
    let daemon = world.serving(POLICY).unwrap();
    let workload = world.boxed("box").unwrap();
    let root = enforcer_tests::world::cgroup_root().unwrap();
    let inside = root.join(&daemon.settings.managed_root).display().to_string();
    for (words, reason) in [
        (&["bot", "--cgroup", root.to_str().unwrap()][..], "no cgroup below"),
        (&["bot", "--cgroup", &inside], "managed root"),
        (&["bot", "--cgroup", "/nowhere"], "cannot look at the cgroup"),
        (&["nobody", "--cgroup", workload.path()], "no policy in force"),
        (&["bot", "--unit", "nothing.service"], "nothing.service"),
        (&["bot", "--container", "abcdefabcdef"], "no running container"),
        (&["bot", "--pid", "1"], "root of the cgroup hierarchy"),
    ] {
        let output = daemon.cli(&[&["attach"], words].concat()).unwrap();
        assert_eq!(output.code, Some(1), "{output}");
        assert!(output.stderr.contains(reason), "{output}");
    }
    daemon.cli_ok(&["attach", "bot", "--cgroup", workload.path()]).unwrap();
    let again = daemon.cli(&["attach", "bot", "--cgroup", workload.path()]).unwrap();
    assert!(!again.ok() && again.stderr.contains("attached already"), "{again}");
    assert!(!daemon.cli(&["detach", "nobody"]).unwrap().ok());
}

/// Whoever runs would be free: `unmanage` waits for their end.
#[test]
fn unmanage_lets_go_of_nothing_while_somebody_runs_in_an_attached_cgroup() {
    let world = World::new().unwrap();
    let mut daemon = world.serving(POLICY).unwrap();
    let workload = world.service("svc", 61_991).unwrap();
    let stays = workload.spawn(&["sleep", "300"]).unwrap();
    wait("it runs", || !std::fs::read_to_string(workload.cgroup.join("cgroup.procs")).unwrap().is_empty());
    assert!(leaks(&workload, "tcp4"));
    daemon.cli_ok(&["attach", "bot", "--cgroup", workload.path()]).unwrap();
    daemon.stop().unwrap();

    for words in [&["unmanage"][..], &["unmanage", "--yes"]] {
        let refused = daemon.cli(words).unwrap();
        assert_eq!(refused.code, Some(1), "{refused}");
        assert!(refused.stderr.contains(workload.path()), "{refused}");
        assert!(refused.stderr.contains("enforcer detach bot-"), "{refused}");
    }
    assert!(!leaks(&workload, "tcp4"), "it holds without a daemon, and after a refusal");

    // Its record is lost: the kernel knows all the same.
    for record in std::fs::read_dir(daemon.settings.run_dir.join("sessions")).unwrap().flatten() {
        std::fs::remove_file(record.path()).unwrap();
    }
    assert_eq!(daemon.cli(&["unmanage", "--yes"]).unwrap().code, Some(1));
    workload.kill().unwrap();
    stays.abandon().unwrap();
    let empty = || std::fs::read_to_string(workload.cgroup.join("cgroup.procs")).unwrap().is_empty();
    wait("nothing runs in it", empty);
    daemon.cli_ok(&["unmanage", "--yes"]).unwrap();
    assert!(!daemon.settings.pins.exists());
    let tables = world.on_host(&["nft", "list", "tables"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&tables.stdout).trim(), "", "a table is left");
    assert!(leaks(&workload, "tcp4"), "what is started in it now is nobody's agent");
}

const CONNECT: &str = "import socket, sys\n\
    try:\n  s = socket.socket(); s.settimeout(3); s.connect((sys.argv[1], 443)); print('connected')\n\
    except OSError as e: print(e.errno)";
const KNOCK: &str = "import socket, sys\n\
    try:\n  s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 3); s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\n  print(s.recv(99).decode())\n\
    except OSError as e: print('errno', e.errno)";
const LOOK_UP: &str = "import socket, sys, struct\n\
    q = struct.pack('>6H', 7, 256, 1, 0, 0, 0) + b''.join(bytes([len(p)]) + p.encode() for p in sys.argv[1].split('.')) + b'\\0\\0\\1\\0\\1'\n\
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.sendto(q, ('203.0.113.53', 53)); a, f = s.recvfrom(999)\n\
    print(f[0], '.'.join(map(str, a[-4:])))";

fn host_loopback(workload: &Workload<'_>) -> bool {
    let port = plan::HOST_LOOPBACK_PORT.to_string();
    let script = "import socket, sys\n\
        try:\n  s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 3); print(s.recv(99).decode())\n\
        except OSError as e: print(e.errno)";
    workload.run(&["python3", "-c", script, &port]).unwrap().stdout.contains(plan::BANNER)
}

fn leaks(workload: &Workload<'_>, name: &str) -> bool {
    let world = workload.world;
    let mark = world.sniffer.mark();
    let probe = world.bin("probe").display().to_string();
    let (v4, v6) = (format!("v4={}", plan::ATTACKER_V4), format!("v6={}", plan::ATTACKER_V6));
    println!("{}", workload.run(&[&probe, name, &v4, &v6]).unwrap().all().trim());
    !world.sniffer.since(mark).is_empty()
}
