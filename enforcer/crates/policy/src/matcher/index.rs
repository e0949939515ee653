//! From a host, and from a host and a path, to the rules that might match, so that a decision looks only at
//! those.

use std::collections::HashMap;

use super::tree::Tree;
use super::{Carriage, Conditions, HostPattern, bare};
use crate::canon::{Host, Request};

/// Rule numbers by host, ascending in every list.
#[derive(Debug, Default)]
pub(crate) struct Index {
    exact: HashMap<Host, Rules>,
    below: HashMap<Box<str>, Rules>,
    any: Rules,
    /// of rules for which a final `/` makes no difference
    wide: bool,
}

/// Of one host pattern.
#[derive(Debug, Default)]
struct Rules {
    all: Vec<usize>,
    by_path: Tree,
}

impl Index {
    /// Of rules with one effect, with the number of the first of them.
    pub(crate) fn new<'a>(
        first: usize,
        wide: bool,
        conditions: impl IntoIterator<Item = &'a Conditions>,
    ) -> Self {
        let mut index = Index { wide, ..Index::default() };
        for (at, conditions) in conditions.into_iter().enumerate() {
            index.insert(first + at, conditions);
        }
        index
    }

    fn insert(&mut self, number: usize, conditions: &Conditions) {
        for pattern in &conditions.hosts {
            let rules = match pattern {
                HostPattern::Any => &mut self.any,
                HostPattern::Exact(host) => self.exact.entry(host.clone()).or_default(),
                HostPattern::Below(base) => self.below.entry((**base).into()).or_default(),
            };
            if rules.all.last() != Some(&number) {
                rules.all.push(number);
            }
            for template in &conditions.templates {
                rules.by_path.insert(number, template.segments());
            }
        }
    }

    /// The lowest number `matches` says yes to, with what it said, among all rules for the host.
    pub(crate) fn first<T>(
        &self,
        host: &Host,
        mut matches: impl FnMut(usize) -> Option<T>,
    ) -> Option<(usize, T)> {
        let mut best = None;
        self.of_host(host).for_each(|rules| better(&mut best, &rules.all, &mut matches));
        best
    }

    /// The same among rules for the host and path of a request, for conditions that look at both.
    /// Allocates nothing.
    pub(crate) fn first_for<T>(
        &self,
        request: &Request,
        mut matches: impl FnMut(usize) -> Option<T>,
    ) -> Option<(usize, T)> {
        let mut best = None;
        self.candidates(request, |list| better(&mut best, list, &mut matches));
        best
    }

    /// Lists of all rules for the host and path of a request; a rule may be in several.
    pub(crate) fn candidates<'a>(&'a self, request: &Request, mut list: impl FnMut(&'a [usize])) {
        let mut along = |path: &str| {
            let path = bare(path, self.wide);
            self.of_host(&request.host).for_each(|rules| rules.by_path.along(path, &mut list));
        };
        along(request.target.path());
        // Deny rules look at an encoded slash both ways.
        if let Some(path) = request.target.decoded_slashes().filter(|_| self.wide) {
            along(&path);
        }
    }

    /// The lowest number `covers` says yes to, among rules that might cover these conditions.
    pub(crate) fn first_above(
        &self,
        conditions: &Conditions,
        mut covers: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        // What covers them has to cover their first host and their first template.
        let (host, template) = (conditions.hosts.first()?, conditions.templates.first()?);
        let mut best = None;
        let mut matches = |number: usize| covers(number).then_some(());
        self.above(host).for_each(|rules| match conditions.carriage {
            Carriage::Requests => {
                rules.by_path.above(template.segments(), &mut |list| better(&mut best, list, &mut matches))
            }
            // Taken or not before a path is seen.
            Carriage::Passthrough | Carriage::Raw => better(&mut best, &rules.all, &mut matches),
        });
        best.map(|(number, ())| number)
    }

    pub(crate) fn names(&self, host: &Host) -> bool {
        self.exact.contains_key(host)
    }

    fn of_host(&self, host: &Host) -> impl Iterator<Item = &Rules> {
        let below = parents(host.name()).filter_map(|base| self.below.get(base));
        std::iter::once(&self.any).chain(self.exact.get(host)).chain(below)
    }

    /// Of the patterns that cover this one.
    fn above(&self, pattern: &HostPattern) -> impl Iterator<Item = &Rules> {
        let (exact, name, own) = match pattern {
            HostPattern::Any => (None, None, None),
            HostPattern::Exact(host) => (self.exact.get(host), host.name(), None),
            HostPattern::Below(base) => (None, Some(&**base), self.below.get(&**base)),
        };
        let below = parents(name).filter_map(|base| self.below.get(base));
        std::iter::once(&self.any).chain(exact).chain(own).chain(below)
    }
}

/// A number below the best one so far, if `matches` says yes to one in this list.
fn better<T>(best: &mut Option<(usize, T)>, list: &[usize], matches: &mut impl FnMut(usize) -> Option<T>) {
    for &number in list {
        if best.as_ref().is_some_and(|(found, _)| *found <= number) {
            return;
        }
        if let Some(value) = matches(number) {
            *best = Some((number, value));
            return;
        }
    }
}

/// `b.c`, then `c`, for `a.b.c`.
fn parents(name: Option<&str>) -> impl Iterator<Item = &str> {
    std::iter::successors(name, |name| name.split_once('.').map(|(_, parent)| parent)).skip(1)
}
