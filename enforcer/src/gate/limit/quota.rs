//! A rate or a budget in the form the algorithm needs (generic cell rate algorithm).
//!
//! A cell is the moment at which all that was taken is refilled. Nothing that could overflow or divide
//! by zero later gets past [`Quota::of_rate`] and [`Quota::of_budget`]; there is no "no limit" value.

use std::time::Duration;

use enforcer_policy::{Budget, Rate};

/// What cannot be counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a limit of {0} cannot be counted")]
pub struct Uncountable(pub String);

/// Bounds every sum that is made below.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// `units` are refilled in so much time
    units: u64,
    period: Duration,
    /// so far ahead of time may be taken: a whole burst
    burst: Duration,
}

/// Why there was nothing to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// Until there is enough.
    For(Duration),
    /// More than ever fits.
    Ever,
}

impl Quota {
    /// One unit is one request.
    pub fn of_rate(rate: &Rate) -> Result<Self, Uncountable> {
        let uncountable = || Uncountable(rate.to_string());
        if rate.count == 0 || rate.burst == 0 {
            return Err(uncountable());
        }
        let quota = Quota { units: rate.count.into(), period: rate.period, burst: Duration::ZERO };
        let burst = quota.time(rate.burst.into()).ok_or_else(uncountable)?;
        quota.with_burst(burst).ok_or_else(uncountable)
    }

    /// One unit is one byte; all of them may go at once.
    pub fn of_budget(budget: &Budget) -> Result<Self, Uncountable> {
        let quota = Quota { units: budget.bytes, period: budget.period, burst: Duration::ZERO };
        quota.with_burst(budget.period).ok_or_else(|| Uncountable(budget.to_string()))
    }

    fn with_burst(self, burst: Duration) -> Option<Self> {
        let countable =
            self.units > 0 && !self.period.is_zero() && self.period <= CENTURY && burst <= CENTURY;
        (countable && !burst.is_zero()).then_some(Quota { burst, ..self })
    }

    /// In which so much is refilled. Rounded up: rounding down would let one too many through.
    fn time(&self, units: u64) -> Option<Duration> {
        let one = self.period.as_nanos().checked_mul(units.into())?.div_ceil(self.units.into());
        u64::try_from(one).ok().map(Duration::from_nanos)
    }

    /// The cell after so many units more. `cell` and `now` are on one clock.
    pub fn next(&self, cell: Option<Duration>, now: Duration, units: u64) -> Result<Duration, Short> {
        let cost = self.time(units).filter(|cost| *cost <= self.burst).ok_or(Short::Ever)?;
        let full = cell.map_or(now, |cell| cell.max(now)) + cost;
        let ahead = full - now;
        if ahead > self.burst { Err(Short::For(ahead - self.burst)) } else { Ok(full) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(count: u32, seconds: u64, burst: u32) -> Rate {
        Rate { count, period: Duration::from_secs(seconds), burst, per: Vec::new() }
    }

    fn at(quota: &Quota, cell: &mut Option<Duration>, now: Duration) -> Option<Duration> {
        match quota.next(*cell, now, 1) {
            Ok(next) => {
                *cell = Some(next);
                None
            }
            Err(Short::For(wait)) => Some(wait),
            Err(Short::Ever) => panic!("one unit always fits"),
        }
    }

    const START: Duration = Duration::from_secs(1000);

    #[test]
    fn five_per_hour_lets_five_through_at_once_and_names_the_moment_of_the_sixth() {
        let quota = Quota::of_rate(&rate(5, 3600, 5)).unwrap();
        let mut cell = None;
        for _ in 0..5 {
            assert_eq!(at(&quota, &mut cell, START), None);
        }
        let wait = at(&quota, &mut cell, START).unwrap();
        assert_eq!(wait, Duration::from_secs(720));
        assert!(at(&quota, &mut cell, START + wait - Duration::from_nanos(1)).is_some());
        assert_eq!(at(&quota, &mut cell, START + wait), None);
    }

    #[test]
    fn a_burst_of_one_spaces_requests_evenly() {
        let quota = Quota::of_rate(&rate(60, 60, 1)).unwrap();
        let mut cell = None;
        assert_eq!(at(&quota, &mut cell, START), None);
        assert_eq!(at(&quota, &mut cell, START), Some(Duration::from_secs(1)));
        assert_eq!(at(&quota, &mut cell, START + Duration::from_secs(1)), None);
    }

    #[test]
    fn what_cannot_be_counted_is_refused_when_made() {
        for bad in
            [rate(0, 60, 1), rate(1, 0, 1), rate(1, 60, 0), rate(1, u64::MAX, 1), rate(1, 1 << 31, u32::MAX)]
        {
            assert!(Quota::of_rate(&bad).is_err(), "{bad:?}");
        }
        let none = Budget { bytes: 0, period: Duration::from_secs(1), per_host: false };
        assert!(Quota::of_budget(&none).is_err());
    }

    #[test]
    fn bytes_go_all_at_once_and_come_back_evenly() {
        let day = Duration::from_secs(86_400);
        let quota = Quota::of_budget(&Budget { bytes: 86_400, period: day, per_host: false }).unwrap();
        assert_eq!(quota.next(None, START, 86_401), Err(Short::Ever));
        let empty = quota.next(None, START, 86_400).unwrap();
        assert_eq!(quota.next(Some(empty), START, 10), Err(Short::For(Duration::from_secs(10))));
        assert!(quota.next(Some(empty), START + Duration::from_secs(10), 10).is_ok());
        // A gigabyte a second: far less than a nanosecond for each byte, and still counted.
        let fast = Budget { bytes: 1 << 40, period: Duration::from_secs(1), per_host: false };
        let quota = Quota::of_budget(&fast).unwrap();
        let cell = quota.next(None, START, 1 << 39).unwrap();
        assert_eq!(cell - START, Duration::from_millis(500));
    }

    proptest! {
        #[test]
        fn no_window_ever_sees_more_than_count_plus_burst(
            count in 1u32..50, seconds in 1u64..100, burst in 1u32..50,
            steps in proptest::collection::vec(0u64..3_000, 1..400),
        ) {
            let rate = rate(count, seconds, burst);
            let quota = Quota::of_rate(&rate).unwrap();
            let (mut cell, mut now) = (None, START);
            let mut passed: Vec<Duration> = Vec::new();
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
            let quota = Quota::of_rate(&rate(count, seconds, burst)).unwrap();
            let mut cell = None;
            while at(&quota, &mut cell, START).is_none() {}
            let wait = at(&quota, &mut cell, START).unwrap();
            prop_assert_eq!(at(&quota, &mut cell, START + wait), None);
        }
    }
}
