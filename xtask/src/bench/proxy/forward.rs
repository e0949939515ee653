//! How the forward proxies among the peers are set up: they are asked by CONNECT and mint certificates.

use std::fs;
use std::process::Command;

use anyhow::Result;
use enforcer_tests::world::{World, command, plan};

use super::peers::port;
use super::rows::NAMES;

/// squid drops to this user, and its helper writes as it.
const SQUID: &str = "proxy";
const CERTGEN: &str = "/usr/lib/squid/security_file_certgen";

/// `ssl_bump bump all`, as packaged.
pub(super) fn squid(world: &World) -> Result<Command> {
    let d = world.dir.join("bench/squid");
    if !d.exists() {
        fs::create_dir_all(&d)?;
        let at = |name: &str| d.join(name).display().to_string();
        command::must(&[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=squid",
            "-keyout",
            &at("ca.key"),
            "-out",
            &at("ca.pem"),
        ])?;
        command::must(&[CERTGEN, "-c", "-s", &at("minted"), "-M", "16MB"])?;
        fs::write(d.join("hosts"), hosts())?;
        command::must(&["chown", "-R", SQUID, &d.display().to_string()])?;
    }
    let text = format!(
        "http_port {host}:{port} ssl-bump tls-cert={d}/ca.pem tls-key={d}/ca.key generate-host-certificates=on dynamic_cert_mem_cache_size=64MB
sslcrtd_program {CERTGEN} -s {d}/minted -M 64MB
sslcrtd_children 1 startup=1
ssl_bump bump all
tls_outgoing_options cafile={roots}
request_header_access Authorization deny all
request_header_add Authorization \"Bearer {bearer}\" all
http_access allow all
hosts_file {d}/hosts
cache deny all
access_log none
cache_log {d}/cache.log
pid_filename none
pinger_enable off
max_filedescriptors 16384
shutdown_lifetime 0 seconds
visible_hostname squid
",
        host = plan::HOST_V4,
        port = port("squid"),
        d = d.display(),
        roots = world.upstream_ca().display(),
        bearer = world.canaries.bearer,
    );
    let file = d.join("squid.conf");
    fs::write(&file, text)?;
    Ok(world.on_host(&["squid", "-N", "-f", &file.display().to_string()]))
}

/// Streams bodies as they come, which it does not by itself.
pub(super) fn mitmproxy(world: &World) -> Result<Command> {
    let d = world.dir.join("bench/mitmproxy");
    fs::create_dir_all(&d)?;
    let script = d.join("inject.py");
    fs::write(
        &script,
        format!(
            "def requestheaders(flow):\n    flow.request.stream = True\n    flow.request.headers[\"authorization\"] = \"Bearer {}\"\n\n\
             def responseheaders(flow):\n    flow.response.stream = True\n",
            world.canaries.bearer
        ),
    )?;
    let roots = format!("ssl_verify_upstream_trusted_ca={}", world.upstream_ca().display());
    let (port, files) = (port("mitmproxy").to_string(), format!("confdir={}", d.display()));
    let (host, script) = (plan::HOST_V4.to_string(), script.display().to_string());
    let program = world.dir.join("bench/mitmdump").display().to_string();
    let mut words =
        vec![program.as_str(), "-q", "--listen-host", &host, "--listen-port", &port, "-s", &script];
    // The addresses of the stage look public.
    for option in [roots.as_str(), &files, "connection_strategy=lazy", "flow_detail=0", "block_global=false"]
    {
        words.extend(["--set", option]);
    }
    Ok(world.on_host(&words))
}

/// `xtask/peers/hudsucker`.
pub(super) fn hudsucker(world: &World) -> Result<Command> {
    Ok(super::configs::program(world, "hudsucker"))
}

/// Names, for who asks no name server.
fn hosts() -> String {
    let names = (0..NAMES * ROUNDS).map(|n| format!("{} n{n}.{}\n", plan::SERVER_V4, plan::MANY_ZONE));
    names.chain([format!("{} {}\n", plan::SERVER_V4, plan::API)]).collect()
}

/// As many as anybody will want.
const ROUNDS: usize = 20;
