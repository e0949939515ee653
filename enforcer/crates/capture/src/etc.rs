//! The few files of `/etc` that an agent sees differently: names go to our resolver only, and its user has a name.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::identity::Identity;
use crate::trust::Bind;

/// Our resolver listens on the agent's own loopback. One server, so that nothing waits for a second one. It answers at once or is being
/// replaced, and then questions wait in its socket: half a minute is worth waiting for it, where ten seconds are the custom.
const RESOLV_CONF: &str = "# enforcer: names are answered as the policy allows\nnameserver 127.0.0.1\noptions timeout:5 attempts:5\n";

/// Writes them into the session's directory and says where they belong. Names of users: of an agent that has an id of its own.
pub(crate) fn build(dir: &Path, identity: Option<&Identity>) -> io::Result<Vec<Bind>> {
    let mut files = vec![("resolv.conf", RESOLV_CONF.to_owned())];
    if let Some(text) = read("/etc/nsswitch.conf")? {
        files.push(("nsswitch.conf", plain_lookups(&text)));
    }
    if let Some(identity) = identity.filter(|identity| identity.own) {
        if let Some(text) = read("/etc/passwd")? {
            let line = format!(
                "{}:x:{}:{}:enforcer agent:{}:/bin/sh",
                free_name(&text, &identity.name),
                identity.uid,
                identity.gid,
                identity.home.display()
            );
            files.push(("passwd", with_line(&text, &line)));
        }
        if let Some(text) = read("/etc/group")? {
            let line = format!("{}:x:{}:", free_name(&text, &identity.name), identity.gid);
            files.push(("group", with_line(&text, &line)));
        }
    }
    files
        .into_iter()
        .map(|(name, text)| {
            let from = dir.join(name);
            fs::write(&from, text)?;
            fs::set_permissions(&from, fs::Permissions::from_mode(0o644))?;
            Ok(Bind { from, to: Path::new("/etc").join(name) })
        })
        .collect()
}

fn read(path: &str) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Host names by file and DNS alone: other services ask daemons outside, over sockets that are hidden.
fn plain_lookups(nsswitch: &str) -> String {
    let mut text: String = nsswitch
        .lines()
        .filter(|line| !line.trim_start().starts_with("hosts:"))
        .flat_map(|line| [line, "\n"])
        .collect();
    text.push_str("hosts: files dns\n");
    text
}

/// A name that no line has yet: an agent called like a user of the host must not be taken for it.
fn free_name(table: &str, agent: &str) -> String {
    let taken = |name: &str| table.lines().any(|line| line.split(':').next() == Some(name));
    if taken(agent) { format!("agent-{agent}") } else { agent.to_owned() }
}

fn with_line(table: &str, line: &str) -> String {
    let newline = if table.is_empty() || table.ends_with('\n') { "" } else { "\n" };
    format!("{table}{newline}{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_looked_up_in_file_and_dns_only() {
        let text = "passwd: files systemd\n hosts: files resolve [!UNAVAIL=return] dns\nnetworks: files";
        assert_eq!(plain_lookups(text), "passwd: files systemd\nnetworks: files\nhosts: files dns\n");
    }

    #[test]
    fn an_agent_is_never_called_like_a_user_of_the_host() {
        let table = "root:x:0:0::/root:/bin/sh\nbot:x:5:5::/:/bin/sh";
        assert_eq!(free_name(table, "bot"), "agent-bot");
        assert_eq!(free_name(table, "bo"), "bo");
        assert_eq!(with_line("a", "b"), "a\nb\n");
    }
}
