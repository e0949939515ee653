//! Is a commit a descendant of another? Proved from the commits in a pack (gitformat-pack).
//!
//! Only what was hashed here counts: a commit is what its bytes hash to, and it names its parents. So a
//! chain of commits in the pack from the new object back to the old one is a proof, whatever else is
//! in the pack. What cannot be proved is not a fast-forward: SHA-256 objects, commits that are not sent
//! because the server has them, deltas on objects that are not sent.

use std::collections::{HashMap, HashSet};

use flate2::{Decompress, FlushDecompress, Status};

/// git writes commits first; whoever does not see a proof by then will not.
const MAX_HELD: usize = 8 * 1024 * 1024;
/// A commit is some hundred bytes; octopuses and signatures make a few thousand.
const MAX_COMMIT: usize = 256 * 1024;
const MAX_COMMITS: usize = 20_000;

type Id = [u8; 20];

/// What has been read of a pack.
#[derive(Default)]
pub(crate) struct Proof {
    at: usize,
    left: Option<u32>,
    parents: HashMap<Id, Vec<Id>>,
    /// commits by where they start, for deltas on them
    starts: HashMap<usize, Id>,
    texts: HashMap<Id, Vec<u8>>,
    named: HashSet<Id>,
    /// An object that was not all there is not tried again before there are so many bytes.
    wait: usize,
}

enum Kind {
    Commit,
    DeltaOn(Option<Id>),
    Other,
}

impl Proof {
    /// Looks at all of the pack so far. True: it will not learn more that matters.
    pub(crate) fn look(&mut self, pack: &[u8], ended: bool, updates: &[(&str, &str)]) -> bool {
        if pack.len() < self.wait && !ended {
            return false;
        }
        let done = |proof: &Proof| updates.iter().all(|(old, new)| proof.proved(old, new));
        if self.left.is_none() {
            let Some(header) = pack.get(..12) else { return ended };
            let count: Option<[u8; 4]> = header.get(8..).and_then(|count| count.try_into().ok());
            self.left = match (header.get(..8), count) {
                (Some(b"PACK\0\0\0\x02"), Some(count)) => Some(u32::from_be_bytes(count)),
                _ => Some(0),
            };
            self.at = 12;
        }
        while self.left.is_some_and(|left| left > 0) && self.parents.len() < MAX_COMMITS && self.at < MAX_HELD
        {
            let before = self.parents.len();
            match self.object(pack) {
                Some(Ok(())) => self.left = self.left.map(|left| left - 1),
                Some(Err(())) => self.left = Some(0),
                None => {
                    self.wait = pack.len() + (pack.len().saturating_sub(self.at) / 2).max(1024);
                    return ended || pack.len() > MAX_HELD;
                }
            }
            if self.parents.len() > before
                && updates.iter().any(|(old, _)| id(old).is_some_and(|old| self.named.contains(&old)))
                && done(self)
            {
                return true;
            }
        }
        true
    }

    /// Is there a chain of commits from `new` back to `old`?
    pub(crate) fn proved(&self, old: &str, new: &str) -> bool {
        let (Some(old), Some(new)) = (id(old), id(new)) else { return false };
        let mut seen = HashSet::new();
        let mut next = vec![new];
        while let Some(commit) = next.pop() {
            for parent in self.parents.get(&commit).into_iter().flatten() {
                if *parent == old {
                    return true;
                }
                if seen.insert(*parent) {
                    next.push(*parent);
                }
            }
        }
        false
    }

    /// One more object. `None`: it is not all there yet; an error: this is no pack.
    fn object(&mut self, pack: &[u8]) -> Option<Result<(), ()>> {
        let start = self.at;
        let mut at = start;
        let mut byte = *pack.get(at)?;
        at += 1;
        let kind = byte >> 4 & 7;
        let mut size = usize::from(byte & 15);
        let mut shift = 4;
        while byte & 0x80 != 0 {
            byte = *pack.get(at)?;
            at += 1;
            if shift > 50 {
                return Some(Err(()));
            }
            size |= usize::from(byte & 0x7f) << shift;
            shift += 7;
        }
        let kind = match kind {
            1 => Kind::Commit,
            2..=4 => Kind::Other,
            6 => {
                let mut byte = *pack.get(at)?;
                at += 1;
                let mut back = usize::from(byte & 0x7f);
                while byte & 0x80 != 0 {
                    byte = *pack.get(at)?;
                    at += 1;
                    if back > MAX_HELD {
                        return Some(Err(()));
                    }
                    back = (back + 1) << 7 | usize::from(byte & 0x7f);
                }
                Kind::DeltaOn(start.checked_sub(back).and_then(|base| self.starts.get(&base)).copied())
            }
            7 => {
                let base: Id = pack.get(at..at + 20)?.try_into().ok()?;
                at += 20;
                Kind::DeltaOn(self.texts.contains_key(&base).then_some(base))
            }
            _ => return Some(Err(())),
        };
        let keep = matches!(kind, Kind::Commit | Kind::DeltaOn(Some(_))) && size <= MAX_COMMIT;
        let (content, used) = match inflate(pack.get(at..)?, size, keep)? {
            Ok(inflated) => inflated,
            Err(()) => return Some(Err(())),
        };
        self.at = at + used;
        let commit = match kind {
            _ if !keep => None,
            Kind::Commit => Some(content),
            Kind::DeltaOn(base) => {
                base.and_then(|base| self.texts.get(&base)).and_then(|base| apply(base, &content))
            }
            Kind::Other => None,
        };
        if let Some(commit) = commit {
            self.commit(start, commit);
        }
        Some(Ok(()))
    }

    fn commit(&mut self, start: usize, text: Vec<u8>) {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
        hash.update(format!("commit {}\0", text.len()).as_bytes());
        hash.update(&text);
        let Ok(own) = Id::try_from(hash.finish().as_ref()) else { return };
        // The head of a commit: one `tree`, then its `parent` lines, then the rest.
        let parents: Vec<Id> = text
            .split(|byte| *byte == b'\n')
            .skip(1)
            .map_while(|line| line.strip_prefix(b"parent "))
            .filter_map(|hex| id(std::str::from_utf8(hex).ok()?))
            .collect();
        self.named.extend(&parents);
        self.parents.insert(own, parents);
        self.starts.insert(start, own);
        self.texts.insert(own, text);
    }
}

/// The content of one object (empty unless it is kept), and how many bytes it took.
#[allow(clippy::type_complexity, reason = "not there yet, not a pack, or both numbers")]
fn inflate(input: &[u8], size: usize, keep: bool) -> Option<Result<(Vec<u8>, usize), ()>> {
    let mut inflater = Decompress::new(true);
    let mut content = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let (used, made) = (inflater.total_in(), inflater.total_out());
        let rest = input.get(usize::try_from(used).ok()?..)?;
        let Ok(status) = inflater.decompress(rest, &mut buffer, FlushDecompress::None) else {
            return Some(Err(()));
        };
        let fresh = usize::try_from(inflater.total_out() - made).ok()?;
        if inflater.total_out() > size as u64 {
            return Some(Err(()));
        }
        if keep {
            content.extend_from_slice(buffer.get(..fresh)?);
        }
        match status {
            Status::StreamEnd if inflater.total_out() == size as u64 => {
                return Some(Ok((content, usize::try_from(inflater.total_in()).ok()?)));
            }
            Status::StreamEnd => return Some(Err(())),
            Status::Ok | Status::BufError if fresh == 0 && inflater.total_in() == used => return None,
            Status::Ok | Status::BufError => {}
        }
    }
}

/// A delta (gitformat-pack, "Deltified representation") on a base. `None`: it does not fit.
fn apply(base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = delta.iter().copied();
    let mut length = || {
        let (mut value, mut shift) = (0usize, 0);
        loop {
            let byte = bytes.next()?;
            if shift > 50 {
                return None;
            }
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    };
    let (from, to) = (length()?, length()?);
    if from != base.len() || to > MAX_COMMIT {
        return None;
    }
    let mut out = Vec::with_capacity(to);
    while let Some(op) = bytes.next() {
        if op & 0x80 != 0 {
            let mut number = |first: u8, count: u8| {
                let mut value = 0usize;
                for n in 0..count {
                    if op & (1 << (first + n)) != 0 {
                        value |= usize::from(bytes.next()?) << (8 * n);
                    }
                }
                Some(value)
            };
            let (offset, size) = (number(0, 4)?, number(4, 3)?);
            let size = if size == 0 { 0x10000 } else { size };
            out.extend_from_slice(base.get(offset..offset.checked_add(size)?)?);
        } else if op != 0 {
            for _ in 0..op {
                out.push(bytes.next()?);
            }
        } else {
            return None;
        }
        if out.len() > to {
            return None;
        }
    }
    (out.len() == to).then_some(out)
}

fn id(hex: &str) -> Option<Id> {
    let mut id = [0; 20];
    if hex.len() != 40 || !hex.is_ascii() {
        return None;
    }
    for (byte, digits) in id.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::{MAX_HELD, Proof};

    fn git(dir: &std::path::Path, words: &[&str], input: &str) -> Vec<u8> {
        use std::io::Write as _;
        let mut child = Command::new("git")
            .current_dir(dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null")])
            .envs([
                ("GIT_AUTHOR_NAME", "a"),
                ("GIT_AUTHOR_EMAIL", "a@a"),
                ("GIT_COMMITTER_NAME", "a"),
                ("GIT_COMMITTER_EMAIL", "a@a"),
            ])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("git is installed");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{words:?}");
        output.stdout
    }

    /// Packs that git itself makes: what is a fast-forward is proved, what is not is not.
    #[test]
    fn a_chain_of_commits_in_the_pack_is_a_proof() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        git(dir, &["init", "-q"], "");
        let mut ids = Vec::new();
        for n in 0..40 {
            std::fs::write(dir.join("file"), format!("{n}\n").repeat(200)).unwrap();
            git(dir, &["add", "file"], "");
            git(dir, &["commit", "-q", "-m", &format!("commit {n}, with words that all of them share")], "");
            ids.push(String::from_utf8(git(dir, &["rev-parse", "HEAD"], "")).unwrap().trim().to_owned());
        }
        let check = |range: &str, old: &str, new: &str, expected: bool| {
            for thin in ["--thin", "--window=0"] {
                let pack = git(
                    dir,
                    &["pack-objects", "--stdout", "--revs", "-q", "--delta-base-offset", thin],
                    range,
                );
                let mut proof = Proof::default();
                // In pieces, as it comes.
                let mut settled = false;
                for end in (0..pack.len()).step_by(100) {
                    settled = settled || proof.look(&pack[..end], false, &[(old, new)]);
                }
                let settled = settled || proof.look(&pack, true, &[(old, new)]);
                assert!(settled);
                assert_eq!(proof.proved(old, new), expected, "{range} {thin}");
            }
        };
        let (old, new) = (ids[2].clone(), ids[39].clone());
        check(&format!("{new}\n^{old}\n"), &old, &new, true);
        check(&format!("{}\n^{old}\n", ids[3]), &old, &ids[3], true);
        check(&format!("{new}\n^{}\n", ids[20]), &old, &new, false);
        check(&format!("{new}\n^{old}\n"), &new, &old, false);
        // Rewritten: the same tree on another parent.
        git(dir, &["checkout", "-q", "--detach", &ids[1]], "");
        git(dir, &["commit", "-q", "--allow-empty", "-m", "elsewhere"], "");
        let forced = String::from_utf8(git(dir, &["rev-parse", "HEAD"], "")).unwrap().trim().to_owned();
        check(&format!("{forced}\n^{}\n", ids[1]), &old, &forced, false);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), held in 0usize..2) {
            let old = "1111111111111111111111111111111111111111";
            let pack = [b"PACK\0\0\0\x02\0\0\0\x05".to_vec(), bytes].concat();
            let mut proof = Proof::default();
            proof.look(&pack[..pack.len() / 2], false, &[(old, old)]);
            proof.look(&pack, held == 1, &[(old, old)]);
            prop_assert!(!proof.proved(old, old));
            prop_assert!(pack.len() < MAX_HELD);
        }
    }
}
