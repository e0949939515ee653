//! Who is measured, and the server they all stand before.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use enforcer_tests::world::{Daemon, World, command, plan};

const UPSTREAM: u16 = 9443;
const NGINX: u16 = 9441;
const HAPROXY: u16 = 9442;
pub(super) const AGENT: &str = "bench";
/// One large body.
pub(super) const BULK: u64 = 100 << 20;

/// Something that answers for the upstream.
pub(super) struct Peer<'a> {
    pub(super) name: &'static str,
    /// `https://host:port`
    pub(super) url: String,
    /// Whose time and memory count.
    processes: Vec<i32>,
    /// Where the generator runs as an agent.
    daemon: Option<&'a Daemon<'a>>,
}

impl Peer<'_> {
    /// A generator, where it would run for this peer, always on the first processor.
    pub(super) fn command(&self, world: &World, words: &[String]) -> Command {
        let mut line = vec!["taskset".to_owned(), "-c".to_owned(), "0".to_owned()];
        line.extend_from_slice(words);
        match self.daemon {
            Some(daemon) => daemon.agent_command(AGENT, &line),
            None => world.on_host(&line),
        }
    }

    /// Processor time so far, of user and system together.
    pub(super) fn time(&self) -> Result<Duration> {
        let ticks = rustix::param::clock_ticks_per_second();
        let mut sum = 0;
        for pid in &self.processes {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The name may hold spaces and parentheses; it ends with the last one.
            let (_, rest) = stat.rsplit_once(')').context("a stat line has a name")?;
            let number =
                |at: usize| rest.split_ascii_whitespace().nth(at).and_then(|n| n.parse::<u64>().ok());
            sum += number(11).zip(number(12)).map(|(u, s)| u + s).context("a stat line has times")?;
        }
        Ok(Duration::from_nanos(sum * (1_000_000_000 / ticks)))
    }

    /// Resident memory in KiB.
    pub(super) fn resident(&self) -> Result<u64> {
        let mut sum = 0;
        for pid in &self.processes {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            sum += line
                .and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok())
                .context("a status has VmRSS")?;
        }
        Ok(sum)
    }
}

/// A server process that ends with its owner.
pub(super) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // TERM: nginx ends its workers, which a killed master would leave.
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            let _gone_already = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _reaped = self.0.wait();
    }
}

/// nginx outside: 1 KiB at every path, a large body at `/bulk`, and at `/take` any body is read to its end.
pub(super) fn upstream(world: &World) -> Result<Server> {
    let d = world.dir.join("bench");
    fs::create_dir(&d)?;
    fs::File::create(d.join("bulk"))?.set_len(BULK)?;
    let (d, pki) = (d.display(), world.dir.join("pki"));
    let body = "x".repeat(1024);
    let text = format!(
        "daemon off; user root; worker_processes 1; pid {d}/up.pid; error_log {d}/up.log warn;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; client_max_body_size 0; {temporary}
  server {{ listen {v4}:{UPSTREAM} ssl http2 backlog=4096; http2_max_concurrent_streams 256;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {pki}/server.pem; ssl_certificate_key {pki}/server.key;
    location / {{ default_type text/plain; return 200 {body}; }}
    location = /bulk {{ alias {d}/bulk; }}
    location = /take {{ proxy_pass http://127.0.0.1:9080; }}
  }}
  server {{ listen 127.0.0.1:9080; location / {{ return 200; }} }}
}}
",
        temporary = temporary(&d.to_string(), "up"),
        v4 = plan::SERVER_V4,
        pki = pki.display(),
    );
    let file = world.dir.join("bench/up.conf");
    fs::write(&file, text)?;
    let command = world.outside(&["nginx", "-c", &file.display().to_string()]);
    let port = UPSTREAM.to_string();
    serve(command, &file, || world.outside(&["ss", "-Hltn", "sport", "=", &port]))
}

/// The daemon, with everything on, for one agent.
pub(super) fn enforcer(world: &World) -> Result<Daemon<'_>> {
    let policy = format!(
        "version: 1\nagent: {AGENT}\ncredentials:\n  api: {{ bearer: {{ secret: api-token, env: API_TOKEN }} }}\n\
         deny:\n  - {{ name: no-delete, host: {api}, methods: DELETE }}\nallow:\n\
         \x20 - {{ name: all, host: {api}, port: {UPSTREAM}, methods: [GET, POST, PUT], credential: api }}\n",
        api = plan::API
    );
    let daemon = world.daemon(&[(AGENT, &policy)])?;
    daemon.secret_set("api-token", &format!("https://{}:{UPSTREAM}", plan::API), &world.canaries.bearer)?;
    Ok(daemon)
}

/// nginx, which ends TLS and begins it anew, and puts a credential in.
pub(super) fn nginx(world: &World) -> Result<Server> {
    let d = world.dir.join("bench");
    let (d, pki) = (d.display(), world.dir.join("pki"));
    let text = format!(
        "daemon off; user root; worker_processes 1; pid {d}/nginx.pid; error_log {d}/nginx.log warn;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; client_max_body_size 0; {temporary}
  upstream up {{ server {server}:{UPSTREAM}; keepalive 512; keepalive_requests 100000000; }}
  server {{ listen {host}:{NGINX} ssl http2 backlog=4096;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {pki}/server.pem; ssl_certificate_key {pki}/server.key;
    location / {{ proxy_pass https://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host {api}:{UPSTREAM};
      proxy_set_header Authorization \"Bearer {bearer}\"; proxy_ssl_verify on; proxy_ssl_trusted_certificate {pki}/ca.pem;
      proxy_ssl_name {api}; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3; proxy_request_buffering off; }}
  }}
}}
",
        temporary = temporary(&d.to_string(), "nginx"),
        server = plan::SERVER_V4,
        host = plan::HOST_V4,
        pki = pki.display(),
        api = plan::API,
        bearer = world.canaries.bearer,
    );
    let file = world.dir.join("bench/nginx.conf");
    fs::write(&file, text)?;
    let command = world.on_host(&["nginx", "-c", &file.display().to_string()]);
    let port = NGINX.to_string();
    serve(command, &file, || world.on_host(&["ss", "-Hltn", "sport", "=", &port]))
}

pub(super) fn haproxy(world: &World) -> Result<Server> {
    let (d, pki) = (world.dir.join("bench"), world.dir.join("pki"));
    let chain = fs::read_to_string(pki.join("server.pem"))? + &fs::read_to_string(pki.join("server.key"))?;
    fs::write(d.join("chain.pem"), chain)?;
    let text = format!(
        "global\n  nbthread 1\n  maxconn 8192\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend in\n  bind {host}:{HAPROXY} ssl crt {d}/chain.pem alpn h2,http/1.1\n  default_backend up\n\
         backend up\n  http-reuse always\n  http-request set-header Host {api}:{UPSTREAM}\n\
         \x20 http-request set-header Authorization \"Bearer {bearer}\"\n\
         \x20 server up {server}:{UPSTREAM} ssl verify required ca-file {pki}/ca.pem sni str({api}) alpn http/1.1\n",
        host = plan::HOST_V4,
        server = plan::SERVER_V4,
        d = d.display(),
        pki = pki.display(),
        api = plan::API,
        bearer = world.canaries.bearer,
    );
    let file = d.join("haproxy.cfg");
    fs::write(&file, text)?;
    let words = ["haproxy", "-db", "-f", &file.display().to_string()];
    let port = HAPROXY.to_string();
    serve(world.on_host(&words), &file, || world.on_host(&["ss", "-Hltn", "sport", "=", &port]))
}

/// In the order in which they take turns. `direct` is what generator and upstream can do at all.
pub(super) fn all<'a>(nginx: &Server, haproxy: &Server, daemon: &'a Daemon<'a>) -> Result<[Peer<'a>; 4]> {
    let on_host = |port: u16| format!("https://{}:{port}", plan::HOST_V4);
    let host = |name, url, processes| Peer { name, url, processes, daemon: None };
    Ok([
        host("direct", format!("https://{}:{UPSTREAM}", plan::SERVER_V4), Vec::new()),
        host("nginx", on_host(NGINX), nginx.processes()?),
        host("haproxy", on_host(HAPROXY), haproxy.processes()?),
        Peer {
            name: "enforcer",
            url: format!("https://{}:{UPSTREAM}", plan::API),
            processes: daemon.ours(&["daemon", "worker"]),
            daemon: Some(daemon),
        },
    ])
}

impl Server {
    /// It and its workers.
    fn processes(&self) -> Result<Vec<i32>> {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        Ok(children.chain([pid.cast_signed()]).collect())
    }
}

/// nginx wants places for bodies even where it keeps none.
fn temporary(dir: &str, name: &str) -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {dir}/{name}-{kind};"))
        .concat()
}

/// Starts it and waits until `listening` prints its listener.
fn serve(mut command: Command, file: &Path, listening: impl Fn() -> Command) -> Result<Server> {
    use std::os::unix::process::CommandExt;
    let typed = command::typed(&command);
    let path = file.with_extension("out");
    let log = fs::File::create(&path)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    let server = Server(command.spawn().with_context(|| format!("start `{typed}`"))?);
    let deadline = Instant::now() + Duration::from_secs(10);
    while command::run(listening(), Duration::from_secs(5))?.stdout.is_empty() {
        let said = || fs::read_to_string(&path).unwrap_or_default();
        ensure!(Instant::now() < deadline, "`{typed}` did not start:\n{}", said());
        std::thread::sleep(Duration::from_millis(10));
    }
    // The workers of nginx come a moment later.
    std::thread::sleep(Duration::from_millis(300));
    Ok(server)
}
