use proptest::prelude::*;

use super::*;

fn rate(count: u32, seconds: u64, burst: u32) -> Rate {
    Rate { count, period: Duration::from_secs(seconds), burst }
}

fn key(rule: Option<&str>, rate: Rate) -> Key {
    let name = |text: &str| enforcer_policy::Name::parse(text).unwrap();
    Key { agent: name("a"), rule: rule.map(name), rate }
}

fn at(quota: &Quota, cell: &mut Option<Instant>, now: Instant) -> Option<Duration> {
    match quota.next(*cell, now) {
        Ok(next) => {
            *cell = Some(next);
            None
        }
        Err(wait) => Some(wait),
    }
}

#[test]
fn five_per_hour_lets_five_through_at_once_and_names_the_moment_of_the_sixth() {
    let quota = Quota::new(rate(5, 3600, 5)).unwrap();
    let (mut cell, start) = (None, Instant::now());
    for _ in 0..5 {
        assert_eq!(at(&quota, &mut cell, start), None);
    }
    let wait = at(&quota, &mut cell, start).unwrap();
    assert_eq!(wait, Duration::from_secs(720));
    assert!(at(&quota, &mut cell, start + wait - Duration::from_nanos(1)).is_some());
    assert_eq!(at(&quota, &mut cell, start + wait), None);
}

#[test]
fn a_burst_of_one_spaces_requests_evenly() {
    let quota = Quota::new(rate(60, 60, 1)).unwrap();
    let (mut cell, start) = (None, Instant::now());
    assert_eq!(at(&quota, &mut cell, start), None);
    assert_eq!(at(&quota, &mut cell, start), Some(Duration::from_secs(1)));
    assert_eq!(at(&quota, &mut cell, start + Duration::from_secs(1)), None);
}

#[test]
fn what_cannot_be_counted_is_refused_when_made() {
    for bad in
        [rate(0, 60, 1), rate(1, 0, 1), rate(1, 60, 0), rate(1, u64::MAX, 1), rate(1, 1 << 31, u32::MAX)]
    {
        assert!(Quota::new(bad).is_err(), "{bad:?}");
    }
    let mut limits = Limits::default();
    let bad = key(None, rate(0, 60, 1));
    assert!(matches!(limits.take(&[bad], Instant::now()), Err(NotTaken::Uncountable(_))));
}

#[test]
fn several_rates_are_taken_all_or_none() {
    let wide = key(None, rate(10, 60, 10));
    let narrow = key(Some("r"), rate(1, 60, 1));
    let (mut limits, now) = (Limits::default(), Instant::now());
    let both = [wide.clone(), narrow.clone()];
    assert_eq!(limits.take(&both, now), Ok(()));
    for _ in 0..20 {
        let Err(NotTaken::Exhausted(exhausted)) = limits.take(&both, now) else { panic!("taken") };
        assert_eq!(exhausted.key, narrow);
    }
    // The refused ones took nothing from the wide rate.
    for _ in 0..9 {
        assert_eq!(limits.take(std::slice::from_ref(&wide), now), Ok(()));
    }
    assert!(limits.take(std::slice::from_ref(&wide), now).is_err());
}

#[test]
fn agents_and_rules_do_not_share_cells() {
    let (mut limits, now) = (Limits::default(), Instant::now());
    let one = rate(1, 60, 1);
    assert_eq!(limits.take(&[key(Some("r"), one)], now), Ok(()));
    assert_eq!(limits.take(&[key(Some("s"), one)], now), Ok(()));
    let other = Key { agent: enforcer_policy::Name::parse("b").unwrap(), ..key(Some("r"), one) };
    assert_eq!(limits.take(&[other], now), Ok(()));
    assert!(limits.take(&[key(Some("r"), one)], now).is_err());
}

proptest! {
    #[test]
    fn no_window_ever_sees_more_than_count_plus_burst(
        count in 1u32..50, seconds in 1u64..100, burst in 1u32..50,
        steps in proptest::collection::vec(0u64..3_000, 1..400),
    ) {
        let rate = rate(count, seconds, burst);
        let quota = Quota::new(rate).unwrap();
        let (mut cell, mut now) = (None, Instant::now());
        let mut passed: Vec<Instant> = Vec::new();
        for step in steps {
            now += Duration::from_millis(step);
            if at(&quota, &mut cell, now).is_none() {
                passed.push(now);
            }
        }
        for (first, start) in passed.iter().enumerate() {
            let inside = passed.iter().skip(first).take_while(|t| **t - *start <= rate.period).count();
            prop_assert!(inside <= (count + burst) as usize, "{inside} of {count}+{burst}");
        }
    }

    #[test]
    fn whoever_waits_as_told_is_let_through(count in 1u32..1000, seconds in 1u64..10_000, burst in 1u32..100) {
        let quota = Quota::new(rate(count, seconds, burst)).unwrap();
        let (mut cell, now) = (None, Instant::now());
        while at(&quota, &mut cell, now).is_none() {}
        let wait = at(&quota, &mut cell, now).unwrap();
        prop_assert_eq!(at(&quota, &mut cell, now + wait), None);
    }
}
