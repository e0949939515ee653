//! How a command fails: the chain of causes, a hint, and an exit code.
//!
//! 0 done; 1 failed; 2 wrong usage (clap); 3 policy or configuration invalid; 4 not permitted;
//! 5 no daemon; 6 `explain --exit-code`: denied;
//! 8 `doctor`: something is broken, `prove`: something got out. `run` has its own (125, 126, 127).

use std::io::Write;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::config::ConfigError;
use crate::control::client::ClientError;
use crate::text::shown;

pub(super) const FAILED: u8 = 1;
pub(super) const INVALID: u8 = 3;
pub(super) const NOT_PERMITTED: u8 = 4;
pub(super) const NO_DAEMON: u8 = 5;
pub(super) const DENIED: u8 = 6;
pub(super) const BROKEN: u8 = 8;

/// Why a command ended early.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    /// `None`: whoever read our output has had enough. That is success.
    error: Option<anyhow::Error>,
    hint: Option<String>,
}

impl Failure {
    pub fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Failure { code, error: Some(error.into()), hint: None }
    }

    pub fn text(code: u8, text: impl std::fmt::Display) -> Self {
        Failure::new(code, anyhow::anyhow!("{text}"))
    }

    /// The reader of our output closed it.
    pub fn closed() -> Self {
        Failure { code: 0, error: None, hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with another exit code.
    pub fn ending_with(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    pub fn code(&self) -> u8 {
        self.code
    }

    /// Prints to standard error; what to exit with.
    pub fn report(&self) -> ExitCode {
        let text = self.render();
        // Nobody is left to tell when standard error is gone.
        let printed = anstream::stderr().write_all(text.as_bytes());
        if printed.is_err() && self.code == 0 {
            return ExitCode::SUCCESS;
        }
        ExitCode::from(self.code)
    }

    pub(super) fn render(&self) -> String {
        let Some(error) = &self.error else { return String::new() };
        let bad = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        let good = Style::new().bold().fg_color(Some(AnsiColor::Cyan.into()));
        let mut text = String::new();
        for (depth, cause) in error.chain().enumerate() {
            let cause = lines(&cause.to_string());
            if depth == 0 {
                text.push_str(&format!("{bad}error{bad:#}: {cause}\n"));
            } else {
                text.push_str(&format!("  caused by: {cause}\n"));
            }
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  {good}hint{good:#}: {}\n", lines(hint)));
        }
        text
    }
}

/// Text from elsewhere may have lines, but nothing else that moves the cursor.
fn lines(text: &str) -> String {
    text.trim_end().split('\n').map(shown).collect::<Vec<_>>().join("\n")
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::new(FAILED, error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::new(FAILED, error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure { code: error.exit_code(), hint: error.hint(), error: Some(error.into()) }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let code = match &error {
            ConfigError::Invalid(_) => INVALID,
            ConfigError::Read { error, .. } if error.kind() == std::io::ErrorKind::PermissionDenied => {
                NOT_PERMITTED
            }
            ConfigError::Read { .. } => FAILED,
        };
        Failure { code, hint: error.hint(), error: Some(error.into()) }
    }
}
