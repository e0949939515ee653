//! The attempts as a programme: `NAME [KEY=VALUE…]`, `each NAME,NAME…`, `loop SECONDS NAME,NAME…`, `list`, and what a
//! stage needs.
//!
//! Exit code 0: something got out, or was accepted by the kernel on its way out. 1: refused. 3: no answer. 4: this
//! kernel has no such thing. 2: wrong usage.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::{ROUTES, Targets, Verdict, host, route};

/// The whole programme, with its arguments.
pub fn main(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let mut words = arguments.into_iter();
    let name = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    let to = Targets::from_words(rest.iter().map(String::as_str));
    match name.as_str() {
        "list" => {
            ROUTES.iter().for_each(|route| println!("{}", route.name));
            ExitCode::SUCCESS
        }
        "serve" => host::serve(&rest),
        "pin" => host::pin(&rest),
        "each" => each(&rest, &to),
        "loop" => repeat(&rest, &to),
        _ => match route(&name) {
            Some(route) => {
                let verdict = route.attempt(&to);
                println!("{name}: {verdict}");
                ExitCode::from(verdict.code())
            }
            None => {
                eprintln!("probe: there is no `{name}`; `probe list` names them all");
                ExitCode::from(2)
            }
        },
    }
}

/// Every named way once, each in a process of its own; a line each: name, code, what was said.
fn each(rest: &[String], to: &Targets) -> ExitCode {
    let names: Vec<&str> = rest.first().map(|w| w.split(',').collect()).unwrap_or_default();
    let mut out = false;
    for route in names.iter().filter_map(|name| route(name)) {
        let verdict = route.apart(to);
        println!("{}\t{}\t{}", route.name, verdict.code(), verdict.text());
        out |= matches!(verdict, Verdict::Out(_));
    }
    ExitCode::from(u8::from(!out))
}

/// Every named way again and again; the first that gets out ends it.
fn repeat(rest: &[String], to: &Targets) -> ExitCode {
    let seconds = rest.first().and_then(|w| w.parse().ok()).unwrap_or(60);
    let names: Vec<&str> = rest.get(1).map(|w| w.split(',').collect()).unwrap_or_default();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0u32;
    println!("started");
    while Instant::now() < until {
        for route in ROUTES.iter().filter(|route| names.contains(&route.name)) {
            if let Verdict::Out(why) = route.attempt(to) {
                println!("{}: GOT OUT in round {rounds}: {why}", route.name);
                return ExitCode::SUCCESS;
            }
        }
        rounds += 1;
    }
    println!("{rounds} rounds, nothing got out");
    ExitCode::from(1)
}
