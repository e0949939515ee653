//! The kernel has what is needed: an agent gets its credential and no way out, and what is missing is said.

use anyhow::Result;
use enforcer_tests::probes::judge;
use enforcer_tests::world::{Daemon, World, command, plan};

use super::{LONG, POLICY, Report, SOON, version};

/// One of each kind; `enforcer prove` tries all of them.
const WAYS: &[&str] =
    &["tcp-other-port", "udp-sendto", "icmp-ping-dgram", "quic-443", "metadata", "host-loopback"];

pub(super) fn play(report: &Report, landlock: bool) -> Result<()> {
    let version = version()?;
    let world = World::new()?;
    let daemon = world.daemon(&[("bot", POLICY)])?;
    report.expect(true, "the daemon starts");
    warnings(report, &daemon, version, landlock);
    served(report, &world, &daemon)?;
    shut_in(report, &world, &daemon)?;
    unix_sockets(report, &world, &daemon, version)?;
    let doctor = daemon.cli(&["doctor"])?;
    report.expect_of(doctor.ok(), "`enforcer doctor` finds nothing broken", &doctor);
    let prove = command::run(daemon.tool(&["prove", "bot"]), LONG * 5)?;
    report.expect_of(prove.ok(), "`enforcer prove`: every way out is shut", &prove);
    Ok(())
}

/// A lack is told once at the start, and nothing is told that is not so.
fn warnings(report: &Report, daemon: &Daemon<'_>, version: (u32, u32), landlock: bool) {
    let log = daemon.log_text();
    let said = |words: &str| log.lines().any(|line| line.contains("WARN") && line.contains(words));
    let unix = version >= (6, 7);
    report.expect(
        said("cannot refuse unix sockets") != unix,
        if unix {
            "it does not warn of unix sockets"
        } else {
            "it warns that unix sockets cannot be refused"
        },
    );
    report.expect(
        said("without Landlock") != landlock,
        if landlock { "the worker is confined with Landlock" } else { "it warns that there is no Landlock" },
    );
    for line in log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")) {
        report.say(line);
    }
}

fn served(report: &Report, world: &World, daemon: &Daemon<'_>) -> Result<()> {
    daemon.secret_set("api-token", plan::API, &world.canaries.bearer)?;
    let url = "https://api.example.test/v1/hello";
    let got = command::run(daemon.agent_command("bot", &["curl", "-s", url]), LONG)?;
    report.expect_of(
        got.stdout.contains(r#""credential":"right""#) && !got.all().contains(&world.canaries.bearer),
        "a call gets the credential, which the agent does not see",
        &got,
    );
    let line = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "DELETE", url];
    let refused = command::run(daemon.agent_command("bot", &line), LONG)?;
    report.expect_of(refused.stdout == "403", "a method that no rule allows is refused", &refused);
    Ok(())
}

/// The same programme without a guard and as an agent; the packet counter outside judges.
fn shut_in(report: &Report, world: &World, daemon: &Daemon<'_>) -> Result<()> {
    let probe = world.bin("probe").display().to_string();
    let line = |way: &str| {
        [
            probe.clone(),
            way.to_owned(),
            format!("v4={}", plan::ATTACKER_V4),
            format!("v6={}", plan::ATTACKER_V6),
        ]
    };
    for way in WAYS {
        let mark = world.sniffer.mark();
        let off = command::run(world.unguarded(&line(way)), LONG)?;
        let leaks = match judge(way) {
            Some(wanted) => world.sniffer.saw(mark, SOON, wanted),
            None => off.ok(),
        };
        report.expect_of(leaks, &format!("{way} gets out without a guard"), &off);
    }
    for way in WAYS {
        let mark = world.sniffer.mark();
        let on = command::run(daemon.agent_command("bot", &line(way)), LONG)?;
        let out = judge(way).is_some_and(|wanted| world.sniffer.saw(mark, SOON, wanted));
        report.expect_of(matches!(on.code, Some(1 | 3)) && !out, &format!("{way} as an agent does not"), &on);
    }
    Ok(())
}

/// Before 6.7 a socket that everyone may write to can be reached by path where no mount hides it; from then on none.
fn unix_sockets(report: &Report, world: &World, daemon: &Daemon<'_>, version: (u32, u32)) -> Result<()> {
    let _ = (world, version);
    let python = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/dbus/system_bus_socket')";
    let tried = command::run(daemon.agent_command("bot", &["python3", "-c", python]), LONG)?;
    report.expect_of(!tried.ok(), "a deputy in /run is not to be seen", &tried);
    Ok(())
}
