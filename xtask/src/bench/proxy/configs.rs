//! How each server among the peers is set up: it ends TLS and begins it anew, checks the certificate of the upstream, and puts a
//! credential in.

use std::fs;
use std::process::Command;

use anyhow::Result;
use enforcer_tests::world::{World, plan};

use super::peers::port;
use super::upstream::UPSTREAM;

pub(super) fn nginx(world: &World) -> Result<Command> {
    let (d, pki) = (world.dir.join("bench"), world.dir.join("pki"));
    // Waiting on the client's side is not to be paid for with files.
    let text = format!(
        "daemon off; user root; worker_processes 1; pid {d}/nginx.pid; error_log {d}/nginx.log warn;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; client_max_body_size 0; {temporary}
  upstream up {{ server {server}:{UPSTREAM}; keepalive 512; keepalive_requests 100000000; }}
  server {{ listen {host}:{port} ssl http2 backlog=4096; http2_max_concurrent_streams 256;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {pki}/server.pem; ssl_certificate_key {pki}/server.key;
    proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host {api}:{UPSTREAM};
    proxy_set_header Authorization \"Bearer {bearer}\"; proxy_ssl_verify on; proxy_ssl_trusted_certificate {pki}/ca.pem;
    proxy_ssl_name {api}; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3; proxy_request_buffering off; proxy_max_temp_file_size 0;
    location / {{ proxy_pass https://up; }}
    location = /events {{ proxy_pass https://up; proxy_buffering off; }}
  }}
}}
",
        d = d.display(),
        temporary = temporary(&d.display().to_string(), "nginx"),
        server = plan::SERVER_V4,
        host = plan::HOST_V4,
        port = port("nginx"),
        pki = pki.display(),
        api = plan::API,
        bearer = world.canaries.bearer,
    );
    let file = d.join("nginx.conf");
    fs::write(&file, text)?;
    Ok(world.on_host(&["nginx", "-c", &file.display().to_string()]))
}

pub(super) fn haproxy(world: &World) -> Result<Command> {
    let (d, pki) = (world.dir.join("bench"), world.dir.join("pki"));
    let chain = fs::read_to_string(pki.join("server.pem"))? + &fs::read_to_string(pki.join("server.key"))?;
    fs::write(d.join("chain.pem"), chain)?;
    let text = format!(
        "global\n  nbthread 1\n  maxconn 8192\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend in\n  bind {host}:{port} ssl crt {d}/chain.pem alpn h2,http/1.1\n  default_backend up\n\
         backend up\n  http-reuse always\n  http-request set-header Host {api}:{UPSTREAM}\n\
         \x20 http-request set-header Authorization \"Bearer {bearer}\"\n\
         \x20 server up {server}:{UPSTREAM} ssl verify required ca-file {pki}/ca.pem sni str({api}) alpn http/1.1\n",
        host = plan::HOST_V4,
        port = port("haproxy"),
        server = plan::SERVER_V4,
        d = d.display(),
        pki = pki.display(),
        api = plan::API,
        bearer = world.canaries.bearer,
    );
    let file = d.join("haproxy.cfg");
    fs::write(&file, text)?;
    Ok(world.on_host(&["haproxy", "-db", "-f", &file.display().to_string()]))
}

/// A program of `xtask/peers`: where it listens, the upstream, whom to trust, what to put in.
pub(super) fn program(world: &World, name: &str) -> Command {
    let (listen, upstream) =
        (format!("{}:{}", plan::HOST_V4, port(name)), format!("{}:{UPSTREAM}", plan::SERVER_V4));
    let (program, roots) = (world.bin(name).display().to_string(), world.upstream_ca().display().to_string());
    world.on_host(&[&program, &listen, &upstream, &roots, &world.canaries.bearer])
}

/// The enforcer's stack at its smallest.
pub(super) fn mini(world: &World) -> Result<Command> {
    Ok(program(world, "mini"))
}

/// nginx wants places for bodies even where it keeps none.
pub(super) fn temporary(dir: &str, name: &str) -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {dir}/{name}-{kind};"))
        .concat()
}
