//! Unix sockets: an agent has its own, and those that its policy names; the host's deputies are out of reach.
//!
//! Real ones, where Debian has them: each is used by its own client, first with the guard off.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use enforcer_tests::world::{Daemon, Output, Running, World, command, plan};

const LIMIT: Duration = Duration::from_secs(60);
/// A user of the host with programs of its own.
const USER: &str = "nobody";

const POLICY: &str = "version: 1\nagent: bot\n";

/// As that user, with no guard at all.
fn unguarded(world: &World, line: &str) -> Command {
    let uid = command::must(&["id", "-u", USER]).unwrap();
    let uid = uid.trim();
    world.on_host(&["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--", "sh", "-c", line])
}

/// The same line by an agent that shares the user's id, which is the weaker mode.
fn as_agent(daemon: &Daemon<'_>, line: &str) -> Output {
    let mut command = daemon.tool(&["run", "--user", USER, "bot", "--", "sh", "-c", line]);
    command.current_dir("/tmp");
    command::run(command, LIMIT).unwrap()
}

/// A directory of the user's own.
fn directory(world: &World, name: &str) -> String {
    let dir = world.dir.join(name);
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    command::must(&["chown", USER, &dir.display().to_string()]).unwrap();
    dir.display().to_string()
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Servers of the user's, and how their own clients reach them: server, client.
fn deputies(dir: &str) -> Vec<(&'static str, String, String)> {
    vec![
        (
            "tmux",
            format!("exec tmux -S {dir}/tmux -D"),
            format!("tmux -N -S {dir}/tmux show-options -g status | grep -q status"),
        ),
        (
            "ssh-agent",
            format!("exec ssh-agent -D -a {dir}/ssh"),
            // 1: it answers, and has no keys.
            format!("SSH_AUTH_SOCK={dir}/ssh ssh-add -l; test $? = 1"),
        ),
        (
            "gpg-agent",
            format!("mkdir -m 700 {dir}/gnupg && exec gpg-agent --homedir {dir}/gnupg --daemon sleep 1000"),
            format!(
                "echo getinfo pid | gpg-connect-agent --no-autostart -S {dir}/gnupg/S.gpg-agent | grep -q '^D '"
            ),
        ),
        (
            "dbus",
            format!("exec dbus-daemon --session --nofork --nopidfile --address=unix:path={dir}/bus"),
            format!(
                "dbus-send --bus=unix:path={dir}/bus --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames | grep -q freedesktop"
            ),
        ),
        (
            "dbus, abstract",
            format!("exec dbus-daemon --session --nofork --nopidfile --address=unix:abstract={dir}/abstract"),
            format!(
                "dbus-send --bus=unix:abstract={dir}/abstract --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames | grep -q freedesktop"
            ),
        ),
    ]
}

#[test]
fn the_hosts_deputies_answer_its_user_and_not_an_agent_that_runs_as_that_user() {
    let world = World::new().unwrap();
    let dir = directory(&world, "servers");
    let all = deputies(&dir);
    let running: Vec<Running> =
        all.iter().map(|(_, server, _)| Running::spawn(unguarded(&world, server), None).unwrap()).collect();
    for (name, _, client) in &all {
        wait(&format!("{name} answers its user"), || {
            command::run(unguarded(&world, client), LIMIT).unwrap().ok()
        });
    }
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    // The clients are there, and the files are in sight.
    assert!(as_agent(&daemon, &format!("test -S {dir}/tmux && command -v tmux ssh-add dbus-send")).ok());
    for (name, _, client) in &all {
        let output = as_agent(&daemon, client);
        assert!(!output.ok(), "{name} answers an agent: {output}");
    }
    for server in running {
        server.abandon().unwrap();
    }
}

#[test]
fn an_agent_has_its_own_servers_on_unix_sockets() {
    let world = World::new().unwrap();
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    const SOCKETS: &str = "
import os, socket
def stream(at):
  s = socket.socket(socket.AF_UNIX); s.bind(at); s.listen()
  c = socket.socket(socket.AF_UNIX); c.connect(at); c.sendall(b'x'); a, _ = s.accept(); assert a.recv(9) == b'x'
  assert c.getpeername() == (at if isinstance(at, str) else at), c.getpeername()
def datagram(at):
  s, c = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in 'ab')
  s.bind(at); c.sendto(b'x', at); assert s.recv(9) == b'x'; c.connect(at); c.send(b'y'); assert s.recv(9) == b'y'
home, runtime = os.environ['HOME'], os.environ['XDG_RUNTIME_DIR']
os.makedirs('/tmp/deep/er'); os.makedirs(home + '/.cache/x')
for place in '/tmp', '/tmp/deep/er', home, home + '/.cache/x', runtime:
  stream(place + '/stream'); datagram(place + '/datagram')
stream(b'\\0own'); datagram(b'\\0own-too')
print('all')
";
    let output = daemon.run_agent("bot", &["/usr/bin/python3", "-c", SOCKETS]).unwrap();
    assert_eq!(output.stdout.trim(), "all", "{output}");

    // Real ones, each with what its client says.
    for (name, line, told) in [
        (
            "tmux",
            "tmux -f /dev/null new-session -d 'sleep 60' && tmux list-sessions; tmux kill-server",
            "0: 1 windows",
        ),
        (
            "ssh-agent",
            "eval $(ssh-agent) && ssh-keygen -q -t ed25519 -N '' -C mine -f k && ssh-add -q k && ssh-add -l; kill $SSH_AGENT_PID",
            "mine",
        ),
        (
            "gpg-agent",
            "mkdir -m 700 .gnupg && gpgconf --launch gpg-agent && echo getinfo version | gpg-connect-agent; gpgconf --kill gpg-agent",
            "D 2.",
        ),
        (
            "dbus",
            "dbus-run-session -- dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames",
            "org.freedesktop.DBus",
        ),
    ] {
        let output = daemon.shell("bot", &format!("cd $HOME; {line}")).unwrap();
        assert!(output.stdout.contains(told), "{name}: {output}");
    }
}

/// An attempt in Python; `connect(path)` says what became of it.
const ATTEMPT: &str = "
import os, socket, subprocess, sys
deputy = sys.argv[1]
home = os.environ['HOME']
def connect(at, kind=socket.SOCK_STREAM):
  s = socket.socket(socket.AF_UNIX, kind)
  try: s.connect(at); return s.recv(64).decode() if kind == socket.SOCK_STREAM else 'connected'
  except OSError as e: return e.errno
def attempt(work):
  try: return work()
  except (OSError, subprocess.CalledProcessError) as e: return 'cannot: %s' % e
";

#[test]
fn no_detour_leads_from_an_agents_own_places_to_a_socket_of_the_hosts() {
    let world = World::new().unwrap();
    let deputy = world.deputies().join("deputy.sock").display().to_string();
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    let program = format!(
        "{ATTEMPT}
os.chdir(home)
print('path', connect(deputy))
os.symlink(deputy, home + '/link'); print('link', connect(home + '/link'))
os.symlink(os.path.dirname(deputy), '/tmp/dir'); print('dir', connect('/tmp/dir/deputy.sock'))
print('up', connect('/tmp/..' + deputy)); print('up', connect(home + '/../../../../../../../../..' + deputy))
print('relative', connect('link')); print('proc', connect('/proc/self/root' + deputy))
print('view', connect('/run/own' + deputy))
print('fd', connect('/proc/self/fd/%d' % os.open(deputy, os.O_PATH)))
print('hard link', attempt(lambda: os.link(deputy, home + '/hard')), connect(home + '/hard'))
print('rename', attempt(lambda: os.rename(deputy, home + '/moved')), connect(home + '/moved'))
print('mount', attempt(lambda: os.mkdir('/run/own/x')))
print('end')
"
    );
    let unguarded =
        world.unguarded(&["/usr/bin/python3", "-c", &format!("{ATTEMPT}\nprint(connect(deputy))"), &deputy]);
    let off = command::run(
        {
            let mut line = unguarded;
            line.env("HOME", "/tmp");
            line
        },
        LIMIT,
    )
    .unwrap();
    assert_eq!(off.stdout.trim(), plan::BANNER, "with the guard off: {off}");
    let output = daemon.run_agent("bot", &["/usr/bin/python3", "-c", &program, &deputy]).unwrap();
    assert!(output.stdout.ends_with("end\n"), "{output}");
    assert!(!output.stdout.contains(plan::BANNER), "{output}");

    // With a user namespace it may mount over the very place that connects are led to, and change its root.
    let inside = format!(
        "{ATTEMPT}
subprocess.run(['mount', '--bind', os.path.dirname(deputy), '/run/own/tmp'], check=True)
assert os.path.exists('/run/own/tmp/deputy.sock')
print('mounted', connect('/tmp/deputy.sock'))
os.makedirs('/tmp/root/run/own'); subprocess.run(['mount', '--rbind', '/', '/tmp/root'], check=True)
os.chroot('/tmp/root'); print('chroot', connect('/tmp/deputy.sock'))
"
    );
    let output = daemon
        .run_agent(
            "bot",
            &["unshare", "--user", "--map-root-user", "--mount", "/usr/bin/python3", "-c", &inside, &deputy],
        )
        .unwrap();
    assert!(output.stdout.contains("mounted 1\nchroot 1\n"), "the attack is made, and refused: {output}");
}

#[test]
fn a_socket_that_the_policy_names_is_reached_and_no_other() {
    let world = World::new().unwrap();
    let named = world.deputies().join("deputy.sock").display().to_string();
    let other = world.deputies().join("docker.sock").display().to_string();
    // One where the agent's own view hides everything.
    let hidden = Path::new("/tmp").join(&world.name);
    let _removed = Removed(hidden.clone());
    fs::create_dir(&hidden).unwrap();
    let hidden = hidden.join("db.sock").display().to_string();
    const SERVER: &str = "
import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o666); s.listen()
while True:
  c, _ = s.accept(); uid = int.from_bytes(c.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], 'little')
  c.sendall(b'uid %d' % uid); c.close()
";
    let server = Running::spawn(world.on_host(&["/usr/bin/python3", "-c", SERVER, &hidden]), None).unwrap();
    wait("the server listens", || Path::new(&hidden).exists());

    let policy = format!("{POLICY}unix: [\"{named}\", \"{hidden}\", /run/nothing-is-here.sock]\n");
    let daemon = world.daemon(&[("bot", &policy), ("other", "version: 1\nagent: other\n")]).unwrap();
    let program = format!("{ATTEMPT}\nfor at in sys.argv[1:]: print(connect(at))");
    let try_all = |agent: &str| {
        daemon.run_agent(agent, &["/usr/bin/python3", "-c", &program, &named, &hidden, &other]).unwrap()
    };
    let output = try_all("bot");
    let uid = daemon.run_agent("bot", &["id", "-u"]).unwrap().stdout;
    // ENOENT: for the agent it does not exist.
    assert_eq!(output.stdout, format!("{}\nuid {uid}2\n", plan::BANNER), "{output}");
    assert!(output.stderr.contains("names /run/nothing-is-here.sock, but no socket is there"), "{output}");
    assert_eq!(try_all("other").stdout, "2\n2\n2\n", "another agent");
    server.abandon().unwrap();
}

#[test]
fn what_an_agent_plants_nobody_else_runs() {
    let world = World::new().unwrap();
    let home = directory(&world, "home");
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    let plant = "mkdir -p $HOME/.config/systemd/user; for f in .bashrc .profile .config/systemd/user/x.service; do echo 'echo planted' >> $HOME/$f; done";
    let login = |home: &str| {
        let line = format!("HOME={home} bash -ic true 2>/dev/null");
        command::run(unguarded(&world, &line), LIMIT).unwrap().stdout
    };
    // With the guard off a program of the user's plants, and the user's next shell runs it.
    assert!(command::run(unguarded(&world, &format!("HOME={home}; {plant}")), LIMIT).unwrap().ok());
    assert_eq!(login(&home), "planted\n");
    fs::remove_file(format!("{home}/.bashrc")).unwrap();
    assert_eq!(login(&home), "");

    let output =
        daemon.shell("bot", &format!("{plant}; echo $HOME; echo 'echo planted' >> {home}/.bashrc")).unwrap();
    assert!(output.stderr.contains("ermission denied"), "{output}");
    let own = output.stdout.trim();
    assert!(Path::new(own).join(".bashrc").exists() && own != home, "{output}");
    assert_eq!(login(&home), "");
    // Nor do the host's timers: their spools are not the agent's.
    let spools = "for d in /var/spool/cron /var/spool/cron/crontabs /var/spool/at /var/spool/cron/atjobs /etc/cron.d; do \
        if echo '* * * * * root echo planted' 2>/dev/null > $d/planted; then echo wrote $d; fi; done; true";
    let output = daemon.shell("bot", spools).unwrap();
    assert_eq!(output.stdout, "", "{output}");
}

/// `at` and `crontab` write where only root may, as programs that gain its rights.
#[test]
fn programs_that_gain_rights_gain_none_when_an_agent_starts_them() {
    let world = World::new().unwrap();
    let gains = world.dir.join("gains");
    fs::copy("/usr/bin/id", &gains).unwrap();
    fs::set_permissions(&gains, fs::Permissions::from_mode(0o4755)).unwrap();
    let gains = gains.display().to_string();
    let rooted = |output: &Output| output.stdout.contains("euid=0");
    let off = command::run(unguarded(&world, &gains), LIMIT).unwrap();
    assert!(rooted(&off), "with the guard off: {off}");

    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    for flags in [&[][..], &["--user", USER], &["--root"]] {
        let words = [&["run"], flags, &["bot", "--", &gains]].concat();
        let mut command = daemon.tool(&words);
        command.current_dir("/tmp");
        let on = command::run(command, LIMIT).unwrap();
        assert!(on.stdout.contains("uid=") && !rooted(&on), "{flags:?}: {on}");
    }
}

/// Removes a directory of the host's when the test ends, however it does.
struct Removed(std::path::PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}
