//! The kernel lacks something that agents cannot be held without: it is said with a next step, and no agent starts.

use std::path::Path;

use anyhow::Result;

use super::Report;
use super::bare::Bare;

/// What is said about a lack.
pub(super) struct Lack {
    /// The daemon stays up, and refuses each launch.
    daemon_runs: bool,
    /// In the daemon's log, or what `enforcer run` says when the daemon runs.
    says: &'static [&'static str],
    /// The check of `enforcer doctor` that finds it.
    doctor: &'static str,
}

pub(super) const TOO_OLD: Lack = Lack { daemon_runs: false, says: &["5.10", "5.15"], doctor: "kernel" };
pub(super) const NO_NFTABLES: Lack =
    Lack { daemon_runs: true, says: &["nftables", "modprobe nft_reject_inet"], doctor: "nftables" };
pub(super) const NO_CGROUP2: Lack =
    Lack { daemon_runs: false, says: &["cgroup2", "mount"], doctor: "cgroup2" };
pub(super) const NO_IPV6: Lack =
    Lack { daemon_runs: true, says: &["IPv6", "take `ipv6.disable=1` off"], doctor: "ipv6" };

const RAN: &str = "/tmp/the-agent-ran";

pub(super) fn play(report: &Report, lack: &Lack) -> Result<()> {
    let mut bare = Bare::start()?;
    let running = bare.running()?;
    let log = bare.log();
    report.expect(
        running == lack.daemon_runs,
        if lack.daemon_runs { "the daemon starts" } else { "the daemon does not start" },
    );
    let run = bare.tool(&["run", "bot", "--", "touch", RAN])?;
    report.expect_of(!run.ok() && !run.timed_out, "`enforcer run` fails", &run);
    report.expect(!Path::new(RAN).exists(), "the agent's program did not run");
    let said = if lack.daemon_runs { run.all() } else { log.clone() };
    report.expect(
        lack.says.iter().all(|word| said.contains(word)),
        &format!("what is missing is said, and what to do: {:?}", lack.says),
    );
    report.say(said.trim());
    let doctor = bare.tool(&["doctor"])?;
    report.expect(doctor.code == Some(8), "`enforcer doctor` ends with 8: something is broken");
    let told = |line: &&str| line.split_whitespace().take(2).eq(["fail", lack.doctor]);
    let at = doctor.stdout.lines().position(|line| told(&line));
    report.expect(at.is_some(), &format!("its check `{}` has found it", lack.doctor));
    for line in at.into_iter().flat_map(|at| doctor.stdout.lines().skip(at).take(2)) {
        report.say(line);
    }
    if !lack.daemon_runs {
        let left = std::fs::read_dir(&bare.pins).map(|pins| pins.count()).unwrap_or_default();
        report.expect(left == 0, "no half of a boundary is left among the pins");
    }
    Ok(())
}
