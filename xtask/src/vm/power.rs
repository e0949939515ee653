//! The plug is pulled while an agent works: which receipts of answered requests does the next boot find?
//!
//! Three times: `synced`, where none may be missing; and twice to show that some would be, with `written` and with a disk
//! that only says that it has flushed.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::Run;
use super::disk::{self, Disk, Flush};
use super::guest::Scene;
use super::guest::power::{CHECK, SYNCED, WRITTEN};
use super::kernel::Kernel;
use super::machine::Machine;
use crate::run::title;

/// Answers before the cut.
const ANSWERS: usize = 60;

struct Case {
    what: &'static str,
    scene: &'static str,
    flush: Flush,
    /// Whether every receipt must be there; if not, some must be missing.
    keeps: bool,
}

const CASES: &[Case] = &[
    Case { what: "durability: synced", scene: SYNCED, flush: Flush::Honest, keeps: true },
    Case {
        what: "durability: written, which promises less",
        scene: WRITTEN,
        flush: Flush::Honest,
        keeps: false,
    },
    Case { what: "durability: synced, on a disk that lies", scene: SYNCED, flush: Flush::Lies, keeps: false },
];

pub(super) fn show(run: &mut Run<'_>, kernel: &Kernel) -> Result<()> {
    for case in CASES {
        title(&format!("Linux {}: power cut, {}", kernel.release, case.what));
        let image = run.dir.join("power.img");
        disk::make(&image)?;
        let answered = work_and_cut(run, kernel, case, &image)?;
        run.expect(
            answered.len() >= ANSWERS,
            &format!("{} requests were answered before the cut", answered.len()),
        );
        let found = look(run, kernel, case, &image)?;
        let lost = answered.difference(&found).count();
        let what = format!("{lost} of {} answered requests have no receipt", answered.len());
        run.expect((lost == 0) == case.keeps, &what);
    }
    Ok(())
}

/// Numbers of the requests whose answers the agent had.
fn work_and_cut(
    run: &mut Run<'_>,
    kernel: &Kernel,
    case: &Case,
    image: &std::path::Path,
) -> Result<BTreeSet<u64>> {
    let mut disk = Disk::plug_in(image, case.flush)?;
    let mut machine = Machine::boot(run, kernel, Scene::named(case.scene)?, &disk.device())?;
    let mut answered = BTreeSet::new();
    while let Some(line) = machine.line()? {
        match number(&line, "@answered") {
            Some(number) => _ = answered.insert(number),
            None => _ = run.heard(&line),
        }
        if answered.len() == ANSWERS {
            // First the disk, so that nothing gets on it that the machine still does.
            disk.cut()?;
            machine.cut()?;
        }
    }
    Ok(answered)
}

/// Numbers of the requests that have a receipt after the next boot.
fn look(run: &mut Run<'_>, kernel: &Kernel, case: &Case, image: &std::path::Path) -> Result<BTreeSet<u64>> {
    let disk = Disk::plug_in(image, Flush::Honest)?;
    let mut machine = Machine::boot(run, kernel, Scene::named(CHECK)?, &disk.device())?;
    let mut found = BTreeSet::new();
    let mut sound = None;
    while let Some(line) = machine.line()? {
        match number(&line, "@found") {
            Some(number) => _ = found.insert(number),
            None => match line.strip_prefix("@verified ") {
                Some(verdict) => sound = Some(verdict == "0"),
                None => _ = run.heard(&line),
            },
        }
    }
    let sound = sound.context("the guest did not come to verify the receipts")?;
    // What a lying disk leaves may be anything, and is told.
    if case.flush == Flush::Honest {
        run.expect(sound, "`enforcer receipts verify` finds the log sound");
    }
    Ok(found)
}

fn number(line: &str, mark: &str) -> Option<u64> {
    line.strip_prefix(mark)?.trim().parse().ok()
}
