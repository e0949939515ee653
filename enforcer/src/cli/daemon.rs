//! `daemon` and `worker`: the two processes of the service.
//!
//! `daemon` is the keeper, root and small; it starts `worker` by itself.

use std::path::Path;
use std::process::ExitCode;

use enforcer_capture::keeper::{self, Prove, Settings, VaultKeySource};
use enforcer_capture::message::Channel;

use super::{Context, Ended, Failure};
use crate::config::{self, Config};
use crate::{app, telemetry};

pub(super) fn daemon(context: &Context) -> Ended {
    let (config, text) = Config::load_with_text(context.config_path())?;
    telemetry::init();
    keeper::run(settings(config, text, context)).map_err(|error| {
        let hint = error.hint();
        let failure = Failure::new(error.exit_code(), error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn worker() -> Ended {
    telemetry::init();
    let channel = Channel::passed().map_err(|error| {
        Failure::new(2, error).hint("the worker is started by `enforcer daemon`, not by people")
    })?;
    app::worker(channel)?;
    Ok(ExitCode::SUCCESS)
}

fn settings(config: Config, text: String, context: &Context) -> Settings {
    Settings {
        run_dir: config.run_dir,
        state_dir: config.state_dir,
        vault_key: match config.vault_key {
            config::VaultKeySource::File(path) => VaultKeySource::File(path),
            config::VaultKeySource::SystemdCredential(name) => VaultKeySource::SystemdCredential(name),
        },
        managed_root: config.managed_root,
        pins: config.pins,
        worker_id: config.ids.worker,
        agent_ids: config.ids.agents.first..=config.ids.agents.last,
        group: config.group,
        config: text,
        executable: "/proc/self/exe".into(),
        prove: config
            .prove
            .every
            .map(|every| Prove { every, config: context.config_path().map(Path::to_owned) }),
    }
}
