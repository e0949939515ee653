//! Rule numbers by the path templates of their rules: from a path to the few rules that might match it.
//!
//! What is found is too much rather than too little: behind a `**` nothing is looked at. Whoever asks
//! judges each rule that is found.

use super::template::Segment;
use crate::canon::{cmp_decoded_segment, segments};

/// As deep as a template is long. Numbers ascend in every list, since rules come in their order.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// of templates with `**` here
    open: Vec<usize>,
    /// of templates that end here
    end: Vec<usize>,
    /// sorted by the decoded literal
    literals: Vec<(Box<str>, Tree)>,
    /// behind `*` or `{name}`
    one: Option<Box<Tree>>,
}

impl Tree {
    pub(super) fn insert(&mut self, number: usize, template: &[Segment]) {
        let list = match template.split_first() {
            None => &mut self.end,
            Some((Segment::Many, _)) => &mut self.open,
            Some((Segment::One(_), rest)) => return self.one.get_or_insert_default().insert(number, rest),
            Some((Segment::Literal(literal), rest)) => {
                let found = self.literals.binary_search_by(|(own, _)| (**own).cmp(literal));
                let at = found.unwrap_or_else(|at| {
                    self.literals.insert(at, (literal.as_str().into(), Tree::default()));
                    at
                });
                return self.literals[at].1.insert(number, rest);
            }
        };
        if list.last() != Some(&number) {
            list.push(number);
        }
    }

    /// The lists of all rules that might match this canonical path. Allocates nothing; no node is seen twice.
    pub(super) fn along<'a>(&'a self, path: &str, found: &mut impl FnMut(&'a [usize])) {
        self.walk(segments(path), found);
    }

    fn walk<'a, 'p>(
        &'a self,
        mut path: impl Iterator<Item = &'p str> + Clone,
        found: &mut impl FnMut(&'a [usize]),
    ) {
        found(&self.open);
        let Some(segment) = path.next() else { return found(&self.end) };
        if let Ok(at) = self.literals.binary_search_by(|(own, _)| cmp_decoded_segment(segment, own).reverse())
        {
            self.literals[at].1.walk(path.clone(), found);
        }
        if let Some(one) = self.one.as_ref().filter(|_| !segment.is_empty()) {
            one.walk(path, found);
        }
    }

    /// The lists of all rules whose templates might cover this one.
    pub(super) fn above<'a>(&'a self, template: &[Segment], found: &mut impl FnMut(&'a [usize])) {
        found(&self.open);
        match template.split_first() {
            None => found(&self.end),
            Some((Segment::Many, _)) => {}
            Some((Segment::One(_), rest)) => self.one.iter().for_each(|one| one.above(rest, found)),
            Some((Segment::Literal(literal), rest)) => {
                if let Ok(at) = self.literals.binary_search_by(|(own, _)| (**own).cmp(literal)) {
                    self.literals[at].1.above(rest, found);
                }
                let one = self.one.iter().filter(|_| !literal.is_empty());
                one.for_each(|one| one.above(rest, found));
            }
        }
    }
}
