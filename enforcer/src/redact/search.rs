//! Finding any of a few dozen needles in one pass: Wu and Manber's shifts over four bytes.
//!
//! Most steps look at four bytes and jump almost a needle's length, so a long token makes the
//! search faster, not slower. Also tells what at the end of a chunk may be the start of a match.

use zeroize::Zeroizing;

/// Bytes that decide a jump. Needles are longer: `Secret` refuses values under eight bytes.
const GRAM: usize = 4;
const SLOTS_LOG2: u32 = 12;

pub(super) struct Search {
    needles: Vec<Zeroizing<Vec<u8>>>,
    /// How far a window may move whose last gram falls into the slot; 0: look closer.
    shifts: Vec<u16>,
    shortest: usize,
    longest: usize,
    /// Bytes that a needle starts with.
    starts: [bool; 256],
}

/// Matches as one run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Search {
    /// `None` when there is nothing to find.
    pub(super) fn new(mut needles: Vec<Zeroizing<Vec<u8>>>) -> Option<Self> {
        needles.sort_by(|a, b| a.as_slice().cmp(b.as_slice()));
        needles.dedup_by(|a, b| a.as_slice() == b.as_slice());
        let shortest = needles.iter().map(|n| n.len()).min()?;
        let longest = needles.iter().map(|n| n.len()).max()?;
        assert!(shortest > GRAM, "a secret has at least eight bytes, and no form of it is shorter");
        let furthest = shortest - GRAM + 1;
        let mut shifts = vec![u16::try_from(furthest).unwrap_or(u16::MAX); 1 << SLOTS_LOG2];
        let mut starts = [false; 256];
        for needle in &needles {
            starts[usize::from(needle[0])] = true;
            for (at, gram) in needle[..shortest].windows(GRAM).enumerate() {
                let slot = &mut shifts[slot(gram)];
                *slot = (*slot).min(u16::try_from(shortest - GRAM - at).unwrap_or(u16::MAX));
            }
        }
        Some(Search { needles, shifts, shortest, longest, starts })
    }

    /// Every byte that belongs to a match, as runs in order that do not overlap. Overlapping matches
    /// count in full: cutting the first only would leave the end of the second.
    pub(super) fn runs(&self, hay: &[u8]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut at = 0;
        while at + self.shortest <= hay.len() {
            let window_end = at + self.shortest;
            let shift = self.shifts[slot(&hay[window_end - GRAM..window_end])];
            if shift > 0 {
                at += usize::from(shift);
                continue;
            }
            let longest = self.needles.iter().filter(|n| hay[at..].starts_with(n)).map(|n| n.len()).max();
            if let Some(length) = longest {
                let found = Run { start: at, end: at + length };
                match runs.last_mut() {
                    Some(last) if found.start < last.end => last.end = last.end.max(found.end),
                    _ => runs.push(found),
                }
            }
            at += 1;
        }
        runs
    }

    /// Where the longest end of `hay` starts that is the beginning of a needle, and not all of it.
    pub(super) fn live(&self, hay: &[u8]) -> usize {
        let from = hay.len().saturating_sub(self.longest - 1);
        (from..hay.len())
            .find(|at| {
                let end = &hay[*at..];
                self.starts[usize::from(end[0])]
                    && self.needles.iter().any(|n| n.len() > end.len() && n.starts_with(end))
            })
            .unwrap_or(hay.len())
    }
}

/// Multiplicative hashing (Knuth): the upper bits mix best.
fn slot(gram: &[u8]) -> usize {
    let word = gram.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
    (word.wrapping_mul(0x9e37_79b1) >> (32 - SLOTS_LOG2)) as usize
}
