//! The two network namespaces and the one cable between them.
//!
//! Neighbour entries are permanent and IPv6 is quiet, so that no packet is on the cable but those
//! somebody sent.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::command::must;
use super::plan;
use super::sweep::{host_netns, outside_netns};

/// The host's end of the cable.
pub(crate) const HOST_LINK: &str = "eth0";
pub(crate) const OUTSIDE_LINK: &str = "net0";

/// Makes both namespaces of the stage `name`.
pub(super) fn make(name: &str) -> Result<()> {
    let (host, outside) = (format!("{name}-host"), format!("{name}-net"));
    must(&["ip", "netns", "add", &host])?;
    must(&["ip", "netns", "add", &outside])?;
    must(&[
        "ip",
        "-n",
        &host,
        "link",
        "add",
        HOST_LINK,
        "address",
        &mac(plan::HOST_MAC),
        "type",
        "veth",
        "peer",
        "name",
        OUTSIDE_LINK,
        "address",
        &mac(plan::OUTSIDE_MAC),
        "netns",
        &outside,
    ])?;
    let mut inside = vec![
        "link set lo up".to_owned(),
        format!("addr add {}/24 dev {HOST_LINK}", plan::HOST_V4),
        format!("addr add {}/64 dev {HOST_LINK} nodad", plan::HOST_V6),
        format!("link set {HOST_LINK} up"),
        format!("route add default via {}", plan::SERVER_V4),
        format!("-6 route add default via {}", plan::SERVER_V6),
    ];
    let mut beyond = vec![
        "link set lo up".to_owned(),
        format!("addr add {}/24 dev {OUTSIDE_LINK}", plan::SERVER_V4),
        format!("addr add {}/24 dev {OUTSIDE_LINK}", plan::SHOP_V4),
        format!("addr add {}/24 dev {OUTSIDE_LINK}", plan::ATTACKER_V4),
        format!("addr add {}/32 dev {OUTSIDE_LINK}", plan::PRIVATE_V4),
        format!("addr add {}/32 dev {OUTSIDE_LINK}", plan::METADATA_V4),
        format!("addr add {}/64 dev {OUTSIDE_LINK} nodad", plan::SERVER_V6),
        format!("addr add {}/64 dev {OUTSIDE_LINK} nodad", plan::SHOP_V6),
        format!("addr add {}/64 dev {OUTSIDE_LINK} nodad", plan::ATTACKER_V6),
        format!("link set {OUTSIDE_LINK} up"),
    ];
    let there = [
        plan::SERVER_V4.to_string(),
        plan::SHOP_V4.to_string(),
        plan::ATTACKER_V4.to_string(),
        plan::SERVER_V6.to_string(),
        plan::SHOP_V6.to_string(),
        plan::ATTACKER_V6.to_string(),
    ];
    inside.extend(there.iter().map(|a| neighbour(a, plan::OUTSIDE_MAC, HOST_LINK)));
    let here = [plan::HOST_V4.to_string(), plan::HOST_V6.to_string()];
    beyond.extend(here.iter().map(|a| neighbour(a, plan::HOST_MAC, OUTSIDE_LINK)));

    for (netns, path, link, lines) in
        [(&host, host_netns(name), HOST_LINK, inside), (&outside, outside_netns(name), OUTSIDE_LINK, beyond)]
    {
        quiet(&path, link)?;
        batch(netns, &lines)?;
    }
    Ok(())
}

/// Makes the namespace that plays a container's: a cable of its own to the outside, which carries the host's address, so
/// that the counter sees its packets.
pub(super) fn make_box(name: &str) -> Result<()> {
    let (inner, outside) = (format!("{name}-box"), format!("{name}-net"));
    must(&["ip", "netns", "add", &inner])?;
    let (here, there) = (mac(plan::HOST_MAC), mac(plan::OUTSIDE_MAC));
    let pair = [
        "link", "add", HOST_LINK, "address", &here, "type", "veth", "peer", "name", "net1", "address", &there,
    ];
    let mut words = vec!["ip", "-n", &inner];
    words.extend(pair.iter().copied().chain(["netns", &outside]));
    must(&words)?;
    let mut inside = vec![
        "link set lo up".to_owned(),
        format!("addr add {}/24 dev {HOST_LINK}", plan::BOX_V4),
        format!("addr add {}/64 dev {HOST_LINK} nodad", plan::BOX_V6),
        format!("link set {HOST_LINK} up"),
        format!("route add default via {}", plan::BOX_GATEWAY_V4),
        format!("-6 route add default via {}", plan::BOX_GATEWAY_V6),
    ];
    let mut beyond = vec![
        format!("addr add {}/24 dev net1", plan::BOX_GATEWAY_V4),
        format!("addr add {}/64 dev net1 nodad", plan::BOX_GATEWAY_V6),
        "link set net1 up".to_owned(),
    ];
    let gateways = [plan::BOX_GATEWAY_V4.to_string(), plan::BOX_GATEWAY_V6.to_string()];
    inside.extend(gateways.iter().map(|a| neighbour(a, plan::OUTSIDE_MAC, HOST_LINK)));
    let here = [plan::BOX_V4.to_string(), plan::BOX_V6.to_string()];
    beyond.extend(here.iter().map(|a| neighbour(a, plan::HOST_MAC, "net1")));
    quiet(&super::sweep::box_netns(name), HOST_LINK)?;
    quiet(&outside_netns(name), "net1")?;
    batch(&inner, &inside)?;
    batch(&outside, &beyond)
}

/// No solicitations, no duplicate address detection; ping for everybody, as distributions set it.
fn quiet(netns: &Path, link: &str) -> Result<()> {
    let settings = [
        format!("net.ipv6.conf.{link}.router_solicitations=0"),
        format!("net.ipv6.conf.{link}.accept_dad=0"),
        format!("net.ipv6.conf.{link}.accept_ra=0"),
        "net.ipv4.ping_group_range=0 2147483647".to_owned(),
    ];
    for setting in &settings {
        enter(netns, &["sysctl", "-q", "-w", setting])?;
    }
    Ok(())
}

/// Runs a set-up command in a namespace.
pub(super) fn enter(netns: &Path, words: &[&str]) -> Result<String> {
    let flag = format!("--net={}", netns.display());
    let mut line = vec!["nsenter", &flag, "--"];
    line.extend(words);
    must(&line)
}

fn batch(netns: &str, lines: &[String]) -> Result<()> {
    for line in lines {
        let mut words = vec!["ip", "-n", netns];
        words.extend(line.split(' '));
        must(&words)?;
    }
    Ok(())
}

fn neighbour(address: &str, there: [u8; 6], link: &str) -> String {
    format!("neigh replace {address} lladdr {} dev {link} nud permanent", mac(there))
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|b| format!("{b:02x}")).join(":")
}

/// Is this one of the directories `ip netns` keeps? Made when it is missing on a fresh machine.
pub(super) fn prepare() -> Result<()> {
    fs::create_dir_all("/run/netns")?;
    Ok(())
}
