//! The processes of the privileged tests: a keeper without kernel programs, a worker that only answers, the
//! real agent-init, the real stand-in, and what a worker that was taken over would try.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout, reason = "test support")]

mod attempts;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use enforcer_capture::keeper::{self, Programs, Settings, VaultKeySource};
use enforcer_capture::kernel::{Attachment, KernelError, Listening};
use enforcer_capture::message::{Channel, Switch, ToKeeper, ToWorker};
use enforcer_capture::standin::{self, Request};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let role = arguments.next().unwrap_or_default();
    match role.to_str() {
        Some("agent-init") => enforcer_capture::init::main(),
        Some("worker") => worker(),
        Some("keeper") => keeper(&PathBuf::from(arguments.next().unwrap())),
        Some("attempts") => {
            attempts::main(&arguments.map(|argument| argument.into_string().unwrap()).collect::<Vec<_>>())
        }
        Some("run") => run(arguments.map(|argument| argument.into_string().unwrap()).collect()),
        _ => ExitCode::from(2),
    }
}

/// `DIR`: holds `config` (the worker's), and is where everything goes but the run directory, which `run_dir` names.
fn keeper(dir: &Path) -> ExitCode {
    tracing::subscriber::set_global_default(Lines).unwrap();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let settings = Settings {
        run_dir: read("run_dir").into(),
        state_dir: dir.join("state"),
        vault_key: VaultKeySource::File(dir.join("vault.key")),
        managed_root: read("managed_root"),
        pins: dir.join("pins"),
        worker_id: 61500,
        agent_ids: 61600..=61609,
        group: "no-such-group-here".into(),
        config: read("config"),
        executable: "/proc/self/exe".into(),
        prove: None,
    };
    let programs = NoPrograms { dir: dir.to_owned() };
    match keeper::run_with(settings, |_| Ok(Box::new(programs))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keeper: {error:?} hint: {:?}", error.hint());
            ExitCode::FAILURE
        }
    }
}

/// Events as lines; a subscriber of a library would be a dependency of the product's crate.
struct Lines;

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!(" {field}={value:?}"));
            }
        }
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        eprintln!("{}{}", event.metadata().level(), fields.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Writes down what it is asked for; fails when the file `kernel-fails` names the call.
struct NoPrograms {
    dir: PathBuf,
}

impl NoPrograms {
    fn called(&self, call: &str, detail: &str) -> Result<(), KernelError> {
        let mut log = OpenOptions::new().append(true).create(true).open(self.dir.join("kernel.log")).unwrap();
        writeln!(log, "{call} {detail}").unwrap();
        let fails = fs::read_to_string(self.dir.join("kernel-fails")).unwrap_or_default();
        if fails.trim() == call {
            return Err(KernelError::Io {
                what: format!("go on: {call} fails"),
                error: io::Error::other("as told"),
            });
        }
        Ok(())
    }
}

impl Programs for NoPrograms {
    fn verify(&self) -> Result<(), KernelError> {
        self.called("verify", "")
    }
    fn govern(&self, cgroup_id: u64) -> Result<(), KernelError> {
        self.called("govern", &cgroup_id.to_string())
    }
    fn admit(&self, cgroup_id: u64, netns_cookie: u64, at: Listening) -> Result<(), KernelError> {
        self.called("admit", &format!("{cgroup_id} {netns_cookie} {}", at.private))
    }
    fn admitted(&self, _cgroup_id: u64, _netns_cookie: u64) -> Result<Option<Listening>, KernelError> {
        Ok(None)
    }
    fn expel(&self, cgroup_id: u64, netns_cookie: u64) -> Result<(), KernelError> {
        self.called("expel", &format!("{cgroup_id} {netns_cookie}"))
    }
    fn attach(&self, _name: &str, _cgroup: &Path) -> Result<Attachment, KernelError> {
        Err(KernelError::NoObject)
    }
    fn detach(&self, _name: &str) -> Result<bool, KernelError> {
        Ok(false)
    }
    fn attached(&self) -> Result<Vec<String>, KernelError> {
        Ok(Vec::new())
    }
    fn new_namespaces(&self) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }
    fn release(&self, cgroup_id: u64) -> Result<(), KernelError> {
        self.called("release", &cgroup_id.to_string())
    }
    fn records(&self) -> io::Result<OwnedFd> {
        Ok(fs::File::open("/dev/null")?.into())
    }
    fn events(&self) -> io::Result<OwnedFd> {
        Ok(fs::File::open("/dev/null")?.into())
    }
    fn prepare_listener(&self, _socket: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// Knows the agents `bot` and `tool`; answers each injected connection with its pid. Switches `bot` off and on
/// again at each reload. The configuration is the CA certificate, and perhaps the words `bot is off`.
fn worker() -> ExitCode {
    let channel = Channel::passed().unwrap();
    let mut ca = String::new();
    let mut reloads = 0;
    while let Some(received) = channel.receive::<ToWorker>().unwrap() {
        let mut descriptors = received.descriptors;
        match received.message {
            ToWorker::Start { config, backstop: _ } => {
                if config.starts_with("broken") {
                    eprintln!("worker: the configuration is broken");
                    return ExitCode::from(3);
                }
                let key: fs::File = descriptors.remove(0).into();
                assert_eq!(key.metadata().unwrap().len(), 32);
                assert_eq!(descriptors.len(), 3);
                let shown = ["Uid", "Gid", "Cap", "NoNewPrivs", "SigBlk"];
                let status = fs::read_to_string("/proc/self/status").unwrap();
                status
                    .lines()
                    .filter(|line| shown.iter().any(|name| line.starts_with(name)))
                    .for_each(|line| eprintln!("{line}"));
                let open: Vec<_> =
                    fs::read_dir("/proc/self/fd").unwrap().map(|fd| fd.unwrap().file_name()).collect();
                eprintln!("worker: descriptors {open:?}");
                ca = config;
                channel.send(&ToKeeper::Ready, &[]).unwrap();
            }
            ToWorker::Prepare { seq, agent, .. } => {
                let agent = agent.unwrap_or_default();
                let answer = if agent == "bot" || agent == "tool" {
                    ToKeeper::Prepared {
                        seq,
                        agent,
                        environment: vec![("EXAMPLE_TOKEN".into(), "placeholder".into())],
                        ca_pem: ca.clone(),
                        guide: "be good\n".into(),
                        loopback: Vec::new(),
                        unix: Vec::new(),
                    }
                } else {
                    ToKeeper::Refused {
                        seq,
                        message: format!("there is no agent `{agent}`"),
                        hint: Some("did you mean `bot`?".into()),
                    }
                };
                channel.send(&answer, &[]).unwrap();
            }
            ToWorker::Govern { seq, session } => {
                eprintln!("worker: governs {} of {}", session.id, session.agent);
                assert_eq!(descriptors.len(), 6);
                if session.agent == "tool" {
                    let refused = ToKeeper::Refused { seq, message: "no tools".into(), hint: None };
                    channel.send(&refused, &[]).unwrap();
                    continue;
                }
                let listener: TcpListener = descriptors.remove(0).into();
                std::thread::spawn(move || {
                    let _others = descriptors;
                    while let Ok((mut stream, _)) = listener.accept() {
                        writeln!(stream, "worker {}", std::process::id()).unwrap();
                    }
                });
                let answer = match ca.contains("bot is off") {
                    true => {
                        ToKeeper::Disabled { seq, freeze: true, message: "bot is off".into(), hint: None }
                    }
                    false => ToKeeper::Done { seq },
                };
                channel.send(&answer, &[]).unwrap();
            }
            ToWorker::Serve { .. } | ToWorker::Left { .. } | ToWorker::Standing { .. } => {
                eprintln!("worker: nothing is attached without programs");
                return ExitCode::FAILURE;
            }
            ToWorker::Switched { seq, error } => eprintln!("worker: switched {seq} {error:?}"),
            ToWorker::Looked { seq, process } => eprintln!("worker: looked {seq} {process:?}"),
            ToWorker::Socket { seq, error } => eprintln!("worker: socket {seq} {error:?}"),
            ToWorker::Ended { session } => eprintln!("worker: ended {session}"),
            ToWorker::Reload { seq } => {
                channel.send(&ToKeeper::Done { seq }, &[]).unwrap();
                let to = if reloads % 2 == 0 { Switch::Off { freeze: true } } else { Switch::On };
                reloads += 1;
                channel.send(&ToKeeper::Switch { seq: reloads, agent: "bot".into(), to }, &[]).unwrap();
            }
            ToWorker::Drain { .. } => {
                eprintln!("worker: drains");
                return ExitCode::SUCCESS;
            }
        }
    }
    ExitCode::SUCCESS
}

/// `SOCKET AGENT USER|- COMMAND…`
fn run(arguments: Vec<String>) -> ExitCode {
    let [socket, agent, user, command @ ..] = arguments.as_slice() else { return ExitCode::from(2) };
    let request = Request {
        socket: socket.into(),
        agent: agent.clone(),
        user: (user != "-").then(|| user.clone()),
        root: false,
        command: command.iter().map(Into::into).collect(),
        environment: std::env::vars_os().collect(),
        publish: Vec::new(),
    };
    match standin::run(request) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            let hint = error.hint().unwrap_or_default();
            eprintln!("run: {error}; hint: {hint}");
            ExitCode::from(error.exit_code())
        }
    }
}
