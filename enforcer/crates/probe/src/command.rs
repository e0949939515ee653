//! The attempts as a programme: `NAME [KEY=VALUE…]`, `each`, `loop SECONDS NAME,NAME…`, `list`, and what a stage needs.
//!
//! `each` says `ready PID`, reads a line for each attempt (`NAME KEY=VALUE…`) until the end of its input, and writes a line for each
//! (name, code, text, with tabs between).
//!
//! Exit code 0: something got out, or was accepted by the kernel on its way out. 1: refused. 3: no answer. 4: this
//! kernel has no such thing. 2: wrong usage.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::{ROUTES, Route, Targets, Verdict, host, route};

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
        "detach" => host::detach(&rest),
        "each" => each(),
        "hold" => hold(),
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

/// Attempts that are made at one time: most of them wait for an answer that does not come.
const AT_ONCE: usize = 8;

/// Every way that is asked for once, each in a process of its own.
pub fn each() -> ExitCode {
    println!("ready {}", std::process::id());
    let mut under_way = std::collections::VecDeque::new();
    let mut out = false;
    let mut tell = |route: &Route, verdict: &Verdict| {
        println!("{}\t{}\t{}", route.name, verdict.code(), verdict.text());
        out |= matches!(verdict, Verdict::Out(_));
    };
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let mut words = line.split_whitespace();
        let Some(route) = words.next().and_then(route) else { continue };
        match route.begin(&Targets::from_words(words)) {
            Ok(begun) => under_way.push_back(begun),
            Err(early) => tell(route, &early),
        }
        if under_way.len() >= AT_ONCE
            && let Some(first) = under_way.pop_front()
        {
            tell(first.route, &first.verdict());
        }
    }
    for begun in under_way {
        tell(begun.route, &begun.verdict());
    }
    ExitCode::from(u8::from(!out))
}

/// Does nothing until its input ends: a process to be taken hold of.
pub fn hold() -> ExitCode {
    let _end = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    ExitCode::SUCCESS
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
