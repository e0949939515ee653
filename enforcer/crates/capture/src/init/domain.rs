//! A Landlock domain for agents that share their user with processes outside: those can neither be traced, nor
//! read or written by `/proc/PID/mem`, nor signalled, whatever Yama says.
//!
//! The kernel compares domains where it compares users, so this holds for every way into another process.

use landlock::{ABI, Access, LandlockStatus, Ruleset, RulesetAttr, RulesetError, Scope};

use crate::Error;

/// The first with scopes. A ruleset of scopes alone leaves files and mounts as they are.
const SCOPES: ABI = ABI::V6;

/// From here on, for good. `false`: this kernel has no such thing, and file permissions alone hold.
pub(super) fn enter() -> Result<bool, Error> {
    let restrict = || -> Result<_, RulesetError> {
        Ruleset::default().scope(Scope::from_all(SCOPES))?.create()?.restrict_self()
    };
    let status = restrict().map_err(|error| {
        Error::refused(
            format!("cannot keep the agent from its user's other processes: {error}"),
            "leave `--user` out: the agent then has an id of its own",
        )
    })?;
    Ok(matches!(status.landlock, LandlockStatus::Available { effective_abi, .. } if effective_abi >= SCOPES))
}
