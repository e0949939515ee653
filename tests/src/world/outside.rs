//! The servers outside: nginx with TLS in front of an API, a git server, and odd ones.
//!
//! The access log is the upstream's own word on what it was sent. It holds the credentials and is
//! root's alone.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Canaries;
use super::command::{command, must, patient};
use super::plan;

/// One request as nginx saw it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub server: String,
    pub scheme: String,
    /// `HTTP/1.1`, `HTTP/2.0`
    pub protocol: String,
    pub method: String,
    pub uri: String,
    pub host: String,
    pub status: String,
    pub authorization: String,
    pub api_key: String,
    pub body: String,
    pub user_agent: String,
}

/// One line of nginx's log, for `log_format … escape=json`.
pub const LOG: &str = "{\"server\":\"$server_name\",\"scheme\":\"$scheme\",\"protocol\":\"$server_protocol\",\
                       \"method\":\"$request_method\",\"uri\":\"$request_uri\",\"host\":\"$http_host\",\"status\":\"$status\",\
                       \"authorization\":\"$http_authorization\",\"api_key\":\"$http_x_api_key\",\
                       \"user_agent\":\"$http_user_agent\",\"body\":\"$request_body\"}";

/// Starts nginx and the CGI bridge in the outside namespace; files go to `dir`.
pub fn start(netns: &Path, dir: &Path, canaries: &Canaries) -> Result<Vec<Child>> {
    fs::DirBuilder::new().mode(0o700).create(dir).context("make the servers' directory")?;
    repository(dir)?;
    fs::write(dir.join("nginx.conf"), configuration(dir, canaries)?)?;
    fs::set_permissions(dir.join("nginx.conf"), fs::Permissions::from_mode(0o600))?;
    fs::write(dir.join("big"), vec![b'.'; 4 << 20])?;

    let enter = format!("--net={}", netns.display());
    let socket = dir.join("cgi.sock");
    let bridge = format!("unix:{}", socket.display());
    let mut children = Vec::new();
    children.push(spawn(dir, "cgi", &["nsenter", &enter, "--", "fcgiwrap", "-c", "2", "-s", &bridge])?);
    let (prefix, file) = (dir.display().to_string(), dir.join("nginx.conf").display().to_string());
    children.push(spawn(dir, "nginx", &["nsenter", &enter, "--", "nginx", "-p", &prefix, "-c", &file])?);
    for ready in [socket, dir.join("nginx.pid")] {
        wait_for(&ready, dir)?;
    }
    Ok(children)
}

/// Every request so far, in order, of the nginx whose `access.log` is in `dir`.
pub fn seen(dir: &Path) -> Vec<Seen> {
    // A body may hold any bytes: a pushed pack does.
    let bytes = fs::read(dir.join("access.log")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .map(|v| read(&v))
        .collect()
}

fn read(value: &serde_json::Value) -> Seen {
    let get = |key: &str| value.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    Seen {
        server: get("server"),
        scheme: get("scheme"),
        protocol: get("protocol"),
        method: get("method"),
        uri: get("uri"),
        host: get("host"),
        status: get("status"),
        authorization: get("authorization"),
        api_key: get("api_key"),
        body: get("body"),
        user_agent: get("user_agent"),
    }
}

/// A child of its own process group: Ctrl-C at the terminal is for the test runner, not for it.
fn spawn(dir: &Path, name: &str, words: &[&str]) -> Result<Child> {
    use std::os::unix::process::CommandExt;
    let log = fs::File::create(dir.join(format!("{name}.log")))?;
    command(words)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {name}; is it installed? Run: cargo xtask setup"))
}

fn wait_for(path: &Path, dir: &Path) -> Result<()> {
    let deadline = Instant::now() + patient(Duration::from_secs(10));
    // nginx makes the pid file before it writes the number, after its sockets listen.
    while !path.exists() || (path.ends_with("nginx.pid") && fs::read(path)?.is_empty()) {
        if Instant::now() > deadline {
            let log = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
            bail!(
                "{} did not appear\n{}{}{}",
                path.display(),
                log("nginx.log"),
                log("cgi.log"),
                log("error.log")
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A bare repository with one commit.
fn repository(dir: &Path) -> Result<()> {
    let bare = dir.join("git/project.git").display().to_string();
    let work = dir.join("seed").display().to_string();
    must(&["git", "init", "-q", "--bare", "--initial-branch=main", &bare])?;
    must(&["git", "-C", &bare, "config", "http.receivepack", "true"])?;
    must(&["git", "init", "-q", "--initial-branch=main", &work])?;
    fs::write(Path::new(&work).join("README"), "A project on a real git server.\n")?;
    must(&["git", "-C", &work, "add", "README"])?;
    let identity = ["-c", "user.name=Seed", "-c", "user.email=seed@example.test"];
    // Nobody's own settings, signing keys or hooks.
    let mut commit =
        vec!["env", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "git", "-C", &work];
    commit.extend(identity);
    commit.extend(["commit", "-q", "-m", "first"]);
    must(&commit)?;
    must(&["git", "-C", &work, "push", "-q", &bare, "main"])?;
    Ok(())
}

/// One process in the foreground, as root, in its own namespace: simple to start and to stop.
fn configuration(dir: &Path, canaries: &Canaries) -> Result<String> {
    let exec_path = must(&["git", "--exec-path"])?;
    let backend = Path::new(exec_path.trim()).join("git-http-backend");
    let d = dir.display();
    let (api, other, git, plain, bad) =
        (plan::API, plan::OTHER, plan::GIT, plan::PLAIN, plan::BAD_CERTIFICATE);
    let (bearer, basic, key) = (&canaries.bearer, canaries.basic(), &canaries.api_key);
    let (v4, v6) = (plan::SERVER_V4, plan::SERVER_V6);
    let tls = format!(
        "listen {v4}:443 ssl http2; listen [{v6}]:443 ssl http2; listen {}:443 ssl;",
        plan::PRIVATE_V4
    );
    let clear = format!("listen {v4}:80; listen [{v6}]:80;");
    // `/` goes through `proxy_pass` to the same process, because only then is `$request_body` read and logged.
    let answer = "default_type application/json; proxy_set_header X-Credential $credential; \
                  proxy_set_header X-Server $server_name; proxy_set_header X-Uri $request_uri; \
                  proxy_pass http://127.0.0.1:8099;";
    Ok(format!(
        r#"daemon off; master_process off; pid {d}/nginx.pid; error_log {d}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  log_format seen escape=json '{LOG}';
  access_log {d}/access.log seen;
  client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3; uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;
  map_hash_bucket_size 256; server_names_hash_bucket_size 128; client_body_buffer_size 1m; client_max_body_size 64m; server_tokens off; keepalive_requests 10000;
  ssl_certificate {d}/../pki/server.pem; ssl_certificate_key {d}/../pki/server.key;
  map $http_authorization $bearer {{ "" none; "Bearer {bearer}" right; default wrong; }}
  map $http_x_api_key $key {{ "" ""; "{key}" right; default wrong; }}
  map $key $credential {{ "" $bearer; default $key; }}
  map $http_authorization $git_ok {{ "Basic {basic}" 1; default 0; }}

  server {{ {tls} server_name {api}; 
    location /echo {{ default_type text/plain; add_header X-Echo "$http_authorization"; return 200 "you sent: $http_authorization\nagain: $http_authorization\n"; }}
    location /echo-gzip {{ gzip on; gzip_min_length 1; gzip_types text/plain; default_type text/plain; return 200 "you sent: $http_authorization\nagain: $http_authorization\n"; }}
    location /redirect {{ return 302 https://{other}/landing; }}
    location /big {{ alias {d}/big; default_type text/plain; }}
    location /slow {{ alias {d}/big; default_type text/plain; limit_rate 40k; }}
    location / {{ {answer} }}
  }}
  server {{ {tls} server_name {other} {internal} {rebound}; location / {{ {answer} }} }}
  server {{ {clear} server_name {plain}; location / {{ {answer} }} }}
  server {{ {tls} server_name {bad}; ssl_certificate {d}/../pki/bad.pem; ssl_certificate_key {d}/../pki/bad.key; location / {{ {answer} }} }}
  server {{ {tls} server_name {git};
    location / {{
      if ($git_ok = 0) {{ add_header WWW-Authenticate 'Basic realm="git"' always; return 401; }}
      fastcgi_param SCRIPT_FILENAME {backend}; fastcgi_param PATH_INFO $uri; fastcgi_param QUERY_STRING $query_string;
      fastcgi_param REQUEST_METHOD $request_method; fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;
      fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding; fastcgi_param GIT_PROTOCOL $http_git_protocol;
      fastcgi_param GIT_PROJECT_ROOT {d}/git; fastcgi_param GIT_HTTP_EXPORT_ALL ""; fastcgi_param REMOTE_USER bot;
      fastcgi_param HOME {d}; fastcgi_pass unix:{d}/cgi.sock;
    }}
  }}
  server {{ listen 127.0.0.1:8099; access_log off; default_type application/json;
    location / {{ return 200 '{{"server":"$http_x_server","method":"$request_method","uri":"$http_x_uri","credential":"$http_x_credential"}}\n'; }}
  }}
}}
"#,
        backend = backend.display(),
        internal = plan::INTERNAL,
        rebound = plan::REBOUND,
    ))
}
