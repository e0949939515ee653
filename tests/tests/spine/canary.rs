//! A secret is in one place only: the log of the server it was for.
//!
//! Everything that the product leaves or shows is searched for the value, plain, in base64 and in hex.

use std::fs;
use std::path::Path;

use enforcer_tests::world::{World, processes};

use super::{serving, shared};

#[test]
fn the_secret_is_found_nowhere_but_upstream() {
    let world = World::new().unwrap();
    let daemon = serving(&world);
    let place = shared(&world);
    // An agent that uses every credential, keeps what it got, and then looks at itself.
    let script = format!(
        "curl -s https://api.example.test/v1/a > {place}/a; curl -s -i https://api.example.test/echo > {place}/b; \
         curl -s -i https://other.example.test/key/x > {place}/c; git clone -q https://git.example.test/project.git {place}/d; \
         cat /proc/self/environ > {place}/environ; \
         exec /usr/bin/python3 -c \"{MEMORY}\" {place}/memory"
    );
    let output = daemon.shell("bot", &script).unwrap();
    assert!(output.ok(), "{output}");
    assert!(
        fs::metadata(format!("{place}/memory")).unwrap().len() > 1 << 20,
        "the agent read its own memory"
    );
    assert!(
        world.seen().iter().any(|s| s.authorization.contains(&world.canaries.bearer)),
        "the credential was used"
    );
    assert!(world.seen().iter().any(|s| s.api_key == world.canaries.api_key));

    let mut found = Vec::new();
    let mut look = |place: &str, bytes: &[u8]| {
        for needle in needles(&world) {
            if bytes.windows(needle.len()).any(|w| w == needle) {
                found.push(place.to_owned());
            }
        }
    };
    look("the agent's output", output.all().as_bytes());
    look("the daemon's log", daemon.log_text().as_bytes());
    for words in [["logs", "--json"], ["receipts", "export"], ["secret", "ls"], ["status", "--json"]] {
        look(&words.join(" "), daemon.cli(&words).unwrap().all().as_bytes());
    }
    // Databases, write-ahead logs, receipts, sessions, settings; what the agent kept. Not the stage's servers.
    for dir in [
        &daemon.settings.state_dir,
        &daemon.settings.run_dir,
        &world.dir.join("etc"),
        &world.dir.join("shared"),
    ] {
        walk(dir, &mut |path, bytes| look(&path.display().to_string(), bytes));
    }
    for (pid, line) in processes(&world.name) {
        // nginx and the rest of the outside know their own passwords.
        if fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == world.bin("enforcer")) {
            look(&format!("argv of {pid}"), line.as_bytes());
            look(
                &format!("environment of {pid}"),
                &fs::read(format!("/proc/{pid}/environ")).unwrap_or_default(),
            );
        }
    }
    found.dedup();
    assert!(found.is_empty(), "a secret was found in: {found:#?}");
}

#[test]
fn the_search_would_find_it() {
    let world = World::new().unwrap();
    let mut hits = 0;
    walk(&world.dir.join("outside"), &mut |_, bytes| {
        hits += needles(&world).iter().filter(|n| bytes.windows(n.len()).any(|w| w == n.as_slice())).count();
    });
    assert!(hits > 0, "nginx's settings hold the values that it expects");
}

/// Reads every mapping of the process that it may read.
const MEMORY: &str = "\
import sys
out = open(sys.argv[1], 'wb')
mem = open('/proc/self/mem', 'rb', 0)
for line in open('/proc/self/maps'):
    at, mode = line.split()[0:2]
    if 'r' not in mode or '[v' in line: continue
    a, b = (int(x, 16) for x in at.split('-'))
    try:
        mem.seek(a); out.write(mem.read(b - a))
    except (OSError, ValueError): pass
";

/// Each value as it is, and in the codings that a careless log would use.
fn needles(world: &World) -> Vec<Vec<u8>> {
    let mut needles = Vec::new();
    for canary in world.canaries.all() {
        needles.push(canary.as_bytes().to_vec());
        needles.push(canary.bytes().map(|b| format!("{b:02x}")).collect::<String>().into_bytes());
    }
    needles.push(world.canaries.basic().into_bytes());
    needles
}

fn walk(dir: &Path, look: &mut impl FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            walk(&entry.path(), look);
        } else if kind.is_file() {
            look(&entry.path(), &fs::read(entry.path()).unwrap_or_default());
        }
    }
}
