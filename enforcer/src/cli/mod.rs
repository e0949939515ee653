//! The command line: arguments, the daemon's answers for people or as JSON, exit codes.
//!
//! A client of `control` with no power of its own; only `daemon`, `worker` and `unmanage` do work
//! themselves. Standard output is for the answer, standard error for everything else.

mod agents;
mod attach;
mod ca;
mod catalog;
mod daemon;
mod doctor;
mod failure;
mod logs;
mod output;
mod policy;
mod prove;
mod receipts;
mod recorded;
mod run;
mod secret;
mod status;
#[cfg(test)]
mod tests;
mod trust;
mod unmanage;
mod version;
mod why;
mod zone;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::{Config, ConfigError};
use crate::control::client::Client;

pub use failure::Failure;
pub use output::Output;

/// What a command ends with.
pub type Ended = Result<ExitCode, Failure>;

const BEGIN: &str = "\
Begin with:
  enforcer policy check FILE        a policy that loads
  enforcer run AGENT -- COMMAND     an agent under it
  enforcer logs -f                  what it does";

#[derive(Debug, Parser)]
#[command(
    name = "enforcer",
    version,
    about = "Governs the network of AI agents: credentials, policy per request, receipts",
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = BEGIN
)]
pub struct Cli {
    /// Settings file
    #[arg(long, global = true, value_name = "FILE", env = "ENFORCER_CONFIG", help_heading = "Everywhere")]
    config: Option<PathBuf>,
    /// Control socket of the daemon
    #[arg(long, global = true, value_name = "PATH", env = "ENFORCER_SOCKET", help_heading = "Everywhere")]
    socket: Option<PathBuf>,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, help_heading = "Everywhere")]
    color: Color,
    /// Print JSON: one document, or one object per line for streams
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a command as an agent
    Run(run::RunArgs),
    /// Govern what already runs, as an agent: a unit, a container, a cgroup
    Attach(attach::AttachArgs),
    /// Let go of what was attached
    Detach(attach::DetachArgs),
    /// Show what agents do, as it happens or as it happened
    Logs(logs::LogsArgs),
    /// Show the recorded decision about one request, and what would allow it
    Why(why::WhyArgs),
    /// Show whether the daemon works and what it serves
    Status,
    /// Check this host and the set-up, and say how to repair what is wrong
    Doctor,
    /// Try every way out as an agent, and show what stops each
    Prove(prove::ProveArgs),
    /// List the running sessions
    Agents,
    /// Switch an agent off, or on again
    #[command(subcommand)]
    Agent(agents::AgentCommand),
    /// Check and explain policies
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// List and show the catalogues of services, whose actions policies can name
    #[command(subcommand)]
    Catalog(catalog::CatalogCommand),
    /// Make the daemon read the policies again
    Reload,
    /// Store, list and remove secrets; no command shows a value
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// List, show, verify and export receipts
    #[command(subcommand)]
    Receipts(receipts::ReceiptsCommand),
    /// Print the root certificate that agents trust
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Find clients that do not trust the certificates made for agents
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Let go of this host: detach from the kernel and remove what is pinned there
    Unmanage(unmanage::UnmanageArgs),
    /// Run the service in the foreground
    Daemon,
    /// The unprivileged half of the daemon; started by it
    #[command(hide = true)]
    Worker,
    /// The first process of an agent; started by the daemon
    #[command(hide = true)]
    AgentInit,
    /// Makes attempts to get out; started by `prove`
    #[command(hide = true)]
    Attempt {
        /// Make none, only be there
        #[arg(long)]
        hold: bool,
    },
    /// Print the version and the SHA-256 of this program
    Version,
}

/// What every command gets.
#[derive(Debug)]
pub struct Context {
    /// The file named with `--config`; `None`: the default place, which may be empty.
    pub config: Option<PathBuf>,
    socket: Option<PathBuf>,
    pub json: bool,
}

impl Context {
    /// The settings, for commands that cannot do without.
    pub fn settings(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref())
    }

    /// Speaks to the daemon: the socket named, or the one in the settings. Settings that this user
    /// may not read are no obstacle, unless they were named.
    pub fn client(&self) -> Result<Client, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(Client::new(socket.clone()));
        }
        let config = match Config::load(self.config.as_deref()) {
            Ok(config) => config,
            Err(ConfigError::Read { error, .. })
                if self.config.is_none() && error.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                Config::default()
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Client::new(config.control_socket()))
    }

    /// The keeper's socket; beside the control socket when only that one was named.
    fn launch_socket(&self) -> Result<PathBuf, Failure> {
        match (&self.config, &self.socket) {
            (None, Some(socket)) => Ok(socket.with_file_name("launch.sock")),
            _ => Ok(self.settings()?.launch_socket()),
        }
    }

    pub fn config_path(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}

/// The whole program: parse, run, print the error, exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers (0), the rest is wrong usage (2). A closed pipe is no error.
            return match error.print() {
                Ok(()) => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
                Err(_closed) => ExitCode::SUCCESS,
            };
        }
    };
    match cli.color {
        // Looks at NO_COLOR, CLICOLOR, TERM and at what stdout is.
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    let context = Context { config: cli.config, socket: cli.socket, json: cli.json };
    match dispatch(cli.command, &context, &mut Output::stdout()) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn dispatch(command: Command, context: &Context, out: &mut Output) -> Ended {
    match command {
        Command::Run(args) => run::run(args, context),
        Command::Attach(args) => attach::attach(args, context, out),
        Command::Detach(args) => attach::detach(&args, context, out),
        Command::Logs(args) => recorded::logs(&args, context, out),
        Command::Why(args) => why::why(&args, context, out),
        Command::Status => status::status(context, out),
        Command::Doctor => doctor::doctor(context, out),
        Command::Prove(args) => prove::prove(&args, context, out),
        Command::Attempt { hold } => prove::attempt(hold),
        Command::Agents => agents::agents(context, out),
        Command::Agent(command) => agents::agent(&command, context, out),
        Command::Policy(command) => policy::policy(command, context, out),
        Command::Catalog(command) => catalog::catalog(&command, context, out),
        Command::Reload => policy::reload(context, out),
        Command::Secret(command) => secret::secret(command, context, out),
        Command::Receipts(command) => recorded::receipts(&command, context, out),
        Command::Ca(command) => ca::ca(&command, context, out),
        Command::Trust(command) => trust::trust(&command, context, out),
        Command::Unmanage(args) => unmanage::unmanage(&args, context, out),
        Command::Daemon => daemon::daemon(context),
        Command::Worker => daemon::worker(),
        Command::AgentInit => Ok(enforcer_capture::init::main()),
        Command::Version => version::version(context, out),
    }
}
