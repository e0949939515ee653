//! What the host's own files say about names: resolv.conf and the hosts file.
//!
//! Only text in, values out. A line that cannot be read is left out, as every resolver does.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Both are short files; a host with more lines than this has another resolver.
const MAX_FILE: usize = 1024 * 1024;

/// The name servers of a resolv.conf(5): at most three, port 53.
pub fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        // A zone (`fe80::1%eth0`) means a link-local server; those need a scope we cannot keep.
        let Some(address) = words.next().and_then(|w| w.parse::<IpAddr>().ok()) else { continue };
        let server = SocketAddr::new(address, 53);
        if servers.len() < 3 && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

/// The names of a hosts(5) file with their addresses, in order.
pub fn host_names(hosts: &str) -> Vec<(String, IpAddr)> {
    let mut names = Vec::new();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|w| w.parse::<IpAddr>().ok()) else { continue };
        names.extend(words.map(|name| (name.trim_end_matches('.').to_ascii_lowercase(), address)));
    }
    names
}

/// Reads one of the two. A file that is missing is an empty one; any other trouble is an error.
pub fn read(path: &Path) -> std::io::Result<String> {
    match std::fs::read(path) {
        Ok(bytes) if bytes.len() > MAX_FILE => Err(std::io::Error::other("it is larger than 1 MiB")),
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}
