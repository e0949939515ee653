//! What can go wrong on the host side, said so that a person knows what to do next.

use std::io;

use crate::kernel::KernelError;

/// A failure of the keeper, of a launch or of the stand-in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused a step.
    #[error("cannot {what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    /// Loading or attaching the programs failed.
    #[error("the kernel programs are not in force")]
    Kernel(#[from] KernelError),
    /// We will not go on, and say what would help.
    #[error("{message}")]
    Refused { message: String, hint: Option<String>, exit_code: u8 },
}

impl Error {
    /// A refusal of our own making: `run` ends with 125.
    pub(crate) fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Refused { message: message.into(), hint: Some(hint.into()), exit_code: 125 }
    }

    /// What a person can do about it, where we know.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Io { .. } => None,
            Error::Kernel(error) => Some(error.hint()),
            Error::Refused { hint, .. } => hint.clone(),
        }
    }

    /// How `enforcer run` ends because of this.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Io { .. } | Error::Kernel(_) => 125,
            Error::Refused { exit_code, .. } => *exit_code,
        }
    }

    /// The whole chain in one line, for a peer that gets text only.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }
}

/// Says what was being done when the system refused.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::Io { what: what(), source: error.into() })
    }
}
