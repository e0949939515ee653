use super::*;

fn rate(count: u32, seconds: u64) -> Limit {
    Limit::Requests(Rate { count, period: Duration::from_secs(seconds), burst: count, per: Vec::new() })
}

fn counter(agent: &str, rule: Option<&str>, limit: Limit, value: Option<&str>) -> Counter {
    let name = |text: &str| enforcer_policy::Name::parse(text).unwrap();
    let value = value.map(str::to_owned);
    Counter::new(Key { agent: name(agent), rule: rule.map(name), limit, value }).unwrap()
}

fn plain(rule: Option<&str>, count: u32) -> Counter {
    counter("a", rule, rate(count, 60), None)
}

struct Stage {
    folder: tempfile::TempDir,
    limits: Limits,
}

const START: Now = Now { boot: Duration::from_secs(5000), wall: Duration::from_secs(1_000_000) };

fn after(seconds: u64) -> Now {
    let passed = Duration::from_secs(seconds);
    Now { boot: START.boot + passed, wall: START.wall + passed }
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits::open_at(folder.path(), Some("boot"), START).unwrap();
        Stage { folder, limits }
    }

    fn take(&self, counters: &[Counter], now: Now) -> Result<(), NotTaken> {
        self.limits.state().take(counters, 1, now)
    }

    fn restart(self, boot: &str, now: Now) -> Self {
        let limits = Limits::open_at(self.folder.path(), Some(boot), now).unwrap();
        Stage { limits, ..self }
    }
}

#[test]
fn several_limits_are_taken_all_or_none() {
    let stage = Stage::new();
    let both = [plain(None, 10), plain(Some("r"), 1)];
    assert_eq!(stage.take(&both, START), Ok(()));
    for _ in 0..20 {
        let Err(NotTaken::Exhausted { key, .. }) = stage.take(&both, START) else { panic!("taken") };
        assert_eq!(key, both[1].key);
    }
    // The refused ones took nothing from the wide rate.
    for _ in 0..9 {
        assert_eq!(stage.take(&both[..1], START), Ok(()));
    }
    assert!(stage.take(&both[..1], START).is_err());
}

#[test]
fn agents_rules_values_and_kinds_do_not_share_cells() {
    let stage = Stage::new();
    let budget = Budget { bytes: 1, period: Duration::from_secs(60), per_host: false };
    let all = [
        plain(Some("r"), 1),
        plain(Some("s"), 1),
        plain(None, 1),
        counter("b", Some("r"), rate(1, 60), None),
        counter("a", Some("r"), rate(1, 60), Some("x")),
        counter("a", Some("r"), rate(1, 60), Some("y")),
        counter("a", None, Limit::Upload(budget.clone()), None),
        counter("a", None, Limit::Download(budget), None),
    ];
    for counter in &all {
        assert_eq!(stage.take(std::slice::from_ref(counter), START), Ok(()), "{counter:?}");
        assert!(stage.take(std::slice::from_ref(counter), START).is_err(), "{counter:?}");
    }
}

#[test]
fn a_thousand_at_once_get_exactly_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Arc::new(Limits::open(folder.path(), Some("boot")).unwrap());
    let hundred = counter("a", None, rate(100, 86_400), None);
    let passed: usize = std::thread::scope(|scope| {
        let takers: Vec<_> = (0..10)
            .map(|_| {
                let (limits, hundred) = (limits.clone(), hundred.clone());
                scope.spawn(move || {
                    let one = std::slice::from_ref(&hundred);
                    (0..100).filter(|_| limits.take(one, 1).is_ok()).count()
                })
            })
            .collect();
        takers.into_iter().map(|taker| taker.join().unwrap()).sum()
    });
    assert_eq!(passed, 100);
    // And not one more for whoever restarts the daemon, however it ended.
    drop(limits);
    let limits = Limits::open(folder.path(), Some("boot")).unwrap();
    assert!(limits.take(std::slice::from_ref(&hundred), 1).is_err());
}

#[test]
fn what_was_taken_is_still_taken_after_a_restart_and_after_a_boot() {
    let two = [plain(Some("r"), 2), counter("a", Some("r"), rate(2, 60), Some("x"))];
    let mut stage = Stage::new();
    for counter in &two {
        let one = std::slice::from_ref(counter);
        assert_eq!(stage.take(one, START), Ok(()));
    }
    stage = stage.restart("boot", after(1));
    for counter in &two {
        let one = std::slice::from_ref(counter);
        assert_eq!(stage.take(one, after(1)), Ok(()));
        assert!(stage.take(one, after(1)).is_err());
    }
    // 60 s refill both; a boot took 10 of them.
    let now = Now { boot: Duration::from_secs(3), wall: after(11).wall };
    stage = stage.restart("another", now);
    for counter in &two {
        let one = std::slice::from_ref(counter);
        let Err(NotTaken::Exhausted { wait, .. }) = stage.take(one, now) else { panic!("refilled") };
        assert!(wait > Duration::from_secs(15) && wait <= Duration::from_secs(20), "{wait:?}");
        let later = Now { boot: now.boot + wait, wall: now.wall };
        assert_eq!(stage.take(one, later), Ok(()));
    }
}

#[test]
fn a_flood_of_values_is_refused_and_leaves_other_agents_alone() {
    let stage = Stage::new();
    let value = |agent: &str, n: usize| counter(agent, Some("r"), rate(1, 60), Some(&n.to_string()));
    for n in 0..MAX_VALUES {
        assert_eq!(stage.take(&[value("a", n)], START), Ok(()), "{n}");
    }
    let refused = stage.take(&[value("a", MAX_VALUES)], START);
    let Err(NotTaken::Crowded { wait, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(wait, Duration::from_secs(60));
    // What counts already goes on counting, plain rates have their place, others have theirs.
    assert!(matches!(stage.take(&[value("a", 5)], START), Err(NotTaken::Exhausted { .. })));
    assert_eq!(stage.take(&[plain(Some("r"), 1)], START), Ok(()));
    assert_eq!(stage.take(&[value("b", 1)], START), Ok(()));
    assert!(stage.limits.state().cells.len() <= MAX_VALUES + 2);
    // Once they are full again, their slots are used again.
    assert_eq!(stage.take(&[value("a", MAX_VALUES)], after(61)), Ok(()));
    let state = stage.limits.state();
    assert!(state.cells.len() == 1 && state.used as usize == MAX_VALUES + 2, "{}", state.cells.len());
}

#[test]
fn a_budget_is_taken_by_the_byte() {
    let stage = Stage::new();
    let limit = Limit::Upload(Budget { bytes: 1000, period: Duration::from_secs(1000), per_host: false });
    let bytes = [counter("a", None, limit, None)];
    let mut state = stage.limits.state();
    assert_eq!(state.take(&bytes, 999, START), Ok(()));
    assert!(matches!(state.take(&bytes, 2, START), Err(NotTaken::Exhausted { .. })));
    assert_eq!(state.take(&bytes, 1, START), Ok(()));
    assert!(matches!(state.take(&bytes, 1001, after(10_000)), Err(NotTaken::Beyond { .. })));
}
