//! `loopback` and `unix`: services of the host that the agent may reach.

use std::path::{Component, Path, PathBuf};

use super::At;
use super::form::{Text, text};
use super::reader::Reader;
use crate::canon::shown;
use crate::yaml::Entry;

pub(super) const SOCKET: Text = text("^/[^/*?]+(/[^/*?]+)*$", &["/run/postgresql/.s.PGSQL.5432"]);

/// Each holds two listeners open for as long as a session runs.
const MOST: usize = 64;
/// In an agent's own namespace these are the resolver's and the injector's.
const TAKEN: [u16; 2] = [53, 923];
/// `sun_path` (unix(7)) less the eight bytes that the agent's view of sockets takes, and the final NUL.
const LONGEST: usize = 108 - 8 - 1;
/// Not places for a service's socket, and not the same in an agent's view.
const ELSEWHERE: [&str; 3] = ["/proc", "/sys", "/dev"];

pub(super) fn ports(r: &mut Reader<'_>, entry: &Entry) -> Vec<u16> {
    let texts = r.one_or_list(entry);
    distinct(r, entry, &texts);
    texts.iter().filter_map(|text| port(r, text)).collect()
}

fn port(r: &mut Reader<'_>, text: &At<String>) -> Option<u16> {
    let digits = text.value.bytes().all(|b| b.is_ascii_digit()) && !text.value.starts_with('0');
    match text.value.parse::<u16>() {
        Ok(port) if TAKEN.contains(&port) => {
            let message = format!("port {port} of an agent's loopback is the enforcer's own");
            r.error_with("E001", &text.span, message, "let the service listen on another port");
            None
        }
        Ok(port) if digits => Some(port),
        _ => {
            let message = format!("`{}` is not a port of the host's loopback", shown(&text.value));
            r.error_with("E001", &text.span, message, "write numbers from 1 to 65535, for example `[5432]`");
            None
        }
    }
}

pub(super) fn sockets(r: &mut Reader<'_>, entry: &Entry) -> Vec<PathBuf> {
    let texts = r.one_or_list(entry);
    distinct(r, entry, &texts);
    texts.iter().filter_map(|text| socket(r, text)).collect()
}

fn socket(r: &mut Reader<'_>, text: &At<String>) -> Option<PathBuf> {
    let path = Path::new(&text.value);
    // `components` would read `//` and `/./` away; what stands here is what a program dials.
    let plain = path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
    let trouble = if !plain || path.parent().is_none() || text.value.contains(['\0', '*', '?']) {
        Some("is not the path of a socket: absolute, written out, without `..`")
    } else if text.value.len() > LONGEST {
        Some("is longer than a socket's path can be")
    } else if ELSEWHERE.iter().any(|place| path.starts_with(place)) {
        Some("is not a place for a socket of a service")
    } else {
        None
    };
    match trouble {
        None => Some(path.to_owned()),
        Some(what) => {
            let message = format!("`{}` {what}", shown(&text.value));
            r.error_with("E001", &text.span, message, "for example `[\"/run/postgresql/.s.PGSQL.5432\"]`");
            None
        }
    }
}

fn distinct(r: &mut Reader<'_>, entry: &Entry, texts: &[At<String>]) {
    for (number, text) in texts.iter().enumerate() {
        if texts.iter().take(number).any(|earlier| earlier.value == text.value) {
            r.error("E001", &text.span, format!("`{}` is listed twice", shown(&text.value)));
        }
    }
    if texts.len() > MOST {
        let message = format!("`{}` lists {} services, at most {MOST} are possible", entry.key, texts.len());
        r.error("E001", &entry.key_span, message);
    }
}
