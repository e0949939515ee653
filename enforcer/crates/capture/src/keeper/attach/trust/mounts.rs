//! The mounts of a process, as its `/proc/PID/mountinfo` has them, and ours among them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Everything that a process has mounted.
#[derive(Debug)]
pub(super) struct Table(String);

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount<'t> {
    /// What of its file system is shown.
    root: &'t str,
    pub(super) point: PathBuf,
    /// Its peer group, where it is shared: a mount below it appears wherever that one does.
    pub(super) group: Option<&'t str>,
}

impl Table {
    pub(super) fn of(who: &str) -> io::Result<Self> {
        fs::read_to_string(format!("/proc/{who}/mountinfo")).map(Table)
    }

    pub(super) fn mounts(&self) -> impl Iterator<Item = Mount<'_>> {
        self.0.lines().filter_map(|line| {
            let mut fields = line.split(" - ").next()?.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            let group = fields.skip(1).find_map(|field| field.strip_prefix("shared:"));
            Some(Mount { root, point: point.into(), group })
        })
    }

    pub(super) fn peer_groups(&self) -> BTreeSet<&str> {
        self.mounts().filter_map(|mount| mount.group).collect()
    }

    /// Where the session's files are shown, in the order in which they were mounted, and in which of its directories they lie.
    /// Who may mount can make places look like ours: that deceives nobody but itself.
    pub(super) fn ours(&self, session: &Path) -> Vec<(PathBuf, String)> {
        let mut names = session.iter().rev().filter_map(|name| name.to_str());
        let (Some(id), Some(parent)) = (names.next(), names.next()) else { return Vec::new() };
        let inside = format!("/{parent}/{id}/");
        let ours = |mount: Mount<'_>| {
            let (_, below) = mount.root.split_once(&inside)?;
            Some((mount.point, below.split('/').next()?.to_owned()))
        };
        self.mounts().filter_map(ours).collect()
    }

    /// Tells two tables apart.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
        36 35 0:25 / / rw,relatime shared:1 master:2 - overlay overlay rw\n\
        41 36 0:30 /enforcer/trust/bot-abc234/0/ours/certs /etc/ssl/certs ro - tmpfs tmpfs rw\n\
        42 36 0:30 /enforcer/trust/bot-abc234/12/ours/bundle.pem /etc/ssl/cert.pem ro - tmpfs tmpfs rw\n\
        43 36 0:30 /enforcer/trust/bot-abc2345/0/certs /elsewhere ro - tmpfs tmpfs rw\n";

    #[test]
    fn our_mounts_are_known_by_what_they_show() {
        let table = Table(TABLE.into());
        let ours = table.ours(Path::new("/run/enforcer/trust/bot-abc234"));
        let expected = [("/etc/ssl/certs", "0"), ("/etc/ssl/cert.pem", "12")];
        assert_eq!(ours, expected.map(|(point, dir)| (PathBuf::from(point), dir.to_owned())));
        assert!(table.ours(Path::new("/run/enforcer/trust/bot-abc23")).is_empty());
    }

    #[test]
    fn what_is_shared_has_a_group() {
        assert_eq!(Table(TABLE.into()).peer_groups().into_iter().collect::<Vec<_>>(), ["1"]);
    }
}
