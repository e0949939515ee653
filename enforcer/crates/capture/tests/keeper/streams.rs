//! The stand-in: streams, exit codes, signals, terminals.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;

use crate::world::{World, eventually};

#[test]
fn the_command_ends_as_if_it_ran_directly() {
    let world = World::started();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
        assert_eq!(world.run(&["/bin/sh", "-c", script]).status.code(), Some(code), "{script}");
    }
    let missing = world.run(&["no-such-command-here"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("`no-such-command-here`: command not found"));
    let plain = world.run(&["/etc/passwd"]);
    assert_eq!(plain.status.code(), Some(126));
    assert_eq!(world.run(&["printf", "%s|", "a b", "", "c"]).stdout, b"a b||c|");
    world.await_clean();
}

#[test]
fn pipes_pass_straight_through() {
    let world = World::started();
    let mut child = world
        .command("bot", None, &["/bin/sh", "-c", "cat; echo oops >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn({
        let bytes = bytes.clone();
        move || stdin.write_all(&bytes).unwrap()
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(output.stdout, bytes);
    assert_eq!(output.stderr, b"oops\n");

    let file = world.dir.path().join("out");
    let status = world
        .command("bot", None, &["/bin/echo", "into a file"])
        .stdout(fs::File::create(&file).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(fs::read_to_string(file).unwrap(), "into a file\n");
}

fn started_and_ready(mut command: Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (child, output)
}

#[test]
fn signals_reach_the_agent() {
    let world = World::started();
    for (signal, name) in [
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let script = format!("trap 'echo got; exit 9' {name}; echo ready; while :; do sleep 0.1; done");
        let (mut child, mut output) =
            started_and_ready(world.command("bot", None, &["/bin/sh", "-c", &script]));
        rustix::process::kill_process(Pid::from_child(&child), signal).unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("got\n", Some(9)), "{name}");
    }
    let (mut child, _output) =
        started_and_ready(world.command("bot", None, &["/bin/sh", "-c", "echo ready; exec sleep 60"]));
    rustix::process::kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

fn state(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().unwrap_or_default().trim().chars().take(1).collect()
}

#[test]
fn stopping_and_continuing_the_stand_in_stops_and_continues_the_agent() {
    let world = World::started();
    let (mut child, _output) =
        started_and_ready(world.command("bot", None, &["/bin/sh", "-c", "echo ready; exec sleep 60"]));
    eventually("the record is complete", || world.file("log").contains("agent started"));
    let session = world.sessions().pop().unwrap();
    let record = fs::read_to_string(world.run_dir.join("sessions").join(session)).unwrap();
    let agent: u32 =
        record.split("\"pid\": ").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    let standin = Pid::from_child(&child);
    rustix::process::kill_process(standin, Signal::TSTP).unwrap();
    eventually("both are stopped", || state(agent) == "T" && state(child.id()) == "T");
    rustix::process::kill_process(standin, Signal::CONT).unwrap();
    eventually("both run again", || state(agent) == "S" && state(child.id()) == "S");
    rustix::process::kill_process(standin, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

/// A person at a terminal: the stand-in runs in a session of its own with the far side as everything.
struct Person {
    master: OwnedFd,
    slave: OwnedFd,
    child: Child,
    seen: String,
}

impl Person {
    fn runs(world: &World, script: &str) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
        rustix::termios::tcsetwinsize(
            &master,
            rustix::termios::Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 },
        )
        .unwrap();
        rustix::io::ioctl_fionbio(&master, true).unwrap();
        let run = world.command("bot", None, &["/bin/sh", "-c", script]);
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(run.get_program())
            .args(run.get_args())
            .current_dir("/")
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave.try_clone().unwrap())
            .spawn()
            .unwrap();
        Person { master, slave, child, seen: String::new() }
    }

    fn look(&mut self) {
        let mut chunk = [0u8; 4096];
        while let Ok(n) = rustix::io::read(&self.master, &mut chunk) {
            if n == 0 {
                break;
            }
            self.seen.push_str(&String::from_utf8_lossy(&chunk[..n]));
        }
    }

    fn waits_for(&mut self, text: &str) {
        for _ in 0..500 {
            self.look();
            if self.seen.contains(text) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{text:?} is not in {:?}", self.seen);
    }

    fn types(&self, keys: &str) {
        rustix::io::write(&self.master, keys.as_bytes()).unwrap();
    }

    fn is_raw(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.slave).unwrap();
        !modes.local_modes.contains(rustix::termios::LocalModes::ICANON)
    }
}

#[test]
fn a_terminal_behaves_as_one() {
    let world = World::started();
    let script = "tty; stty size; stat -c %u $(tty); read line </dev/tty; echo \"<$line>\"; \
                  trap 'stty size' WINCH; echo waiting; while :; do sleep 0.1; done";
    let mut person = Person::runs(&world, script);
    person.waits_for("/dev/pts/");
    person.waits_for("33 99");
    person.waits_for("61600");
    assert!(person.is_raw());
    person.types("typed\r");
    person.waits_for("<typed>");
    person.waits_for("waiting");
    let size = rustix::termios::Winsize { ws_row: 44, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&person.master, size).unwrap();
    person.waits_for("44 111");
    // Ctrl-C goes through the agent's own terminal.
    person.types("\u{3}");
    assert_eq!(person.child.wait().unwrap().code(), Some(130));
    assert!(!person.is_raw(), "the terminal is as it was");
    world.await_clean();
}

#[test]
fn the_agents_terminal_is_not_the_persons() {
    let world = World::started();
    let mut person = Person::runs(&world, "readlink /proc/self/fd/0; echo end");
    person.waits_for("end");
    let own = rustix::pty::ptsname(&person.master, Vec::new()).unwrap();
    assert!(!person.seen.contains(&format!("{}\r", own.to_str().unwrap())), "{}", person.seen);
    assert_eq!(person.child.wait().unwrap().code(), Some(0));
}
