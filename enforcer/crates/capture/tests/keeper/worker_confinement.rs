//! What a worker that was taken over cannot do. Each attempt first succeeds, or gets further, unconfined.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use crate::world::ROLES;

const EACCES: &str = "EACCES";
const EPERM: &str = "EPERM";
const OK: &str = "ok";
/// Unconfined the call gets as far as its arguments, which are nonsense.
const FURTHER: &str = "further";

/// Attempt, outcome unconfined, outcome confined. EACCES is Landlock's no, EPERM the filter's.
const ATTEMPTS: &[(&str, &str, &str)] = &[
    ("read /etc/shadow", OK, EACCES),
    ("read /etc/shadow through /proc", OK, EACCES),
    ("thread: read /etc/shadow", OK, EACCES),
    ("read a file outside", OK, EACCES),
    ("list a folder outside", OK, EACCES),
    ("write a file outside", OK, EACCES),
    ("write a policy", OK, EACCES),
    ("add a policy", OK, EACCES),
    ("remove a policy", OK, EACCES),
    ("own a policy", OK, EPERM),
    ("move a policy", OK, EACCES),
    ("link", OK, EPERM),
    ("open memory", OK, EACCES),
    ("change /proc", OK, EACCES),
    ("packet socket", OK, EPERM),
    ("vsock", OK, EPERM),
    ("netlink socket", OK, EPERM),
    ("unix socket", OK, EPERM),
    ("raw socket", OK, EPERM),
    ("unix datagrams", OK, EPERM),
    ("bind tcp", OK, EACCES),
    ("listen tcp", OK, EACCES),
    ("start a program", OK, EPERM),
    ("exec", FURTHER, EPERM),
    ("fork", OK, EPERM),
    ("signal", OK, EPERM),
    ("signal a thread", OK, EPERM),
    ("read memory", OK, EPERM),
    ("write memory", OK, EPERM),
    ("ptrace", OK, EPERM),
    ("take a descriptor", OK, EPERM),
    ("limit another", OK, EPERM),
    ("priority of another", OK, EPERM),
    ("new namespace", OK, EPERM),
    ("enter a namespace", FURTHER, EPERM),
    ("load bpf", FURTHER, EPERM),
    ("mount", FURTHER, EPERM),
    ("change root", FURTHER, EPERM),
    ("reboot", FURTHER, EPERM),
    ("open by handle", FURTHER, EPERM),
    ("personality", OK, EPERM),
    ("dumpable again", OK, EPERM),
    ("executable memory", OK, EPERM),
    ("io_uring", FURTHER, EPERM),
    ("newer than the list", "ENOSYS", "ENOSYS"),
    ("may: read policies", OK, OK),
    ("may: read /proc", OK, OK),
    ("may: read randomness", OK, OK),
    ("may: keep its own files", OK, OK),
    ("may: connect tcp", OK, OK),
    ("may: udp", OK, OK),
    ("may: pair of streams", OK, OK),
];

fn attempt(mode: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["policies", "worker", "outside"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    fs::write(dir.path().join("policies/bot.yaml"), "agent: bot\n").unwrap();
    fs::write(dir.path().join("policies/old.yaml"), "agent: old\n").unwrap();
    fs::write(dir.path().join("outside/file"), "not the worker's\n").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut victim = Command::new("/bin/sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
    let output = Command::new(ROLES)
        .arg("attempts")
        .arg(mode)
        .arg(dir.path())
        .arg(victim.id().to_string())
        .arg(listener.local_addr().unwrap().port().to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

fn outcomes(output: &Output) -> BTreeMap<String, String> {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.split_once(" = ").expect("every line has an outcome"))
        .map(|(name, outcome)| (name.to_owned(), outcome.to_owned()))
        .collect()
}

#[test]
fn a_worker_reaches_nothing_but_policies_its_own_files_and_the_network() {
    let free = outcomes(&attempt("free"));
    let output = attempt("confined");
    let confined = outcomes(&output);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.lines().any(|line| line.starts_with("confined (landlock ABI ")), "{said}");
    let mut wrong = Vec::new();
    for (name, without, with) in ATTEMPTS {
        let got =
            (free.get(*name).map_or("", String::as_str), confined.get(*name).map_or("", String::as_str));
        let further = *without == FURTHER && !got.0.is_empty() && ![EPERM, EACCES, "ENOSYS"].contains(&got.0);
        if !(further || got.0 == *without) || got.1 != *with {
            wrong.push(format!("{name}: {got:?} instead of {:?}", (without, with)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(free.len(), ATTEMPTS.len(), "every attempt is in the table");
}

#[test]
fn a_worker_with_threads_is_not_confined_by_halves() {
    let output = attempt("late");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("has 2 threads already"), "{said}");
}
