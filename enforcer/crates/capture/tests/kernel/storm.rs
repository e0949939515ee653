//! Identity under pressure: floods, aborts, reused ports, processes and cgroups that come and go. Nothing is mixed up, and nothing lost.
//!
//! The counts are small by default; `ENFORCER_STORM=full` asks for the full ones.
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Stdio};

use enforcer_capture::kernel::Listening;
use enforcer_capture::records::{Origin, RecordError, Records};

use crate::stage::{Agent, Stage, impatient};

const AGENT: &str = env!("CARGO_BIN_EXE_enforcer-capture-storm");

fn count(small: usize, full: usize) -> usize {
    match std::env::var("ENFORCER_STORM").as_deref() {
        Ok("full") => full,
        Ok(other) => panic!("ENFORCER_STORM is `full` or nothing, not `{other}`"),
        Err(_) => small,
    }
}

fn storm(agent: &Agent, words: &[&str]) -> Child {
    let mut command = agent.prepare(AGENT, words);
    agent.netns.enter(|| command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
}

/// What it said at its end.
fn result(mut storm: Child) -> String {
    drop(storm.stdin.take());
    let mut said = String::new();
    storm.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(storm.wait().unwrap().success(), "{said}");
    said.trim().to_owned()
}

struct Injector<'a> {
    records: Records,
    listener: &'a TcpListener,
    agent: &'a Agent,
}

impl<'a> Injector<'a> {
    fn new(stage: &Stage, agent: &'a Agent, listener: &'a TcpListener) -> Self {
        Injector { records: Records::new(stage.kernel().records().unwrap()).unwrap(), listener, agent }
    }

    fn accept(&self) -> (TcpStream, Result<Origin, RecordError>) {
        let (socket, _) = self.listener.accept().unwrap();
        impatient(&socket);
        let origin = self.identify(&socket, self.agent.cgroup_id);
        (socket, origin)
    }

    fn identify(&self, socket: &TcpStream, cgroup_id: u64) -> Result<Origin, RecordError> {
        self.records.take(socket.as_fd(), cgroup_id, self.agent.netns.cookie)
    }
}

/// A reset may come before the bytes are read.
fn heard(socket: &mut TcpStream) -> String {
    let mut said = [0; 256];
    let len = socket.read(&mut said).unwrap_or(0);
    String::from_utf8_lossy(&said[..len]).into_owned()
}

/// Resets and a port range of 64: what makes records that go by address and port wrong.
#[test]
fn aborted_connections_from_reused_ports_all_arrive_as_who_they_are() {
    let connections = count(8_000, 100_000);
    let stage = Stage::new();
    let agent = stage.agent("a");
    let [v4, _v6] = agent.netns.injectors();
    agent.netns.enter(|| fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40063").unwrap());
    let injector = Injector::new(&stage, &agent, &v4);
    let mut storm = storm(&agent, &["connect", &connections.to_string()]);
    let mut accepted = storm.stdin.take().unwrap();
    let (mut spoken, mut silent) = (0, 0);
    for _ in 0..connections {
        let (mut socket, origin) = injector.accept();
        let origin = origin.unwrap();
        match heard(&mut socket) {
            said if said.is_empty() => silent += 1,
            said => {
                assert_eq!(said, origin.dst.0.to_string());
                spoken += 1;
            }
        }
        // Drained by a thread of the storm's until its end.
        accepted.write_all(b".").unwrap_or_default();
    }
    drop(accepted);
    assert_eq!(result(storm), connections.to_string());
    assert!(spoken > connections / 10, "{spoken} said where they went, {silent} were reset before");
}

#[test]
fn one_agents_flood_takes_nothing_from_another() {
    /// Waiting from before the flood; the queue of a listener has room for them.
    const WAITING: usize = 500;
    let flood = count(20_000, 200_000);
    let during = count(1_000, 10_000);
    let stage = Stage::new();
    let (loud, quiet) = (stage.agent("loud"), stage.agent("quiet"));
    let [at_loud, _v6] = loud.netns.injectors();
    let [at_quiet, _v6] = quiet.netns.injectors();
    let (loud_injector, quiet_injector) =
        (Injector::new(&stage, &loud, &at_loud), Injector::new(&stage, &quiet, &at_quiet));

    // Both have connections waiting. None is accepted before the flood is over.
    for (agent, number) in [(&loud, 4), (&quiet, WAITING)] {
        let number = number.to_string();
        assert_eq!(result(storm(agent, &["connect", &number])), number);
    }
    let flooding = storm(&loud, &["flood", &flood.to_string()]);
    let mut forking = storm(&quiet, &["connect", &during.to_string()]);
    let mut accepted = forking.stdin.take().unwrap();
    for number in 0..WAITING + during {
        let (_socket, origin) = quiet_injector.accept();
        let origin = origin.unwrap_or_else(|error| panic!("connection {number}: {error}"));
        assert_eq!(origin.cgroup_id, quiet.cgroup_id);
        if number >= WAITING {
            accepted.write_all(b".").unwrap_or_default();
        }
    }
    drop(accepted);
    assert_eq!(result(forking), during.to_string());
    assert_eq!(result(flooding), flood.to_string());

    // The same flood pushed out the loud agent's own: it was one.
    let (_socket, origin) = loud_injector.accept();
    assert!(matches!(origin, Err(RecordError::NoRecord)), "{origin:?}");
}

#[test]
fn processes_that_are_gone_are_known_by_the_number_they_had() {
    let processes = count(1_000, 20_000);
    let stage = Stage::new();
    let agent = stage.agent("a");
    let [v4, _v6] = agent.netns.injectors();
    let injector = Injector::new(&stage, &agent, &v4);
    let storm = storm(&agent, &["fork", &processes.to_string()]);
    for _ in 0..processes {
        let (mut socket, origin) = injector.accept();
        assert_eq!(heard(&mut socket), origin.unwrap().pid.to_string());
    }
    assert_eq!(result(storm), processes.to_string());
}

/// The same name each time, and another agent each time.
#[test]
fn a_cgroup_made_again_is_another_agent() {
    let rounds = count(150, 10_000);
    let stage = Stage::new();
    let agent = stage.agent("keeper");
    let [v4, _v6] = agent.netns.injectors();
    let injector = Injector::new(&stage, &agent, &v4);
    let mut storm = storm(&agent, &["wander"]);
    let mut told = storm.stdin.take().unwrap();
    let mut answers = BufReader::new(storm.stdout.take().unwrap()).lines();
    let mut go = |cgroup: &std::path::Path| {
        writeln!(told, "{}", cgroup.display()).unwrap();
        answers.next().unwrap().unwrap()
    };
    let cgroup = stage.cgroups.root.join("again");
    let mut before = 0;
    for round in 0..rounds {
        fs::create_dir(&cgroup).unwrap();
        let id = fs::metadata(&cgroup).unwrap().ino();
        assert_ne!(id, before, "round {round}");
        assert_eq!(go(&cgroup), "errno 1", "round {round}: nobody knows it yet");
        stage.kernel().admit(id, agent.netns.cookie, Listening::PRIVATE).unwrap();
        stage.kernel().govern(id).unwrap();
        assert_eq!(go(&cgroup), "went", "round {round}");
        let (socket, _) = v4.accept().unwrap();
        // One that still goes by the cgroup of before has no use for it.
        let origin = injector.identify(&socket, id).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!((origin.cgroup_id, origin.dst.0.port()), (id, 443));
        stage.kernel().release(id).unwrap();
        stage.kernel().expel(id, agent.netns.cookie).unwrap();
        assert_eq!(go(&cgroup), "errno 1", "round {round}: it is released");
        assert_eq!(go(&agent.cgroup), "went");
        let (_socket, origin) = injector.accept();
        assert_eq!(origin.unwrap().cgroup_id, agent.cgroup_id);
        remove(&cgroup);
        before = id;
    }
    drop(told);
    assert!(storm.wait().unwrap().success());
}

/// A process that has just left may still be counted.
fn remove(cgroup: &std::path::Path) {
    for _ in 0..1000 {
        match fs::remove_dir(cgroup) {
            Ok(()) => return,
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{} stays busy", cgroup.display());
}
