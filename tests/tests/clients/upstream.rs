//! The shop: an nginx of this test's own, an HTTP and a gRPC server behind it, and registries. All of it asks for the
//! credential.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use enforcer_tests::world::{World, command, outside, plan};
use serde_json::Value;

/// A large transfer: 64 MiB when all clients are tried, less where every change waits for it.
pub(crate) fn bulk() -> u64 {
    if super::everything() { 64 << 20 } else { 16 << 20 }
}

/// Where this test's lists, scripts and servers are.
pub(crate) const LISTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
/// In the shop's directory.
const ARRIVALS: &str = "arrivals";

const HTTP: u16 = 8098;
const RPC: u16 = 8097;

/// The servers, and files for agents.
pub(crate) struct Shop {
    /// The upstream's own files, with nginx's log: root's alone.
    pub(crate) dir: PathBuf,
    /// What agents get: scripts, [`bulk`] bytes, the clients.
    pub(crate) floor: PathBuf,
    /// Of those bytes.
    pub(crate) digest: String,
    servers: Vec<Child>,
}

impl Shop {
    /// Everything, in `world`; `clients` is what `cargo xtask setup` installed.
    pub(crate) fn open(world: &World, clients: &Path) -> Result<Self> {
        let (dir, floor) = (world.dir.join("outside/shop"), world.dir.join("floor"));
        fs::create_dir(&dir)?;
        fs::create_dir(&floor)?;
        let mut shop = Shop { dir, floor, digest: String::new(), servers: Vec::new() };
        shop.furnish(clients)?;
        shop.stock()?;
        let server = Path::new(LISTS).join("shop/server.py");
        let python = shop.floor.join("installed/python/bin/python");
        let words =
            [python, server, HTTP.to_string().into(), RPC.to_string().into(), shop.dir.join(ARRIVALS)];
        let mut server = world.outside(&words);
        server.env("PYTHONDONTWRITEBYTECODE", "1");
        shop.start("server", server)?;
        fs::write(shop.dir.join("nginx.conf"), configuration(world, &shop.dir))?;
        let file = shop.dir.join("nginx.conf").display().to_string();
        let nginx = world.outside(&["nginx", "-p", &shop.dir.display().to_string(), "-c", &file]);
        shop.start("nginx", nginx)?;
        shop.wait("ready", |shop| shop.said("server").contains("ready"))?;
        shop.wait("nginx", |shop| fs::read(shop.dir.join("nginx.pid")).is_ok_and(|pid| !pid.is_empty()))?;
        Ok(shop)
    }

    /// Shows agents the clients, which lie in a checkout that may be closed to them, and the scripts.
    fn furnish(&self, clients: &Path) -> Result<()> {
        let installed = self.floor.join("installed");
        let sysroot = command::must(&["rustc", "--print", "sysroot"])?;
        for (from, to) in [(clients, installed), (Path::new(sysroot.trim()), self.floor.join("rust"))] {
            fs::create_dir(&to)?;
            let (from, to) = (from.display().to_string(), to.display().to_string());
            command::must(&["mount", "--bind", "-o", "ro", &from, &to])?;
        }
        for entry in fs::read_dir(Path::new(LISTS).join("jobs"))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), self.floor.join(entry.file_name()))?;
            }
        }
        // Where JavaScript looks for packages.
        std::os::unix::fs::symlink("installed/node/node_modules", self.floor.join("node_modules"))?;
        Ok(())
    }

    /// Bytes in which a gap or a change of order would be seen.
    fn stock(&mut self) -> Result<()> {
        let words = (0..bulk() / 8).flat_map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        let file = self.floor.join("bulk");
        fs::write(&file, words.collect::<Vec<u8>>())?;
        let line = command::must(&["sha256sum", &file.display().to_string()])?;
        line.split(' ').next().unwrap_or_default().clone_into(&mut self.digest);
        fs::write(self.floor.join("bulk.sha256"), format!("{}\n", self.digest))?;
        Ok(())
    }

    fn start(&mut self, name: &str, mut command: Command) -> Result<()> {
        use std::os::unix::process::CommandExt;
        let log = fs::File::create(self.dir.join(format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        self.servers.push(command.spawn().with_context(|| format!("start {name}"))?);
        Ok(())
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(format!("{name}.log"))).unwrap_or_default()
    }

    fn wait(&mut self, what: &str, there: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + command::patient(Duration::from_secs(60));
        while !there(self) {
            let ended = self.servers.iter_mut().any(|server| !matches!(server.try_wait(), Ok(None)));
            let logs = || format!("{}{}{}", self.said("server"), self.said("nginx"), self.said("error"));
            ensure!(
                !ended && Instant::now() < deadline,
                "the shop does not open, {what} is missing:\n{}",
                logs()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Registries with a package each, whose bytes are mostly the large file.
    pub(crate) fn stock_registries(&self) -> Result<()> {
        let script = format!("{LISTS}/shop/registries.py");
        let (root, bulk) =
            (self.dir.join("files").display().to_string(), self.floor.join("bulk").display().to_string());
        let url = format!("https://{}", plan::SHOP);
        command::must(&["/usr/bin/python3", &script, &root, &url, &bulk]).map(drop)
    }

    /// What servers digested of what is large: `path`, `sha256`, `length`.
    pub(crate) fn arrivals(&self) -> Vec<Value> {
        let told = fs::read_to_string(self.dir.join(ARRIVALS)).unwrap_or_default();
        told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Everything that it was asked so far, as nginx saw it.
    pub(crate) fn seen(&self) -> Vec<outside::Seen> {
        outside::seen(&self.dir)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ended_already = server.kill();
            let _reaped = server.wait();
        }
    }
}

/// nginx in one process. Who comes without the right credential gets 401 from every place.
fn configuration(world: &World, dir: &Path) -> String {
    let (d, bearer) = (dir.display(), &world.canaries.bearer);
    let pki = world.dir.join("pki");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {d}/{kind};"))
        .concat();
    format!(
        r#"daemon off; master_process off; pid {d}/nginx.pid; error_log {d}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  log_format seen escape=json '{log}'; access_log {d}/access.log seen; {temporary}
  map_hash_bucket_size 256; client_max_body_size 0; server_tokens off; keepalive_requests 10000;
  map $http_authorization $credential {{ "" none; "Bearer {bearer}" right; default wrong; }}
  map $http_upgrade $hop {{ "" ""; default upgrade; }}
  server {{
    listen {v4}:443 ssl http2; listen [{v6}]:443 ssl http2; server_name {name};
    ssl_certificate {pki}/server.pem; ssl_certificate_key {pki}/server.key;
    if ($credential != right) {{ return 401; }}
    # GitHub's API has this before its paths on hosts of one's own.
    rewrite ^/api/v3(/m/.*)$ $1 last;
    proxy_http_version 1.1; proxy_request_buffering off; proxy_buffering off;
    proxy_set_header Host $host; proxy_set_header X-Credential $credential; proxy_set_header Authorization "";
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $hop;
    location / {{ proxy_pass http://127.0.0.1:{HTTP}; }}
    location ~ ^/m/[^/]+/download$ {{ alias {floor}/bulk; default_type application/octet-stream; }}
    location ~ ^/m/([^/]+)/redirect$ {{ return 302 https://{name}/m/$1/landed; }}
    location /shop.Echo/ {{ grpc_pass grpc://127.0.0.1:{RPC}; grpc_set_header X-Credential $credential; grpc_set_header Authorization ""; }}
    location ~ ^/(pypi|npm|cargo|debian)/moved/(.*)$ {{ return 302 https://{name}/$1/files/$2; }}
    location = /moved/socket {{ return 302 https://{name}/socket; }}
    location ~ ^/moved/(project.git/.*)$ {{ return 302 https://{git}/$1$is_args$args; }}
    location /pypi/simple/ {{ root {d}/files; index index.html; }}
    location /pypi/files/ {{ root {d}/files; }}
    location /npm/hello-shop {{ root {d}/files; default_type application/json; }}
    location /npm/files/ {{ root {d}/files; }}
    location /cargo/index/ {{ root {d}/files; }}
    location /cargo/index/fr/ {{ proxy_pass http://127.0.0.1:{HTTP}; }}
    location /cargo/files/ {{ root {d}/files; }}
    location /debian/ {{ root {d}/files; }}
  }}
}}
"#,
        log = outside::LOG,
        v4 = plan::SHOP_V4,
        v6 = plan::SHOP_V6,
        name = plan::SHOP,
        git = plan::GIT,
        pki = pki.display(),
        floor = world.dir.join("floor").display(),
    )
}
