//! What stands behind all peers: nginx outside, with bodies of several sizes, and a server of events behind it.

use std::fs;

use anyhow::Result;
use enforcer_tests::world::{World, plan};

use super::configs::temporary;
use super::rows::{BODIES, MIDDLE};
use super::server::Server;

pub(super) const UPSTREAM: u16 = 9443;
/// So many events, so many milliseconds apart.
const EVENTS: [&str; 2] = ["100", "10"];

/// 1 KiB at every path, larger bodies at `/kib/N` and `/mib/N`, events at `/events`; at `/take` any body is read to its end.
pub(super) fn start(world: &World) -> Result<[Server; 2]> {
    let d = world.dir.join("bench");
    fs::create_dir_all(d.join("kib"))?;
    fs::create_dir_all(d.join("mib"))?;
    fs::File::create(d.join("kib/64"))?.set_len(MIDDLE)?;
    for mib in BODIES {
        fs::File::create(d.join(format!("mib/{mib}")))?.set_len(mib << 20)?;
    }
    let pki = world.dir.join("pki");
    // What is taken is buffered: the server behind answers at once, and an answer before the end of a body is not what is measured.
    let text = format!(
        "daemon off; user root; worker_processes 1; pid {d}/up.pid; error_log {d}/up.log warn;
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 100000000; client_max_body_size 0; {temporary}
  server {{ listen {v4}:{UPSTREAM} ssl http2 backlog=4096; http2_max_concurrent_streams 256;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {pki}/server.pem; ssl_certificate_key {pki}/server.key;
    location / {{ default_type text/plain; return 200 {body}; }}
    location /kib/ {{ root {d}; default_type application/octet-stream; }}
    location /mib/ {{ root {d}; default_type application/octet-stream; }}
    location = /take {{ proxy_pass http://127.0.0.1:9080; }}
    location = /events {{ proxy_pass http://127.0.0.1:9081; proxy_http_version 1.1; proxy_buffering off; }}
  }}
  server {{ listen 127.0.0.1:9080; location / {{ return 200; }} }}
}}
",
        d = d.display(),
        temporary = temporary(&d.display().to_string(), "up"),
        v4 = plan::SERVER_V4,
        pki = pki.display(),
        body = "x".repeat(1024),
    );
    let file = d.join("up.conf");
    fs::write(&file, text)?;
    let [count, pause] = EVENTS;
    let events = world.bin("events").display().to_string();
    let events = world.outside(&[events.as_str(), "127.0.0.1:9081", count, pause]);
    let nginx = world.outside(&["nginx", "-c", &file.display().to_string()]);
    let mut servers =
        [Server::start(events, &d.join("events.out"))?, Server::start(nginx, &d.join("up.out"))?];
    for (server, port) in servers.iter_mut().zip(["9081".to_owned(), UPSTREAM.to_string()]) {
        server.wait(|| world.outside(&["ss", "-Hltn", "sport", "=", &port]))?;
    }
    Ok(servers)
}
