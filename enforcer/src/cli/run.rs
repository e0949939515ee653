//! `run AGENT -- COMMAND`: written with the process side.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {}
pub(super) fn run(_: RunArgs, _: &super::Context) -> super::Ended {
    Err(super::Failure::text(125, "not in this build"))
}
