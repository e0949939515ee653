//! The stage itself: it stands beside another, its servers are real, and nothing of it stays.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use enforcer_tests::world::{self, World, command, plan};

const LIMIT: Duration = Duration::from_secs(20);

/// What a client on the host needs when no product is there: the stage's authority and addresses.
fn curl(world: &World, words: &[&str]) -> command::Output {
    let ca = world.upstream_ca().display().to_string();
    let at = plan::SERVER_V4.to_string();
    let mut line = vec!["curl", "-sS", "--cacert", &ca, "--connect-to"];
    let to = format!("::{at}:");
    line.push(&to);
    line.extend(words);
    command::run(world.on_host(&line), LIMIT).unwrap()
}

#[test]
fn two_stages_stand_side_by_side_and_leave_nothing() {
    let (one, two) = (World::new().unwrap(), World::new().unwrap());
    for world in [&one, &two] {
        let bearer = format!("Authorization: Bearer {}", world.canaries.bearer);
        let answer = curl(world, &["-H", &bearer, "https://api.example.test/v1/hello"]);
        assert!(answer.stdout.contains(r#""credential":"right""#), "{answer}");
    }
    // The other stage's credential is not this one's.
    let bearer = format!("Authorization: Bearer {}", two.canaries.bearer);
    assert!(
        curl(&one, &["-H", &bearer, "https://api.example.test/"]).stdout.contains(r#""credential":"wrong""#)
    );
    let names = [one.name.clone(), two.name.clone()];
    drop(one);
    drop(two);
    for name in names {
        assert_eq!(world::leftovers(&name), Vec::<String>::new());
    }
}

#[test]
fn a_panic_leaves_nothing() {
    let name = std::thread::spawn(|| {
        let world = World::new().unwrap();
        let name = world.name.clone();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _world = world;
            panic!("a test fails while a stage stands");
        }));
        assert!(caught.is_err());
        name
    })
    .join()
    .unwrap();
    assert_eq!(world::leftovers(&name), Vec::<String>::new());
}

#[test]
fn a_killed_owner_leaves_nothing() {
    // The owner is this very test binary, told to build a stage, say its name and wait.
    if std::env::var_os("BUILD_A_STAGE_AND_WAIT").is_some() {
        let world = World::new().unwrap();
        std::fs::write(std::env::var_os("BUILD_A_STAGE_AND_WAIT").unwrap(), &world.name).unwrap();
        std::thread::sleep(LIMIT);
        return;
    }
    let told = std::env::temp_dir().join(format!("stage-owner-{}", std::process::id()));
    let me = std::env::current_exe().unwrap();
    let mut owner = std::process::Command::new(me)
        .args(["--exact", "a_killed_owner_leaves_nothing", "--nocapture"])
        .env("BUILD_A_STAGE_AND_WAIT", &told)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait("the owner has built its stage", || std::fs::read_to_string(&told).is_ok_and(|n| !n.is_empty()));
    let name = std::fs::read_to_string(&told).unwrap();
    assert!(!world::leftovers(&name).is_empty());
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait("the janitor has swept", || world::leftovers(&name).is_empty());
    std::fs::remove_file(told).unwrap();
}

#[test]
fn the_servers_outside_are_real() {
    let world = World::new().unwrap();
    // HTTP/2 and HTTP/1.1, a body that arrives, an echo, gzip, a redirect.
    let answer = curl(&world, &["--http2", "-w", "%{http_version}", "https://api.example.test/v1/x?a=1"]);
    assert!(answer.stdout.ends_with('2') && answer.stdout.contains("\"uri\":\"/v1/x?a=1\""), "{answer}");
    let answer = curl(&world, &["-d", "the body", "https://other.example.test/v1/items"]);
    assert!(answer.stdout.contains(r#""method":"POST""#), "{answer}");
    let seen = world.wait_seen(|s| s.method == "POST").unwrap();
    assert_eq!((seen.body.as_str(), seen.server.as_str()), ("the body", plan::OTHER));
    let answer = curl(
        &world,
        &["--compressed", "-i", "-H", "Authorization: Bearer zzz", "https://api.example.test/echo-gzip"],
    );
    assert!(
        answer.stdout.contains("content-encoding: gzip") && answer.stdout.contains("Bearer zzz"),
        "{answer}"
    );
    assert!(curl(&world, &["-i", "http://plain.example.test/"]).stdout.contains("200 OK"));
    let bad = curl(&world, &["https://badcert.example.test/"]);
    assert!(!bad.ok() && bad.stderr.contains("certificate"), "{bad}");

    // The log holds credentials, so it is root's alone.
    let log = world.dir.join("outside/access.log").display().to_string();
    let peek = command::run(world.unguarded(&["cat", &log]), LIMIT).unwrap();
    assert!(!peek.ok(), "{peek}");
}

#[test]
fn the_git_server_wants_its_password() {
    let world = World::new().unwrap();
    let ca = format!("http.sslCAInfo={}", world.upstream_ca().display());
    let at = format!("http.curloptResolve=git.example.test:443:{}", plan::SERVER_V4);
    let to = world.dir.join("clone").display().to_string();
    let git = |words: &[&str]| {
        let mut line =
            vec!["git", "-c", &ca, "-c", &at, "-c", "user.name=T", "-c", "user.email=t@example.test"];
        line.extend(words);
        let mut command = world.on_host(&line);
        command.env("GIT_TERMINAL_PROMPT", "0");
        command::run(command, LIMIT).unwrap()
    };
    let url = "https://git.example.test/project.git";
    assert!(!git(&["clone", url, &to]).ok(), "nobody may clone without the password");
    let header = format!("http.extraHeader=Authorization: Basic {}", world.canaries.basic());
    let answer = git(&["-c", &header, "clone", "-q", url, &to]);
    assert!(answer.ok(), "{answer}");
    assert!(git(&["-C", &to, "commit", "-q", "--allow-empty", "-m", "second"]).ok());
    let answer = git(&["-C", &to, "-c", &header, "push", "-q", "origin", "HEAD:refs/heads/topic"]);
    assert!(answer.ok(), "{answer}");
    assert!(!git(&["-C", &to, "push", "-q", "origin", "HEAD:refs/heads/stolen"]).ok());
}

#[test]
fn the_counter_sees_packets_and_silence() {
    let world = World::new().unwrap();
    let mark = world.sniffer.mark();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(world.sniffer.since(mark).len(), 0, "an idle stage is silent");
    let ping =
        command::run(world.on_host(&["ping", "-c", "1", "-W", "1", &plan::SERVER_V4.to_string()]), LIMIT);
    // Debian's ping may be missing on a small machine; a connection is a packet as well.
    if !ping.is_ok_and(|p| p.ok()) {
        curl(&world, &["https://api.example.test/"]);
    }
    assert!(!world.sniffer.since(mark).is_empty());
}

#[test]
fn names_are_served() {
    let world = World::new().unwrap();
    let script = "import socket,sys\n\
        s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(5)\n\
        q=b'\\x01\\x02\\x01\\x00\\x00\\x01'+b'\\0'*6+b'\\x03api\\x07example\\x04test\\0\\0\\x01\\0\\x01'\n\
        s.sendto(q,(sys.argv[1],53));print(socket.inet_ntoa(s.recv(512)[-4:]))";
    let server = plan::SERVER_V4.to_string();
    let answer = command::run(world.on_host(&["python3", "-c", script, &server]), LIMIT).unwrap();
    assert_eq!(answer.stdout.trim(), server, "{answer}");
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
