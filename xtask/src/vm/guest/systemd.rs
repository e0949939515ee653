//! systemd as the guest's init, cgroup v2 alone: the units that the product ships, and `enforcer attach --unit`.
//!
//! Everything is where a person would install it: in the guest that is memory.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use enforcer_tests::probes::judge;
use enforcer_tests::world::{Output, World, command, plan};

use super::{LONG, POLICY, Report, SOON};

const UNITS: &str = "/etc/systemd/system";
/// What the unit of the template runs.
const PROGRAM: &str = "/usr/local/bin/unit-program";

struct Guest<'r> {
    report: &'r Report,
    world: World,
}

pub(super) fn play(report: &Report) -> Result<()> {
    let guest = Guest { report, world: World::new()? };
    guest.install()?;
    guest.daemon()?;
    guest.template()?;
    guest.attach()?;
    guest.restarts()
}

impl Guest<'_> {
    /// As the README says, on the stage's network.
    fn install(&self) -> Result<()> {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the checkout")?;
        fs::copy(self.world.bin("enforcer"), "/usr/local/bin/enforcer")?;
        for unit in ["enforcer.service", "enforcer-agent@.service", "enforcer-attached.slice"] {
            fs::copy(checkout.join("enforcer/dist").join(unit), Path::new(UNITS).join(unit))?;
        }
        fs::create_dir_all("/etc/enforcer/policies")?;
        fs::write("/etc/enforcer/policies/bot.yaml", POLICY)?;
        // As patient as everything in a guest has to be: its name server takes seconds while the daemon starts.
        let settings = format!(
            "resolver: {{ servers: [\"{}:53\"], timeout_ms: 10000 }}\nupstream_roots: [{}]\n",
            plan::SERVER_V4,
            self.world.upstream_ca().display()
        );
        fs::write("/etc/enforcer/enforcer.yaml", settings)?;
        let network = format!("[Service]\nNetworkNamespacePath={}\n", self.world.host_netns.display());
        drop_in("enforcer.service", &network)?;
        run(&["systemctl", "daemon-reload"])?;
        Ok(())
    }

    fn daemon(&self) -> Result<()> {
        let started = run(&["systemctl", "start", "enforcer"])?;
        self.report.expect_of(started.ok(), "`systemctl start enforcer`: it says when it is ready", &started);
        let status = run(&["enforcer", "status"])?;
        self.report.expect_of(status.ok(), "the daemon answers", &status);
        let stored = command::run_with_input(
            command::command(&["enforcer", "secret", "set", "api-token", "--host", plan::API]),
            Some(self.world.canaries.bearer.as_bytes()),
            LONG,
        )?;
        self.report.expect_of(stored.ok(), "a secret is typed into its vault", &stored);
        Ok(())
    }

    /// `enforcer-agent@.service`.
    fn template(&self) -> Result<()> {
        // /var/tmp is the unit's own.
        fs::copy(self.world.bin("probe"), "/usr/local/bin/probe")?;
        fs::write(PROGRAM, program())?;
        let said = "/var/log/agent";
        let words = || fs::read_to_string(said).unwrap_or_default();
        let service = |log| {
            format!(
                "[Service]\nExecStart=\nExecStart=/bin/sh {PROGRAM}\nStandardOutput=append:{log}\nStandardError=append:{log}\n"
            )
        };
        drop_in("enforcer-agent@bot.service", &service(said))?;
        drop_in("enforcer-agent@nobody.service", &service("/var/log/nobody"))?;
        run(&["systemctl", "daemon-reload"])?;
        let host = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt")?;
        let mark = self.world.sniffer.mark();
        let started = run(&["systemctl", "start", "enforcer-agent@bot"])?;
        self.report.expect_of(
            started.ok(),
            "enforcer-agent@bot starts, governed before its first program",
            &started,
        );
        self.report.expect(wait(|| words().contains("its code: ")), "its program runs");
        for (word, what) in [
            ("placeholder: enf-", "it has a placeholder for its key, and no key"),
            ("by variables: 200", "its call gets the credential, with the roots that its variables name"),
            ("by the store: 200", "and with those of its trust store"),
            ("openssl: Verify return code: 0", "OpenSSL finds our root among its own"),
            ("guide: 0", "it can read its guide"),
        ] {
            self.report.expect(words().lines().any(|line| line.starts_with(word)), what);
        }
        let bearer = &self.world.canaries.bearer;
        let seen = self.world.seen();
        let injected =
            seen.iter().filter(|seen| seen.uri == "/v1/unit" && seen.authorization.contains(bearer));
        self.report.expect(injected.count() == 2, "the server saw both of them with the credential");
        self.report.expect(!words().contains(bearer), "it does not see the credential");
        let out = judge("tcp-other-port").is_some_and(|w| self.world.sniffer.saw(mark, SOON, w));
        self.report.expect(!out && !words().contains("its code: 0"), "it gets out in no other way");
        let after = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt")?;
        self.report.expect(host == after, "the host's own store is as it was");
        self.report.say(words().trim());
        self.restarted_at_once(&words)?;
        let status = run(&["enforcer", "status"])?;
        self.report.say(status.stdout.trim());
        let warned = run(&[
            "journalctl",
            "-b",
            "-o",
            "cat",
            "--no-pager",
            "-g",
            "enforcer.*\\.(service|slice):[0-9]+:",
        ])?;
        self.report.expect_of(!warned.ok(), "systemd takes every line of the units", &warned);
        let stopped = run(&["systemctl", "stop", "enforcer-agent@bot"])?;
        self.report.expect_of(stopped.ok(), "it stops", &stopped);

        let refused = run(&["systemctl", "start", "enforcer-agent@nobody"])?;
        let ran = fs::read_to_string("/var/log/nobody").unwrap_or_default().contains("its code: ");
        self.report.expect_of(
            !refused.ok() && !ran,
            "enforcer-agent@nobody, which no policy names, does not start",
            &refused,
        );
        Ok(())
    }

    /// Its cgroup is another one then, of the same name, and the session before may not have been looked at since.
    fn restarted_at_once(&self, words: &dyn Fn() -> String) -> Result<()> {
        let ran = || words().matches("its code: ").count();
        for _ in 0..3 {
            let before = ran();
            let again = run(&["systemctl", "restart", "enforcer-agent@bot"])?;
            self.report.expect_of(again.ok(), "it is started again at once", &again);
            self.report.expect(wait(|| ran() > before), "its program runs again");
        }
        let lines = words().lines().filter(|line| line.starts_with("by variables: 200")).count();
        self.report.expect(lines == 4, &format!("each time its call is served: {lines} of 4"));
        Ok(())
    }

    /// A service that runs already, on the network of the stage.
    fn attach(&self) -> Result<()> {
        let network = format!("NetworkNamespacePath={}", self.world.host_netns.display());
        let start =
            ["systemd-run", "--unit=worker", "-p", &network, "-p", "User=nobody", "sleep", "infinity"];
        let started = run(&start)?;
        self.report.expect_of(started.ok(), "a service runs that nobody governs", &started);
        self.report.expect(self.leaks()?, "a process of it gets out");
        let attached = run(&["enforcer", "attach", "bot", "--unit", "worker.service"])?;
        self.report.expect_of(attached.ok(), "`enforcer attach bot --unit worker.service`", &attached);
        self.report.say(attached.stdout.trim());
        std::thread::sleep(SOON);
        self.report.expect(!self.leaks()?, "attached, it does not");
        let got = self.inside(&[
            "curl",
            "-sS",
            "-k",
            "-m",
            "60",
            "--resolve",
            &resolve(),
            &format!("https://{}/v1/worker", plan::API),
        ])?;
        self.report.expect_of(
            got.stdout.contains(r#""credential":"right""#),
            "its call gets the credential",
            &got,
        );
        let detached = run(&["enforcer", "detach", "bot"])?;
        self.report.expect_of(detached.ok(), "`enforcer detach bot`", &detached);
        self.report.expect(self.leaks()?, "detached, it gets out again");
        Ok(())
    }

    /// What `Restart=` and the store of descriptors do.
    fn restarts(&self) -> Result<()> {
        let url = format!("https://{}/v1/loop", plan::API);
        let script = format!(
            "while :; do curl -s -o /dev/null -m 100 -w '%{{http_code}} %{{errormsg}}\\n' {url}; sleep 0.5; done"
        );
        let log = "/tmp/loop";
        let agent = std::process::Command::new("enforcer")
            .args(["run", "bot", "--", "sh", "-c", &script])
            .stdin(std::process::Stdio::null())
            .stdout(fs::File::create(log)?)
            .current_dir("/tmp")
            .spawn()?;
        let calls =
            || fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
        let served = || calls().iter().filter(|call| call.starts_with("200")).count();
        self.report.expect(wait(|| served() >= 3), "an agent of `enforcer run` calls again and again");
        let restarted = run(&["systemctl", "restart", "enforcer"])?;
        self.report.expect_of(restarted.ok(), "`systemctl restart enforcer`", &restarted);
        let at = served();
        self.report.expect(wait(|| served() >= at + 3), "the agent is served as before");
        let failed: Vec<String> = calls().into_iter().filter(|call| !call.starts_with("200")).collect();
        self.report.expect(
            failed.is_empty(),
            &format!("{} of its {} calls failed: {failed:?}", failed.len(), calls().len()),
        );

        let pid = run(&["systemctl", "show", "-P", "MainPID", "enforcer"])?.stdout.trim().to_owned();
        run(&["kill", "-9", &pid])?;
        let back = wait(|| {
            run(&["enforcer", "status"]).is_ok_and(|s| s.ok()) && main_pid().is_some_and(|p| p != pid)
        });
        self.report.expect(back, "after kill -9, systemd starts it again");
        let at = served();
        self.report.expect(wait(|| served() >= at + 3), "and the agent is served again");
        let log =
            run(&["journalctl", "-o", "cat", "--no-pager", "-u", "enforcer", "-g", "WARN|ERROR|descriptor"])?;
        self.report.say(log.stdout.trim());
        drop(agent);
        Ok(())
    }

    /// Does a process in the service's cgroup reach the attacker?
    fn leaks(&self) -> Result<bool> {
        let mark = self.world.sniffer.mark();
        let probe = self.world.bin("probe").display().to_string();
        self.inside(&[&probe, "tcp-other-port", &format!("v4={}", plan::ATTACKER_V4)])?;
        Ok(judge("tcp-other-port").is_some_and(|w| self.world.sniffer.saw(mark, SOON, w)))
    }

    /// A command in the service's cgroup and network, as its user.
    fn inside(&self, words: &[&str]) -> Result<Output> {
        let enter = "echo 0 > /sys/fs/cgroup/system.slice/worker.service/cgroup.procs && exec \"$@\"";
        let net = format!("--net={}", self.world.host_netns.display());
        let who = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
        let line = [&["nsenter", &net, "--", "sh", "-c", enter, "enter"], &who[..], words].concat();
        let mut command = command::command(&line);
        command.current_dir("/tmp");
        command::run(command, LONG)
    }
}

/// What the unit runs: calls as different clients make them, then an attempt to get out.
fn program() -> String {
    let (api, attacker) = (plan::API, plan::ATTACKER_V4);
    format!(
        "echo \"placeholder: $API_TOKEN\"
         call() {{ curl -sS -o /dev/null -m 100 -w '%{{http_code}} %{{errormsg}}' https://{api}/v1/unit; }}
         # The guest is slow: who takes too long to read its roots is cut off.
         patiently() {{ for i in 1 2 3 4 5 6 7 8 9; do answer=$(\"$@\"); case $answer in 200*) break;; esac; sleep 1; done; }}
         patiently call
         echo \"by variables: $answer\"
         unset CURL_CA_BUNDLE SSL_CERT_FILE SSL_CERT_DIR
         patiently call
         echo \"by the store: $answer\"
         echo \"openssl: $(timeout 100 openssl s_client -CApath /etc/ssl/certs -connect {api}:443 -servername {api} </dev/null 2>&1 | grep 'Verify return code')\"
         test -s \"$ENFORCER_GUIDE\" && test -r \"$ENFORCER_GUIDE\"
         echo \"guide: $?\"
         probe tcp-other-port v4={attacker}
         echo \"its code: $?\"
         sleep infinity
"
    )
}

fn main_pid() -> Option<String> {
    Some(run(&["systemctl", "show", "-P", "MainPID", "enforcer"]).ok()?.stdout.trim().to_owned())
}

fn resolve() -> String {
    format!("{}:443:{}", plan::API, plan::SERVER_V4)
}

fn run(words: &[&str]) -> Result<Output> {
    let mut command = command::command(words);
    command.env("NO_COLOR", "1");
    command::run(command, LONG)
}

fn drop_in(unit: &str, text: &str) -> Result<()> {
    let dir = Path::new(UNITS).join(format!("{unit}.d"));
    fs::create_dir_all(&dir)?;
    Ok(fs::write(dir.join("stage.conf"), text)?)
}

fn wait(mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + command::patient(LONG);
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    true
}
