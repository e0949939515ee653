//! Rates from moments: the least that would have let everything through, and room above it.

use std::collections::VecDeque;

/// Half as much again as was ever seen.
const HEADROOM: (u64, u64) = (3, 2);
/// Agents come in bursts; fewer at a time than this bounds nothing worth bounding.
const FEW: u64 = 5;
const HOUR: u64 = 3_600_000_000;

/// `COUNT/hour`, with a burst where moments were far apart. Moments in microseconds, in any order.
pub(super) fn rate(moments: &[u64]) -> String {
    let mut moments = moments.to_vec();
    moments.sort_unstable();
    let count = round(with_headroom(most_within(&moments, HOUR)));
    let burst = round(with_headroom(level(&moments, count)).max(FEW));
    if burst < count { format!("{count}/hour burst {burst}") } else { format!("{count}/hour") }
}

/// The most moments in any stretch of this length.
fn most_within(moments: &[u64], stretch: u64) -> u64 {
    let mut inside: VecDeque<u64> = VecDeque::new();
    let mut most = 0;
    for &moment in moments {
        while inside.front().is_some_and(|first| moment - first >= stretch) {
            inside.pop_front();
        }
        inside.push_back(moment);
        most = most.max(inside.len());
    }
    most as u64
}

/// How full a bucket that empties at `count` an hour would have been at most.
fn level(moments: &[u64], count: u64) -> u64 {
    // In units of a token's share of an hour, so that nothing is rounded.
    let (mut level, mut most, mut last) = (0u128, 0u128, 0u64);
    for &moment in moments {
        let drained = u128::from(moment - last) * u128::from(count);
        level = level.saturating_sub(drained) + u128::from(HOUR);
        most = most.max(level);
        last = moment;
    }
    u64::try_from(most.div_ceil(u128::from(HOUR))).unwrap_or(u64::MAX)
}

fn with_headroom(count: u64) -> u64 {
    count.saturating_mul(HEADROOM.0).div_ceil(HEADROOM.1).max(2)
}

/// Up to a number people write: 1, 2, 3, 5, 10, 15, 20, 30, 50, 100, …
fn round(count: u64) -> u64 {
    let mut ten = 1u64;
    loop {
        for step in [10, 15, 20, 30, 50] {
            let nice = step * ten / 10;
            // 1.5 is no count.
            if (step * ten).is_multiple_of(10) && nice >= count {
                return nice;
            }
        }
        ten = ten.saturating_mul(10);
    }
}

/// The next size of a body people write, twice what was seen.
pub(super) fn size(most: u64) -> String {
    let mut size = 1024u64;
    while size < most.saturating_mul(2) {
        size = size.saturating_mul(4);
    }
    match size {
        0..=0xf_ffff => format!("{}KiB", size >> 10),
        _ => format!("{}MiB", size >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::{HOUR, level, rate, round, size};

    #[test]
    fn a_rate_has_room_above_what_was_seen() {
        assert_eq!(rate(&[0]), "2/hour");
        let second = 1_000_000;
        let burst: Vec<u64> = (0..10).map(|n| n * second).collect();
        assert_eq!(rate(&burst), "15/hour");
        let steady: Vec<u64> = (0..600).map(|n| n * 60 * second).collect();
        assert_eq!(rate(&steady), "100/hour burst 5");
        let mut both = steady.clone();
        both.extend((0..8).map(|n| 3 * HOUR + n * second));
        assert_eq!(rate(&both), "150/hour burst 15");
    }

    #[test]
    fn the_level_is_what_a_bucket_would_need() {
        assert_eq!(level(&[0, 0, 0], 1), 3);
        assert_eq!(level(&[0, HOUR, 2 * HOUR], 1), 1);
        assert_eq!(level(&[0, HOUR / 2, HOUR], 1), 2);
    }

    #[test]
    fn numbers_are_ones_people_write() {
        for (count, expected) in
            [(1, 1), (2, 2), (4, 5), (6, 10), (11, 15), (31, 50), (51, 100), (151, 200), (999, 1000)]
        {
            assert_eq!(round(count), expected, "{count}");
        }
        for (most, expected) in [(0, "1KiB"), (600, "4KiB"), (100_000, "256KiB"), (3_000_000, "16MiB")] {
            assert_eq!(size(most), expected, "{most}");
        }
    }
}
