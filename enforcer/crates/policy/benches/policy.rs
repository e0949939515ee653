//! `cargo xtask bench policy`: what a decision and a reload cost, with a thousand rules.
//!
//! Times are of this machine and this moment; allocations are exact. Nothing here passes or fails.
#![expect(clippy::print_stdout, reason = "a table on standard output is what it is for")]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime};

use enforcer_policy::{AgentPolicy, Decision, Moment, PolicySet, Request, Source};

/// Decisions are timed by so many, because a clock costs as much as one of them.
const BATCH: u32 = 64;
const BATCHES: usize = 4000;
const RELOADS: usize = 40;

fn main() {
    let hundred = sources(100, 10, true);
    let one = sources(1, 1000, true);
    let one_host = sources(1, 1000, false);
    println!("decide                                            p50 ns   p99 ns   allocations");
    let spread = load(&hundred);
    decide(
        "100 agents of 10 rules, the last rule",
        &spread,
        "agent-99",
        "https://api-9.example.com/v1/items/7",
    );
    decide(
        "1 agent of 1000 rules, a host each, the last",
        &load(&one),
        "agent-0",
        "https://api-999.example.com/v1/items/7",
    );
    let crowded = load(&one_host);
    decide(
        "1 agent of 1000 rules for one host, the first",
        &crowded,
        "agent-0",
        "https://api.example.com/v1/0/items/7",
    );
    decide(
        "1 agent of 1000 rules for one host, the last",
        &crowded,
        "agent-0",
        "https://api.example.com/v1/999/items/7",
    );
    decide(
        "1 agent of 1000 rules, no rule for the host",
        &load(&one),
        "agent-0",
        "https://nowhere.example.com/",
    );
    println!(
        "\nreload                                            p50 ms   max ms   decided meanwhile, refused"
    );
    reload("100 files of 10 rules", &hundred);
    reload("1 file of 1000 rules", &one);
}

/// Rules as people write them, a deny rule for every ten. `spread`: a host for each rule, else one for all.
fn sources(agents: usize, rules: usize, spread: bool) -> Vec<Source> {
    let file = |agent: usize| {
        let mut text = format!(
            "version: 1\nagent: agent-{agent}\ncredentials: {{ key: {{ bearer: {{ secret: key }} }} }}\ndeny:\n"
        );
        for deny in 0..rules.div_ceil(10) {
            text.push_str(&format!(
                "  - {{ name: no-{deny}, methods: DELETE, paths: \"/v1/{deny}/settings/**\" }}\n"
            ));
        }
        text.push_str("allow:\n");
        for rule in 0..rules {
            let (host, path) = match spread {
                true => (format!("api-{rule}.example.com"), "/v1/items/{item}".to_owned()),
                false => ("api.example.com".to_owned(), format!("/v1/{rule}/items/{{item}}")),
            };
            text.push_str(&format!(
                "  - name: rule-{rule}\n    host: {host}\n    methods: [GET, POST]\n    paths: \"{path}\"\n    credential: key\n    rate: 60/min\n"
            ));
        }
        Source { name: format!("agent-{agent}.yaml"), text }
    };
    (0..agents).map(file).collect()
}

fn load(sources: &[Source]) -> PolicySet {
    PolicySet::compile(sources).unwrap_or_else(|report| panic!("{report}")).set
}

fn decide(what: &str, set: &PolicySet, agent: &str, url: &str) {
    let request = Request::parse("GET", url).expect("the requests of a benchmark are canonical");
    let once = |policy: &AgentPolicy, at: Moment| black_box(policy.decide(black_box(&request), at));
    let at = Moment::from(SystemTime::now());
    let policy = || set.agent(black_box(agent)).expect("the agents of a benchmark are there");
    let mut times: Vec<u64> = (0..BATCHES)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..BATCH {
                once(policy(), at);
            }
            u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX) / u64::from(BATCH)
        })
        .collect();
    let allocations = allocation_counter::measure(|| {
        once(policy(), at);
    });
    times.sort_unstable();
    println!("{what:<48} {:>8} {:>8} {:>13}", part(&times, 50), part(&times, 99), allocations.count_total);
}

/// Compiles and swaps, while another thread decides all the time on whatever is in force.
fn reload(what: &str, sources: &[Source]) {
    let current = RwLock::new(Arc::new(load(sources)));
    let (done, decided, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let request = Request::parse("GET", "https://api-9.example.com/v1/items/7").expect("canonical");
    let mut times: Vec<Duration> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let set = current.read().map(|set| set.clone()).expect("nobody panics with the lock");
                let decision = set.agent("agent-0").map(|policy| policy.decide(&request, Moment::ANY));
                decided.fetch_add(1, Ordering::Relaxed);
                if !matches!(decision, Some(Decision::Allow { .. })) {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        for _ in 0..RELOADS {
            let started = Instant::now();
            let set = Arc::new(load(sources));
            *current.write().expect("nobody panics with the lock") = set;
            times.push(started.elapsed());
        }
        done.store(true, Ordering::Relaxed);
    });
    times.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    println!(
        "{what:<48} {:>8.1} {:>8.1} {:>17}, {}",
        ms(times.get(times.len() / 2)),
        ms(times.last()),
        decided.load(Ordering::Relaxed),
        refused.load(Ordering::Relaxed)
    );
}

fn part(sorted: &[u64], percent: usize) -> u64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len() - 1)).copied().unwrap_or(0)
}
