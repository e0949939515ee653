//! `catalog …`: the actions of services that policies can name.

mod import;
mod registries;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use enforcer_policy::{Catalogues, Service, Source};

use super::failure::FAILED;
use super::policy::files::{folder, read, yaml_files};
use super::policy::{count, invalid};
use super::{Context, Ended, Failure, Output};

#[derive(Debug, Subcommand)]
pub(super) enum CatalogCommand {
    /// List the services that there are catalogues of
    Ls(Own),
    /// Show the actions of a service, and what is dangerous
    Show(ShowArgs),
    /// Make a catalogue out of an OpenAPI 3 document
    Import(import::ImportArgs),
    /// Print the hosts your npm, pip and cargo install from, as settings of `packages`
    Registries,
    /// Print the JSON Schema of catalogues, for editors and CI
    Schema,
}

#[derive(Args, Debug)]
pub(super) struct Own {
    /// Folder with catalogues of your own; without it, `services` in the policy folder
    #[arg(long, value_name = "DIR")]
    services: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    /// Service, as `catalog ls` lists it
    service: String,
    #[command(flatten)]
    own: Own,
}

pub(super) fn catalog(command: &CatalogCommand, context: &Context, out: &mut Output) -> Ended {
    match command {
        CatalogCommand::Ls(own) => ls(own, context, out),
        CatalogCommand::Show(args) => show(args, context, out),
        CatalogCommand::Import(args) => import::import(args, context, out),
        CatalogCommand::Registries => registries::registries(context, out),
        CatalogCommand::Schema => {
            out.json(&enforcer_policy::catalogue_schema(), true)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl Own {
    fn catalogues(&self, context: &Context) -> Result<Catalogues, Failure> {
        let sources = match &self.services {
            Some(folder) => sources(folder)?,
            None => {
                // Who may not read the settings sees what is shipped.
                let own =
                    folder(context).ok().map(|folder| folder.join("services")).filter(|own| own.is_dir());
                own.map(|own| sources(&own)).transpose()?.unwrap_or_default()
            }
        };
        Catalogues::read(&sources).map_err(invalid)
    }
}

fn sources(folder: &Path) -> Result<Vec<Source>, Failure> {
    yaml_files(folder)?.iter().map(|path| read(path)).collect()
}

fn ls(own: &Own, context: &Context, out: &mut Output) -> Ended {
    let services = own.catalogues(context)?.services();
    if context.json {
        out.json(&services, true)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |service: &Service| {
        let flagged = service
            .actions
            .iter()
            .filter(|action| action.dangerous.is_some() || action.mints_credentials.is_some())
            .count();
        vec![
            service.name.clone(),
            service.actions.len().to_string(),
            flagged.to_string(),
            service.about.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = services.iter().map(row).collect();
    out.table(&["service", "actions", "flagged", "about"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ShowArgs, context: &Context, out: &mut Output) -> Ended {
    let services = args.own.catalogues(context)?.services();
    let Some(service) = services.iter().find(|service| service.name == args.service) else {
        let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
        return Err(Failure::text(FAILED, format!("there is no catalogue of `{}`", args.service))
            .hint(format!("known are {}", names.join(", "))));
    };
    if context.json {
        out.json(service, true)?;
        return Ok(ExitCode::SUCCESS);
    }
    out.line(format!("{}: {}", service.name, service.about))?;
    if let Some(resource) = &service.resource {
        out.line(format!("resources: {resource}"))?;
    }
    for setting in &service.settings {
        let value = match (&setting.default, &setting.example) {
            (Some(default), _) => format!("{default} unless given"),
            (None, Some(example)) if setting.optional => format!("optional, for example {example}"),
            (None, Some(example)) => format!("to be given, for example {example}"),
            (None, None) => "optional".to_owned(),
        };
        out.line(format!("setting `{}`: {} ({value})", setting.name, setting.about))?;
    }
    for kind in ["read", "write", "delete", "admin"] {
        let actions: Vec<_> = service.actions.iter().filter(|action| action.kind == kind).collect();
        if actions.is_empty() {
            continue;
        }
        out.line(format!("\n{kind}, {}", count(actions.len(), "action")))?;
        for action in actions {
            out.line(format!("  {}: {}", action.name, action.about))?;
            let flags = [("dangerous", &action.dangerous), ("mints credentials", &action.mints_credentials)];
            for (word, what) in flags {
                if let Some(what) = what {
                    out.line(format!("    ! {word}: {what}"))?;
                }
            }
            for request in &action.requests {
                out.line(format!("    {request}"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
