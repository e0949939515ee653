//! What `enforcer run` and the keeper say to each other over `launch.sock`.
//!
//! The caller sends [`Launch`] with its descriptors, gets [`FromKeeper::Launched`] with a pidfd, passes
//! signals on, and ends as [`FromKeeper::Exited`] says. It holds no power: the keeper decides. What
//! [`crate::attach`] asks goes the same way.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::forward::Publish;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::attach::{Attach, Detach, Report};

/// Both halves are one binary, but a daemon may be older than the command.
pub const PROTOCOL: u32 = 4;

/// Text as the system has it: UTF-8 nearly always, any bytes when it must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub OsString);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Wire {
    Utf8(String),
    Bytes(Vec<u8>),
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => self.0.as_bytes().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = match Wire::deserialize(deserializer)? {
            Wire::Utf8(text) => text.into_bytes(),
            Wire::Bytes(bytes) => bytes,
        };
        // A NUL would end the string early in the kernel and say something else than was checked.
        if bytes.contains(&0) {
            return Err(serde::de::Error::custom("text with a NUL byte"));
        }
        Ok(Text(OsString::from_vec(bytes)))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(text.into())
    }
}

impl From<OsString> for Text {
    fn from(text: OsString) -> Self {
        Text(text)
    }
}

impl AsRef<OsStr> for Text {
    fn as_ref(&self) -> &OsStr {
        &self.0
    }
}

/// What a standard stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// The far side of a pseudo-terminal that the caller made for this launch.
    Terminal,
    /// The caller's own pipe or file, passed through.
    Passed,
}

/// Certificates and settings that the caller already trusts; read by the caller with its own rights.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CallerTrust {
    /// PEM certificates from the files that the caller's trust variables name.
    pub roots: String,
    /// The text of the file that `WGETRC` names.
    pub wgetrc: String,
}

/// Start this. Descriptors: stdin, stdout, stderr, working directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    pub protocol: u32,
    pub agent: String,
    /// Program and arguments; at least the program.
    pub argv: Vec<Text>,
    pub env: Vec<(Text, Text)>,
    /// Run as this user instead of the agent's own one. Never root.
    pub user: Option<String>,
    /// Look like root inside: id 0 of a user namespace stands for the id that the agent has.
    #[serde(default)]
    pub root: bool,
    pub stdio: [Stdio; 3],
    #[serde(default)]
    pub trust: CallerTrust,
    /// Ports of the agent's to be had on the host.
    #[serde(default)]
    pub publish: Vec<Publish>,
}

/// From `enforcer run`.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToKeeper {
    Launch(Launch),
    Attach(Attach),
    Detach(Detach),
    /// Pass this signal on; to the whole process group when a terminal made it.
    Signal {
        number: i32,
        group: bool,
    },
}

/// To `enforcer run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromKeeper {
    /// Running. Descriptor: a pidfd of the agent's first process.
    Launched {
        session: String,
        pid: u32,
    },
    Exited(Exit),
    Attached(Report),
    Detached {
        sessions: Vec<String>,
    },
    /// Not started, with what to tell the person and how to end.
    Refused {
        message: String,
        hint: Option<String>,
        exit_code: u8,
    },
}

/// How the agent's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// From a wait status.
    pub(crate) fn from_status(status: std::process::ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            // A wait status is one or the other; a stop is not reported to us.
            (None, None) => Exit::Code(125),
        }
    }

    /// As a shell would report it.
    pub fn code(self) -> u8 {
        match self {
            Exit::Code(code) => u8::try_from(code & 0xff).unwrap_or(125),
            Exit::Signal(signal) => u8::try_from(128 + signal).unwrap_or(255),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_whatever_its_bytes() {
        for bytes in [b"plain".to_vec(), "gr\u{fc}n".into(), vec![0xff, 0xfe, b'x']] {
            let text = Text(OsString::from_vec(bytes));
            let json = serde_json::to_string(&text).unwrap();
            assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), text);
        }
        assert!(serde_json::from_str::<Text>(r#""a\u0000b""#).is_err());
    }

    #[test]
    fn exits_read_as_in_a_shell() {
        assert_eq!(Exit::Code(3).code(), 3);
        assert_eq!(Exit::Signal(9).code(), 137);
    }
}
