//! What a `git push` asks for: the commands before the pack (gitprotocol-pack, "Reference Update Request").
//!
//! A command names a ref with its old and its new object, so creating and deleting are plain to see.
//! Whether an update is a fast-forward is not: [`pack`](super::pack) proves it from the commits that are
//! sent. The server refuses a command whose old object is not what the ref has, so `old` can be trusted.

use super::pack::Proof;

pub(super) const CONTENT_TYPE: &str = "application/x-git-receive-pack-request";

/// The commands and some of the pack are held; a push of thousands of refs is no agent's.
const MAX_COMMANDS: usize = 1000;

/// The head of a push.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Push {
    pub(crate) commands: Vec<Command>,
    pub(crate) capabilities: Vec<String>,
}

/// One ref that is to change.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) name: String,
    pub(crate) change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Create,
    Delete,
    /// to a descendant, which is proved
    Forward,
    /// to anything, as far as is known
    Force,
}

impl Change {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Change::Create => "create",
            Change::Delete => "delete",
            Change::Forward => "update",
            Change::Force => "force",
        }
    }
}

impl Push {
    /// The refs with what happens to each, for receipts.
    pub(crate) fn summary(&self) -> String {
        const SHOWN: usize = 8;
        let shown: Vec<String> =
            self.commands.iter().take(SHOWN).map(|c| format!("{} {}", c.change.word(), c.name)).collect();
        match self.commands.len().saturating_sub(SHOWN) {
            0 => format!("push: {}", shown.join(", ")),
            more => format!("push: {} and {more} more", shown.join(", ")),
        }
    }

    /// How git is told that none of the refs was changed, in the form that it asked for.
    pub fn report(&self, reason: &str) -> Vec<u8> {
        let has = |name: &str| self.capabilities.iter().any(|own| own == name);
        if !has("report-status") && !has("report-status-v2") {
            return pkt(format!("ERR {reason}\n").as_bytes());
        }
        let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // Shown in one line beside the ref; the whole reason stands above it.
        let short: String = line.chars().take(200).collect();
        let mut status = pkt(b"unpack ok\n");
        for command in &self.commands {
            status.extend(pkt(format!("ng {} {short}\n", command.name).as_bytes()));
        }
        status.extend(b"0000");
        if !has("side-band-64k") && !has("side-band") {
            return status;
        }
        // A band of the small kind holds 999 bytes (gitprotocol-pack, "side-band").
        let mut out = Vec::new();
        for (band, text) in [(2, format!("enforcer: {line}\n").into_bytes()), (1, status)] {
            for piece in text.chunks(990) {
                out.extend(pkt(&[&[band], piece].concat()));
            }
        }
        out.extend(b"0000");
        out
    }
}

fn pkt(text: &[u8]) -> Vec<u8> {
    // Callers pass less than a packet holds (65516 bytes).
    [format!("{:04x}", text.len() + 4).as_bytes(), text].concat()
}

/// Reads a push as it comes.
#[derive(Default)]
pub(crate) struct Reading {
    commands: Vec<(String, String, String)>,
    capabilities: Vec<String>,
    at: usize,
    stage: Stage,
}

#[derive(Default)]
enum Stage {
    #[default]
    Commands,
    Pack(Box<Proof>),
}

impl Reading {
    /// All bytes so far. `None`: more are needed.
    pub(crate) fn look(&mut self, bytes: &[u8], ended: bool, prove: bool) -> Result<Option<Push>, String> {
        while let Stage::Commands = self.stage {
            let Some(line) = packet(bytes, &mut self.at)? else {
                return if ended { Err("it ends before its commands do".into()) } else { Ok(None) };
            };
            match line {
                Some(line) => self.command(line)?,
                None => self.stage = Stage::Pack(Box::default()),
            }
        }
        let updates: Vec<(&str, &str)> = self
            .commands
            .iter()
            .filter(|(old, new, _)| prove && old != new && !is_zero(old) && !is_zero(new))
            .map(|(old, new, _)| (old.as_str(), new.as_str()))
            .collect();
        let Stage::Pack(proof) = &mut self.stage else { return Ok(None) };
        if !updates.is_empty() {
            let pack = bytes.get(self.at..).unwrap_or_default();
            if !proof.look(pack, ended, &updates) && !ended {
                return Ok(None);
            }
        }
        let commands = self.commands.iter().map(|(old, new, name)| {
            let change = match (is_zero(old), is_zero(new)) {
                (true, _) => Change::Create,
                (false, true) => Change::Delete,
                (false, false) if old == new || proof.proved(old, new) => Change::Forward,
                (false, false) => Change::Force,
            };
            Command { name: name.clone(), change }
        });
        Ok(Some(Push { commands: commands.collect(), capabilities: self.capabilities.clone() }))
    }

    fn command(&mut self, line: &[u8]) -> Result<(), String> {
        let line = std::str::from_utf8(line).map_err(|_error| "a command is not UTF-8".to_owned())?;
        let (command, capabilities) = match line.split_once('\0') {
            Some((command, capabilities)) => (command, Some(capabilities)),
            None => (line, None),
        };
        let command = command.strip_suffix('\n').unwrap_or(command);
        if let Some(capabilities) = capabilities {
            if !self.commands.is_empty() {
                return Err("capabilities stand behind another command than the first".into());
            }
            let words = capabilities.split([' ', '\n']).filter(|word| !word.is_empty());
            self.capabilities = words.map(str::to_owned).collect();
            if self.capabilities.iter().any(|word| word == "push-options") {
                return Err("push options (`-o`) are not looked into; push without them".into());
            }
        }
        if let Some(id) = command.strip_prefix("shallow ") {
            return if is_id(id) { Ok(()) } else { Err("a `shallow` line names no object".into()) };
        }
        let mut words = command.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some(old), Some(new), Some(name)) if is_id(old) && is_id(new) && old.len() == new.len() => {
                if !is_ref(name) {
                    return Err(format!("`{}` is not the name of a ref", crate::canon::shown(name)));
                }
                if self.commands.iter().any(|(_, _, other)| other == name) {
                    return Err(format!("`{name}` is changed twice"));
                }
                if self.commands.len() == MAX_COMMANDS {
                    return Err(format!("it changes more than {MAX_COMMANDS} refs"));
                }
                self.commands.push((old.to_owned(), new.to_owned(), name.to_owned()));
                Ok(())
            }
            (Some("push-cert"), ..) => {
                Err("signed pushes are not looked into; push without `--signed`".into())
            }
            _ => Err("this is not a command of a push".into()),
        }
    }
}

/// The next pkt-line. Outer `None`: not all there yet; inner `None`: a flush.
#[allow(clippy::option_option, reason = "the two are different things")]
fn packet<'b>(bytes: &'b [u8], at: &mut usize) -> Result<Option<Option<&'b [u8]>>, String> {
    let Some(length) = bytes.get(*at..*at + 4) else { return Ok(None) };
    let length = std::str::from_utf8(length)
        .ok()
        .filter(|length| length.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|length| usize::from_str_radix(length, 16).ok())
        .ok_or("a length is not four hex digits")?;
    match length {
        0 => {
            *at += 4;
            Ok(Some(None))
        }
        4.. => {
            let Some(line) = bytes.get(*at + 4..*at + length) else { return Ok(None) };
            *at += length;
            Ok(Some(Some(line)))
        }
        _ => Err("a line is shorter than its own length".into()),
    }
}

fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_zero(id: &str) -> bool {
    id.bytes().all(|b| b == b'0')
}

/// The stricter half of `git check-ref-format`: nothing in a name moves a cursor or climbs.
fn is_ref(name: &str) -> bool {
    name.starts_with("refs/")
        && !name.chars().any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c))
        && !name.contains("..")
        && !name.contains("@{")
        && !name.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock"))
        && !name.ends_with('.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Change, Reading, pkt};

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";
    const ZERO: &str = "0000000000000000000000000000000000000000";

    fn read(lines: &[String]) -> Result<Vec<(String, Change)>, String> {
        let mut bytes: Vec<u8> = lines.iter().flat_map(|line| pkt(line.as_bytes())).collect();
        bytes.extend(b"0000PACK");
        let push = Reading::default().look(&bytes, false, false)?.expect("a flush ends the commands");
        Ok(push.commands.into_iter().map(|command| (command.name, command.change)).collect())
    }

    #[test]
    fn commands_say_what_becomes_of_each_ref() {
        let lines = [
            format!("{ZERO} {A} refs/heads/new\0 report-status side-band-64k object-format=sha1 agent=git/2"),
            format!("{A} {ZERO} refs/heads/gone"),
            format!("{A} {B} refs/heads/main"),
            format!("{A} {A} refs/heads/same\n"),
        ];
        let read = read(&lines).unwrap();
        let changes: Vec<Change> = read.iter().map(|(_, change)| *change).collect();
        assert_eq!(changes, [Change::Create, Change::Delete, Change::Force, Change::Forward]);
    }

    #[test]
    fn what_is_no_plain_push_is_refused() {
        for (line, words) in [
            (format!("{ZERO} {A} refs/heads/x\0push-options"), "push options"),
            ("push-cert\0".to_owned(), "signed"),
            (format!("{ZERO} {A} HEAD"), "name of a ref"),
            (format!("{ZERO} {A} refs/heads/../x"), "name of a ref"),
            (format!("{ZERO} {A} refs/heads/x\u{1b}[2J"), "name of a ref"),
            (format!("{ZERO} {A}0 refs/heads/x"), "not a command"),
            (format!("{ZERO} {A}"), "not a command"),
            (format!("{} {A} refs/heads/x", A.replace('1', "A")), "not a command"),
            ("shallow x".to_owned(), "shallow"),
        ] {
            let error = read(std::slice::from_ref(&line)).unwrap_err();
            assert!(error.contains(words), "{line:?}: {error}");
        }
        let twice = format!("{ZERO} {A} refs/heads/x");
        assert!(read(&[twice.clone(), twice.clone()]).unwrap_err().contains("twice"));
        assert!(
            read(&[twice, format!("{ZERO} {A} refs/heads/y\0 atomic")]).unwrap_err().contains("capabilities")
        );
        for bytes in [&b"zzzz"[..], b"0001", b"0003x", b"+004"] {
            assert!(Reading::default().look(bytes, false, false).is_err(), "{bytes:?}");
        }
        assert!(Reading::default().look(b"00", true, false).is_err());
    }

    #[test]
    fn a_refusal_reads_as_git_writes_one() {
        let line = format!("{A} {B} refs/heads/main\0 report-status side-band-64k");
        let bytes = [&pkt(line.as_bytes())[..], b"0000"].concat();
        let push = Reading::default().look(&bytes, false, false).unwrap().unwrap();
        let report = String::from_utf8(push.report("rule `git`\nsays no")).unwrap();
        assert_eq!(
            report,
            "0022\u{2}enforcer: rule `git` says no\n0041\u{1}000eunpack ok\n002ang refs/heads/main rule `git` says no\n00000000"
        );
        assert_eq!(push.summary(), "push: force refs/heads/main");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), lines in prop::collection::vec(any::<String>(), 0..4)) {
            drop(Reading::default().look(&bytes, true, true));
            let bytes: Vec<u8> = lines.iter().flat_map(|line| pkt(line.as_bytes())).chain(bytes).collect();
            drop(Reading::default().look(&bytes, true, true));
        }
    }
}
