//! The one writer of answers: colour where it is wanted, and a closed pipe ends the command quietly.

use std::io::{self, Write};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::Failure;
use super::zone::Zone;
use crate::audit::clock::Time;
use crate::text::shown;

pub(super) const GREEN: Style = AnsiColor::Green.on_default();
pub(super) const RED: Style = AnsiColor::Red.on_default();
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(super) const DIM: Style = Style::new().dimmed();

/// Standard output, or a buffer in tests.
pub struct Output {
    to: Box<dyn Write>,
    /// The reader has gone (`enforcer logs | head`), which is no failure.
    closed: bool,
}

impl Output {
    pub fn stdout() -> Self {
        Output { to: Box::new(AutoStream::auto(io::stdout())), closed: false }
    }

    #[cfg(test)]
    pub(super) fn to(to: impl Write + 'static) -> Self {
        Output { to: Box::new(to), closed: false }
    }

    /// One line. Styles go through; text that came from outside is the caller's to escape.
    pub fn line(&mut self, text: impl std::fmt::Display) -> Result<(), Failure> {
        self.raw(format!("{text}\n").as_bytes())
    }

    /// One JSON document, indented for people when `pretty`.
    pub fn json(&mut self, value: &impl Serialize, pretty: bool) -> Result<(), Failure> {
        let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        match text {
            Ok(text) => self.line(text),
            Err(error) => Err(Failure::new(super::failure::FAILED, error)),
        }
    }

    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let result = self.write_all(bytes).and_then(|()| self.flush());
        self.written(result)
    }

    /// How a command goes on after what was written to this by [`Write`].
    pub(super) fn written(&self, result: io::Result<()>) -> Result<(), Failure> {
        match result {
            Err(_) if self.closed => Err(Failure::closed()),
            result => result.map_err(Failure::from),
        }
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.closed |= result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        result
    }

    /// Columns as wide as their widest cell; the last one is not padded.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| shown(cell).into_owned()).collect()).collect();
        let widths: Vec<usize> = head
            .iter()
            .enumerate()
            .map(|(column, title)| {
                let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
                cells.chain([title.len()]).max().unwrap_or(0)
            })
            .collect();
        let mut print = |cells: Vec<&str>| {
            let line: Vec<String> = cells
                .iter()
                .zip(&widths)
                .map(|(cell, width)| {
                    format!("{cell}{}", " ".repeat(width.saturating_sub(cell.chars().count())))
                })
                .collect();
            self.line(line.join("  ").trim_end())
        };
        print(head.to_vec())?;
        rows.iter().try_for_each(|row| print(row.iter().map(String::as_str).collect()))
    }
}

/// For what writes by itself, such as receipts. Give the result to [`Output::written`].
impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.to.write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.to.flush();
        self.note(result)
    }
}

/// A moment given as seconds since 1970, in local time.
pub(super) fn moment(seconds: i64) -> String {
    Zone::local().text(Time::from_micros(seconds.saturating_mul(1_000_000)))
}

/// `2 d 3 h`, `4 min`, `12 s`.
pub(super) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, m) => format!("{m} min"),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}
