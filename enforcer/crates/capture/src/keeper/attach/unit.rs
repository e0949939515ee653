//! A unit of systemd's that attaches itself: what its programs are to see lies where the lines of the unit name it.
//!
//! systemd gives each command of a unit a view of its own, made when the command before it has ended, so a mount that is made while
//! `ExecStartPre=` runs reaches nobody. What is made as files then does: `BindReadOnlyPaths=` and `EnvironmentFile=` are looked up for
//! each command anew.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::trust;
use crate::Error;
use crate::error::Doing;
use crate::keeper::Keeper;
use crate::keeper::files;
use crate::keeper::sessions::Prepared;
use crate::launch::CallerTrust;
use crate::session::Record;

/// Variables, as `EnvironmentFile=` reads them.
const ENVIRONMENT: &str = "environment";
/// Below it each file or directory has the path at which a program is to see it.
const OVER: &str = "over";

/// The name of a unit, as the one part of a path.
pub(super) fn check_name(unit: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if !unit.is_empty() && unit.len() < 256 && unit.chars().all(plain) && unit.contains(|c| c != '.') {
        return Ok(());
    }
    Err(Error::refused(
        format!("`{}` is no name of a unit", unit.escape_debug()),
        "`systemctl list-units` lists them",
    ))
}

/// Makes what the next commands of the session's unit see. In place of what was made for the unit before.
pub(super) fn write(keeper: &Keeper, record: &Record, prepared: Prepared) -> Result<(), Error> {
    let Some(unit) = name(record) else { return Ok(()) };
    let doing = || format!("make what the programs of {unit} see");
    let place = trust::free(&trust::directory(keeper, record))?.1.join("unit");
    let files =
        files::make(keeper, &place, &prepared.ca_pem, &prepared.guide, &CallerTrust::default(), None)?;
    let variables =
        files::variables(keeper, &files, prepared.environment, &prepared.agent, &record.session.id);
    let text: String =
        variables.map(|(name, value)| line(&name, &value)).collect::<io::Result<_>>().doing(doing)?;
    fs::write(place.join(ENVIRONMENT), text).doing(doing)?;
    for bind in &files.binds {
        let shown = place.join(OVER).join(bind.to.strip_prefix("/").unwrap_or(&bind.to));
        let made =
            shown.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| symlink(&bind.from, &shown));
        made.doing(doing)?;
    }
    let _alone = keeper.units.lock().unwrap_or_else(|e| e.into_inner());
    let link = keeper.paths.units().join(unit);
    let draft = keeper.paths.units().join(".new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing(doing),
        _ => symlink(&place, &draft).and_then(|()| fs::rename(&draft, &link)).doing(doing),
    }
}

/// Which of the session's directories its unit's next commands see.
pub(super) fn directory(keeper: &Keeper, record: &Record) -> Option<String> {
    let shown = fs::read_link(keeper.paths.units().join(name(record)?)).ok()?;
    let below = shown.strip_prefix(trust::directory(keeper, record)).ok()?;
    Some(below.iter().next()?.to_str()?.to_owned())
}

/// Where its lines find it.
pub(super) fn place(keeper: &Keeper, record: &Record) -> Option<PathBuf> {
    directory(keeper, record)?;
    Some(keeper.paths.units().join(name(record)?))
}

/// The session has ended: unless another has the unit by now, its commands see nothing of ours.
pub(super) fn forget(keeper: &Keeper, record: &Record) -> io::Result<()> {
    let _alone = keeper.units.lock().unwrap_or_else(|e| e.into_inner());
    match (name(record), directory(keeper, record)) {
        (Some(unit), Some(_)) => fs::remove_file(keeper.paths.units().join(unit)),
        _ => Ok(()),
    }
}

fn name(record: &Record) -> Option<&str> {
    record.attached.as_ref()?.unit.as_deref()
}

/// One variable, as systemd.exec(5) has it.
fn line(name: &str, value: &str) -> io::Result<String> {
    if value.contains(char::is_control) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the value of {name} has a control character"),
        ));
    }
    let mut line = format!("{name}=\"");
    for c in value.chars() {
        if "\"\\`$".contains(c) {
            line.push('\\');
        }
        line.push(c);
    }
    line.push_str("\"\n");
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_one_part_of_a_path() {
        for good in ["worker.service", "enforcer-agent@bot.service", r"a\x2db:c.scope"] {
            check_name(good).unwrap();
        }
        for bad in ["", ".", "..", "../x.service", "a/b", "a b", "ü.service", &"x".repeat(256)] {
            check_name(bad).unwrap_err();
        }
    }

    #[test]
    fn values_are_quoted_as_systemd_reads_them() {
        assert_eq!(line("A", "b c").unwrap(), "A=\"b c\"\n");
        assert_eq!(line("A", r#"$"\`"#).unwrap(), "A=\"\\$\\\"\\\\\\`\"\n");
        line("A", "b\nC=d").unwrap_err();
    }
}
