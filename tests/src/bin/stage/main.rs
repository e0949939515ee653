//! The simple servers of the stage, and its janitor.
//!
//! `stage outside` is the attacker's machine and the name server; `stage host DIR` is what a host
//! has running for itself; `stage victim` is a process one could take hold of; `stage janitor NAME`
//! takes the stage down when its owner is gone.
#![forbid(unsafe_code)]

mod dns;
mod host;
mod outside;

use std::io::Read;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["outside"] => outside::serve(),
        ["host", dir] => host::serve(dir.as_ref()),
        ["victim"] => host::victim(),
        ["janitor", name] => janitor(name),
        _ => bail!("usage: stage outside | host DIR | victim | janitor NAME"),
    }
}

/// Standard input is a pipe whose other end only the owner holds: its end is the owner's end.
fn janitor(name: &str) -> Result<()> {
    let _end = std::io::stdin().read_to_end(&mut Vec::new());
    enforcer_tests::world::sweep(name)
}

/// Says that everything is bound, then serves until killed.
fn ready() -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout();
    out.write_all(b"ready\n").and_then(|()| out.flush()).context("tell that the servers are ready")?;
    loop {
        std::thread::park();
    }
}
