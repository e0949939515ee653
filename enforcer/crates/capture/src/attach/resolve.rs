//! From what a person names to a cgroup: a unit by systemd, a container by its id or by the tool that runs it, a process by
//! `/proc`. Nothing is changed, and what is not found exactly is an error.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::engine;
use crate::Error;
use crate::cgroup;
use crate::error::Doing;
use crate::message::Container;

/// How a person names what to govern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A path below the cgroup2 mount, or one from its root as `/proc/PID/cgroup` shows it.
    Cgroup(PathBuf),
    /// A systemd unit.
    Unit(String),
    /// A container's id, or its name for `docker`, `podman` or `nerdctl`.
    Container(String),
    /// The cgroup that this process is in, with everything else in it.
    Pid(u32),
}

/// As many letters of a container's id as the tools show.
const SHORT_ID: usize = 12;

/// What it came to.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its full path.
    pub cgroup: PathBuf,
    /// What runs there, where it is a container that an engine of this host tells of.
    pub container: Option<Container>,
    /// Its whole name, where it was named as a unit.
    pub unit: Option<String>,
}

impl Target {
    pub fn find(&self) -> Result<Found, Error> {
        let (cgroup, unit) = match self {
            Target::Unit(name) => {
                let (unit, cgroup) = of_unit(name, &cgroup::hierarchy()?)?;
                (cgroup, Some(unit))
            }
            Target::Cgroup(_) | Target::Container(_) | Target::Pid(_) => (self.cgroup()?, None),
        };
        let named = match self {
            Target::Container(name) => Some(name.clone()),
            Target::Cgroup(_) | Target::Unit(_) | Target::Pid(_) => engine::id_in(&cgroup),
        };
        let told = named.and_then(|name| engine::ask(&name));
        let inside = |told: &engine::Told| {
            // An engine that speaks of something else speaks of nothing here.
            let own = cgroup::of_process(told.pid, &cgroup::hierarchy()?)
                .doing(|| "see the container's cgroup".into())?;
            Ok::<bool, Error>(own.starts_with(&cgroup))
        };
        let container = match told {
            Some(told) if inside(&told)? => Some(told.container),
            Some(_) | None => None,
        };
        Ok(Found { cgroup, container, unit })
    }

    /// The cgroup's full path.
    fn cgroup(&self) -> Result<PathBuf, Error> {
        let hierarchy = cgroup::hierarchy()?;
        match self {
            Target::Cgroup(path) => Ok(full_path(path, &hierarchy)),
            Target::Unit(unit) => of_unit(unit, &hierarchy).map(|(_, cgroup)| cgroup),
            Target::Container(name) => of_container(name, &hierarchy),
            Target::Pid(pid) => of_pid(*pid, &hierarchy),
        }
    }
}

fn full_path(path: &Path, hierarchy: &Path) -> PathBuf {
    if path.starts_with(hierarchy) {
        return path.to_owned();
    }
    hierarchy.join(path.strip_prefix("/").unwrap_or(path))
}

/// Asks systemd for its whole name and where it runs; elsewhere there are no units.
fn of_unit(unit: &str, hierarchy: &Path) -> Result<(String, PathBuf), Error> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(Error::refused(
            format!("systemd does not run this host, so there is no unit `{}`", unit.escape_debug()),
            "name the cgroup itself: --cgroup PATH",
        ));
    }
    let output = Command::new("systemctl")
        .args(["show", "--property=Id,LoadState,ControlGroup", "--", unit])
        .output()
        .doing(|| "ask systemctl about the unit".into())?;
    let text = String::from_utf8_lossy(&output.stdout);
    control_group(unit, &text).map(|(name, path)| (name, full_path(&path, hierarchy)))
}

/// Reads what `systemctl show` says of a unit: name and cgroup.
fn control_group(unit: &str, shown: &str) -> Result<(String, PathBuf), Error> {
    let value = |key: &str| shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let unit = unit.escape_debug();
    if value("LoadState") != Some("loaded") {
        return Err(Error::refused(
            format!("systemd knows no unit `{unit}`"),
            "`systemctl list-units` lists them; name it with its suffix, such as `worker.service`",
        ));
    }
    match (value("Id"), value("ControlGroup")) {
        (Some(name), Some(path)) if path.len() > 1 => Ok((name.to_owned(), path.into())),
        _ => Err(Error::refused(
            format!("the unit `{unit}` does not run, so it has no cgroup"),
            format!(
                "start it, or attach from the unit itself: ExecStartPre=+enforcer attach AGENT --unit {unit}"
            ),
        )),
    }
}

/// By its id among the cgroups, which every runtime names after it; by a tool that knows the name otherwise.
fn of_container(name: &str, hierarchy: &Path) -> Result<PathBuf, Error> {
    let is_id = name.len() >= SHORT_ID && name.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id {
        let found = named_after(name, hierarchy).doing(|| format!("look through {}", hierarchy.display()))?;
        match found.as_slice() {
            [one] => return Ok(one.clone()),
            [] => {}
            several => {
                let list: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
                return Err(Error::refused(
                    format!("several cgroups are named after `{name}`: {}", list.join(", ")),
                    "name one of them: --cgroup PATH",
                ));
            }
        }
    }
    if let Some(told) = engine::ask(name) {
        return of_pid(told.pid, hierarchy);
    }
    Err(Error::refused(
        format!("no running container `{}` was found", name.escape_debug()),
        format!(
            "give its id, of at least {SHORT_ID} letters; names are asked of {} where they are installed",
            engine::ENGINES.join(", ")
        ),
    ))
}

/// The topmost cgroups whose name holds the id: `docker-ID.scope`, `cri-containerd-ID.scope`, `libpod-ID.scope`, `ID`.
fn named_after(id: &str, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for child in cgroup::children(dir)? {
        if child.file_name().is_some_and(|name| name.to_string_lossy().contains(id)) {
            found.push(child);
        } else {
            found.extend(named_after(id, &child)?);
        }
    }
    Ok(found)
}

fn of_pid(pid: u32, hierarchy: &Path) -> Result<PathBuf, Error> {
    let path =
        cgroup::of_process(pid, hierarchy).map_err(|error| match fs::metadata(format!("/proc/{pid}")) {
            Ok(_) => Error::Io { what: format!("see the cgroup of process {pid}"), source: error },
            Err(_) => Error::refused(format!("there is no process {pid}"), "`ps` lists them"),
        })?;
    if path == hierarchy.join("") || path == hierarchy {
        return Err(Error::refused(
            format!(
                "process {pid} is in the root of the cgroup hierarchy, with everything else of this host"
            ),
            "give it a cgroup of its own first (systemd-run --scope, or a container), or start it with `enforcer run`",
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_named_by_its_path_or_as_proc_shows_it() {
        let hierarchy = Path::new("/sys/fs/cgroup/unified");
        for path in ["/sys/fs/cgroup/unified/a/b.service", "/a/b.service", "a/b.service"] {
            assert_eq!(
                full_path(Path::new(path), hierarchy),
                Path::new("/sys/fs/cgroup/unified/a/b.service")
            );
        }
    }

    #[test]
    fn a_unit_has_a_cgroup_while_it_runs() {
        let running = "Id=worker.service\nLoadState=loaded\nControlGroup=/system.slice/worker.service\n";
        assert_eq!(
            control_group("worker", running).unwrap(),
            ("worker.service".to_owned(), PathBuf::from("/system.slice/worker.service"))
        );
        let problem = |shown: &str| control_group("worker.service", shown).unwrap_err();
        assert!(
            problem("Id=worker.service\nLoadState=loaded\nControlGroup=\n")
                .to_string()
                .contains("does not run")
        );
        // The root slice has everything in it.
        assert!(
            problem("Id=worker.service\nLoadState=loaded\nControlGroup=/\n")
                .to_string()
                .contains("does not run")
        );
        assert!(problem("LoadState=not-found\nControlGroup=\n").to_string().contains("knows no unit"));
        assert!(problem("").to_string().contains("knows no unit"));
    }

    #[test]
    fn without_systemd_a_unit_is_an_error_that_says_so() {
        if Path::new("/run/systemd/system").is_dir() {
            return;
        }
        let error = Target::Unit("worker.service".into()).cgroup().unwrap_err();
        assert!(error.to_string().contains("systemd does not run"), "{error}");
        assert!(error.hint().unwrap().contains("--cgroup"));
    }

    #[test]
    fn a_container_is_found_by_its_id_among_the_cgroups() {
        let dir = tempfile::tempdir().unwrap();
        let id = "4f1c0a2b3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8";
        let scope = dir.path().join("system.slice").join(format!("docker-{id}.scope"));
        fs::create_dir_all(scope.join("init")).unwrap();
        fs::create_dir_all(dir.path().join("other")).unwrap();
        assert_eq!(named_after("4f1c0a2b3d4e", dir.path()).unwrap(), [scope]);
        assert!(named_after("ffffffffffff", dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_process_without_a_cgroup_of_its_own_is_not_enough() {
        let dir = tempfile::tempdir().unwrap();
        let error = of_pid(u32::MAX, dir.path()).unwrap_err();
        assert!(error.to_string().contains("no process"), "{error}");
    }
}
