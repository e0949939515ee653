//! Real servers on loopback, one process each, for as long as they are held.

use std::fmt;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where Debian and Ubuntu keep the modules of Apache.
const MODULES: &str = "/usr/lib/apache2/modules";
/// Far beyond what any of them takes to start, on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) name: &'static str,
    process: Child,
    port: u16,
}

/// What a server made of a target.
pub(crate) struct Taken {
    pub(crate) status: u16,
    /// the paths it went by, decoded
    pub(crate) paths: Vec<Vec<u8>>,
    /// the files it sent, by their own path
    pub(crate) files: Vec<String>,
}

impl Server {
    /// All four, with these files.
    pub(crate) fn all(root: &Path) -> Vec<Server> {
        vec![
            Server::configured("nginx", root, include_str!("nginx.conf"), &["nginx", "-p", "ROOT", "-c"]),
            Server::configured("apache", root, include_str!("apache.conf"), &["apache2", "-X", "-f"]),
            Server::telling("node", root, "node.js", include_str!("node.js")),
            Server::telling("python3", root, "python.py", include_str!("python.py")),
        ]
    }

    /// One that has to be told its port. Another process may take the port before it does: then it ends.
    fn configured(name: &'static str, root: &Path, config: &str, command: &[&str]) -> Server {
        let here = root.display().to_string();
        let file = root.join(format!("{name}.conf"));
        for _ in 0..10 {
            let port =
                TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
            let config =
                config.replace("ROOT", &here).replace("PORT", &port.to_string()).replace("MODULES", MODULES);
            std::fs::write(&file, config).expect("a configuration can be written");
            let words: Vec<String> = command.iter().map(|word| word.replace("ROOT", &here)).collect();
            let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
            let path = file.display().to_string();
            words.push(&path);
            let process = start(&words, Stdio::null());
            let mut server = Server { name, process, port };
            if server.answers() {
                return server;
            }
        }
        panic!("{name} does not start. Is it there? Install what tests need with: cargo xtask setup");
    }

    /// One that chooses its port and prints it.
    fn telling(name: &'static str, root: &Path, file: &str, script: &str) -> Server {
        let path = root.join(file);
        std::fs::write(&path, script).expect("a script can be written");
        let (path, files) = (path.display().to_string(), root.join("files").display().to_string());
        let mut process = start(&[name, &path, &files], Stdio::piped());
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut line).expect("it prints");
        let port = line.trim().parse().unwrap_or_else(|_| panic!("{name} prints its port, not {line:?}"));
        Server { name, process, port }
    }

    /// Does it serve our files, before it ends or time is up?
    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !matches!(self.process.try_wait(), Ok(Some(_)) | Err(_)) {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                // Also when another process has the port.
                Ok(_) => return self.ask("/ok/a").files == ["/ok/a"],
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        false
    }

    /// What it does with a target, byte for byte.
    pub(crate) fn ask(&self, target: &str) -> Taken {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request fits into the buffers");
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            // It closed without having read everything.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{} on {target:?}: {error}", self.name),
        }
        Taken::read(&answer)
    }
}

impl Taken {
    fn read(answer: &[u8]) -> Taken {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(answer.len());
        let (head, body) = answer.split_at(end);
        let mut paths = Vec::new();
        for line in head.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if let Some(path) = line.strip_prefix(b"X-Path: ") {
                paths.push(path.to_vec());
            } else if let Some(taken) = line.strip_prefix(b"X-Taken: ") {
                paths.extend(taken.split(|byte| *byte == b' ').filter(|path| !path.is_empty()).map(decoded));
            }
        }
        let status = head.get(9..12).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
        let body = String::from_utf8_lossy(body);
        let files = body.lines().filter_map(|line| line.strip_prefix("file:")).map(str::to_owned);
        Taken { status: status.unwrap_or(0), paths, files: files.collect() }
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.paths.iter().map(|path| String::from_utf8_lossy(path)).collect();
        write!(f, "{} by {paths:?}, files {:?}", self.status, self.files)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// It ends with this process, however this one ends.
fn start(words: &[&str], stdout: Stdio) -> Child {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .args(words)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::null())
        .spawn()
        .expect("setpriv is there: cargo xtask setup")
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.iter().copied();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match (byte, bytes.clone().next(), bytes.clone().nth(1)) {
            (b'%', high, low) if digit(high).is_some() && digit(low).is_some() => {
                let value = digit(high).unwrap_or_default() << 4 | digit(low).unwrap_or_default();
                out.push(u8::try_from(value).unwrap_or_default());
                bytes.nth(1);
            }
            _ => out.push(byte),
        }
    }
    out
}
