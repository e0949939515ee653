//! From a host to the rules that might match, so that a decision looks only at those.

use std::collections::HashMap;

use super::{Conditions, HostPattern};
use crate::canon::Host;

/// Rule numbers by host, ascending in every list.
#[derive(Debug, Default)]
pub(crate) struct Index {
    exact: HashMap<Host, Vec<usize>>,
    below: HashMap<Box<str>, Vec<usize>>,
    any: Vec<usize>,
}

impl Index {
    pub(crate) fn insert(&mut self, number: usize, conditions: &Conditions) {
        for pattern in &conditions.hosts {
            let list = match pattern {
                HostPattern::Any => &mut self.any,
                HostPattern::Exact(host) => self.exact.entry(host.clone()).or_default(),
                HostPattern::Below(base) => self.below.entry((**base).into()).or_default(),
            };
            if list.last() != Some(&number) {
                list.push(number);
            }
        }
    }

    /// The lowest number `matches` says yes to, with what it said. Allocates nothing.
    pub(crate) fn first<T>(
        &self,
        host: &Host,
        mut matches: impl FnMut(usize) -> Option<T>,
    ) -> Option<(usize, T)> {
        let mut best: Option<(usize, T)> = None;
        for list in self.candidates(host) {
            for &number in list {
                if best.as_ref().is_some_and(|(found, _)| *found <= number) {
                    break;
                }
                if let Some(value) = matches(number) {
                    best = Some((number, value));
                    break;
                }
            }
        }
        best
    }

    pub(crate) fn names(&self, host: &Host) -> bool {
        self.exact.contains_key(host)
    }

    fn candidates(&self, host: &Host) -> impl Iterator<Item = &[usize]> {
        let below = parents(host.name()).filter_map(|base| self.below.get(base));
        std::iter::once(&self.any).chain(self.exact.get(host)).chain(below).map(Vec::as_slice)
    }
}

/// `b.c`, then `c`, for `a.b.c`.
fn parents(name: Option<&str>) -> impl Iterator<Item = &str> {
    std::iter::successors(name, |name| name.split_once('.').map(|(_, parent)| parent)).skip(1)
}
