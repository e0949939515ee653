//! The line in a namespace that an attached session shares with others, the host's most of all: by cgroup.
//!
//! netfilter turns the path into an id when the rule is loaded. The session ends with its cgroup, and its table goes with it,
//! so no rule outlives what it names. In the language of `nft`: its JSON has no words for the level of a cgroup.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use super::{Backstop, Loaded, not_loaded, said};
use crate::Error;
use crate::cgroup;
use crate::error::Doing;
use crate::kernel::Listening;
use crate::netns::Netns;

/// Below this `nft` looks for the paths of cgroups, whatever is mounted there.
const NFT_CGROUPS: &str = "/sys/fs/cgroup";

/// Whom the rules are about.
pub(crate) struct Shared {
    /// As `nft` names it: `system.slice/a.service`, or `unified/system.slice/a.service` on a hybrid host.
    path: String,
    /// In the cgroup2 hierarchy; its root is 0.
    level: usize,
}

impl Shared {
    pub(crate) fn of(cgroup: &Path) -> Result<Self, Error> {
        Shared::below(cgroup, &cgroup::hierarchy()?)
    }

    fn below(cgroup: &Path, hierarchy: &Path) -> Result<Self, Error> {
        let refused = |why: &str| {
            Error::refused(
                format!("nftables cannot match the cgroup {}: {why}", cgroup.display()),
                "give the workload a network namespace of its own, or a cgroup that it can match",
            )
        };
        let inside =
            cgroup.strip_prefix(hierarchy).ok().ok_or_else(|| refused("it is not in the hierarchy"))?;
        let path = cgroup.strip_prefix(NFT_CGROUPS).ok().ok_or_else(|| {
            refused("it looks for cgroups below /sys/fs/cgroup only, and cgroup2 is mounted elsewhere")
        })?;
        let path = path.to_str().ok_or_else(|| refused("its name is not UTF-8"))?;
        if path.contains(|c: char| c.is_control() || c == '"' || c == '\\') {
            return Err(refused("its name has quotes or control characters"));
        }
        Ok(Shared { path: path.to_owned(), level: inside.components().count() })
    }

    fn rules(&self, table: &str, at: Listening) -> String {
        let Shared { path, level } = self;
        let Listening { injector_port, resolver_port, .. } = at;
        format!(
            r#"add table inet {table}
delete table inet {table}
table inet {table} {{
  chain output {{
    type filter hook output priority 0; policy accept;
    oif "lo" tcp dport {{ {injector_port}, {resolver_port} }} socket cgroupv2 level {level} != "{path}" reject with tcp reset
    oif "lo" udp dport {resolver_port} socket cgroupv2 level {level} != "{path}" reject
    socket cgroupv2 level {level} "{path}" jump held
  }}
  chain held {{
    oif "lo" ip daddr 127.0.0.0/8 meta l4proto tcp accept
    oif "lo" ip6 daddr ::1 meta l4proto tcp accept
    oif "lo" udp dport {resolver_port} accept
    oif "lo" icmp type destination-unreachable accept
    oif "lo" icmpv6 type destination-unreachable accept
    oif "lo" tcp flags & rst == rst accept
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }}
}}
"#
        )
    }
}

impl Backstop {
    /// Loads the session's table into a namespace that it shares. All of it or nothing of it. `None`: there is no `nft`.
    pub(crate) fn load_shared(
        &self,
        table: &str,
        netns: &Netns,
        whom: &Shared,
        at: Listening,
    ) -> Result<Option<Loaded>, Error> {
        let Backstop::Nft(nft) = self else { return Ok(None) };
        let rules = whom.rules(table, at);
        let _alone = alone();
        netns.within(|| Loaded::by(nft, table, || run(nft, &rules))).map(Some).map_err(not_loaded)
    }

    /// Takes a session's table out of a namespace. None there is fine.
    pub(crate) fn unload(&self, table: &str, netns: &Netns) -> Result<(), Error> {
        // Made, so that it can be deleted.
        let rules = format!("add table inet {table}\ndelete table inet {table}\n");
        let Backstop::Nft(nft) = self else { return Ok(()) };
        let _alone = alone();
        netns.within(|| run(nft, &rules)).doing(|| format!("remove the nftables table {table}"))
    }
}

/// Sessions that share a namespace change its rules one after the other: each must be able to tell its own change from others'.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|e| e.into_inner())
}

fn run(nft: &PathBuf, rules: &str) -> io::Result<()> {
    let mut child = Command::new(nft)
        .args(["-f", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(rules.as_bytes()));
    let output = child.wait_with_output()?;
    if output.status.success() {
        return written;
    }
    Err(said(&output.stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_and_level_are_those_of_the_hierarchy_that_is_mounted() {
        let named = |cgroup: &str, hierarchy: &str| {
            Shared::below(Path::new(cgroup), Path::new(hierarchy)).map(|shared| (shared.path, shared.level))
        };
        assert_eq!(
            named("/sys/fs/cgroup/system.slice/a.service", "/sys/fs/cgroup").unwrap(),
            ("system.slice/a.service".to_owned(), 2)
        );
        assert_eq!(
            named("/sys/fs/cgroup/unified/a.slice", "/sys/fs/cgroup/unified").unwrap(),
            ("unified/a.slice".to_owned(), 1)
        );
        assert!(named("/cgroups/a", "/cgroups").unwrap_err().to_string().contains("elsewhere"));
        assert!(named("/sys/fs/cgroup/a\"b", "/sys/fs/cgroup").unwrap_err().to_string().contains("quotes"));
    }
}
