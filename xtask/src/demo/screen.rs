//! How the show looks: headline, command as typed, its output, a tick or a cross.
//!
//! Everything goes to standard output through `anstream`, which drops colour where there is no
//! terminal or `NO_COLOR` is set.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use enforcer_tests::world::Output;

use crate::run::{BOLD, CYAN, DIM, GREEN, RED};

/// Longer output is cut in the middle: what matters is at the ends.
const LINES: usize = 12;
const WIDTH: usize = 150;

pub(crate) struct Screen {
    steps: usize,
    at: Cell<usize>,
    failed: Cell<usize>,
}

impl Screen {
    pub(crate) fn new(steps: usize) -> Self {
        Screen { steps, at: Cell::new(0), failed: Cell::new(0) }
    }

    pub(crate) fn opening(&self) {
        anstream::println!();
        anstream::println!("{BOLD}enforcer: an agent uses an API with a key that it does not have{BOLD:#}");
        anstream::println!(
            "{DIM}Real nginx, git, curl and Python, in network namespaces of this show's own.{DIM:#}"
        );
    }

    /// A new step, and what is about to happen.
    pub(crate) fn headline(&self, title: &str, why: &str) {
        self.at.set(self.at.get() + 1);
        anstream::println!();
        anstream::println!(
            "{CYAN}{BOLD}[{}/{}]{BOLD:#}{CYAN:#} {BOLD}{title}{BOLD:#}",
            self.at.get(),
            self.steps
        );
        anstream::println!("      {DIM}{why}{DIM:#}");
    }

    /// The command as a person would type it.
    pub(crate) fn typed(&self, line: &str) {
        anstream::println!("    {BOLD}$ {line}{BOLD:#}");
    }

    pub(crate) fn text(&self, text: &str) {
        let lines: Vec<&str> = text.trim_end().lines().filter(|l| !l.trim().is_empty()).collect();
        let cut = lines.len() > LINES;
        for (i, line) in lines.iter().enumerate() {
            if cut && (LINES / 2..lines.len() - LINES / 2).contains(&i) {
                if i == LINES / 2 {
                    anstream::println!("      {DIM}… {} lines …{DIM:#}", lines.len() - LINES);
                }
                continue;
            }
            let shown: String = line.chars().take(WIDTH).collect();
            let more = if shown.len() < line.len() { "…" } else { "" };
            anstream::println!("      {shown}{more}");
        }
    }

    /// Both streams of a programme, as they came.
    pub(crate) fn output(&self, output: &Output) {
        self.text(&output.stdout);
        self.text(&output.stderr);
    }

    /// A real check: the show fails at the end when one does not hold.
    pub(crate) fn check(&self, what: &str, holds: bool) {
        if holds {
            anstream::println!("    {GREEN}✓{GREEN:#} {what}");
        } else {
            self.failed.set(self.failed.get() + 1);
            anstream::println!("    {RED}✗ {what}{RED:#}");
        }
    }

    pub(crate) fn failed(&self) -> usize {
        self.failed.get()
    }

    /// The last lines of the daemon's log, when the show cannot go on.
    pub(crate) fn daemon_log(&self, log: &Path) {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        anstream::println!("{RED}The daemon's last words:{RED:#}");
        self.text(&text);
    }

    pub(crate) fn closing(&self, took: Duration) {
        anstream::println!();
        anstream::println!(
            "{GREEN}Every check held.{GREEN:#} {DIM}{:.0} seconds.{DIM:#}",
            took.as_secs_f32()
        );
        anstream::println!(
            "{DIM}Next: README.md, `enforcer run --help`, enforcer/docs/architecture.md{DIM:#}"
        );
    }
}
