//! `daemon`, `worker`, `agent-init`: written with the process side.
#[derive(Debug, clap::Args)]
pub(super) struct DaemonArgs {}
#[derive(Debug, clap::Args)]
pub(super) struct WorkerArgs {}
#[derive(Debug, clap::Args)]
pub(super) struct AgentInitArgs {}
pub(super) fn daemon(_: DaemonArgs, _: &super::Context) -> super::Ended {
    Err(super::Failure::text(1, "not in this build"))
}
pub(super) fn worker(_: WorkerArgs, _: &super::Context) -> super::Ended {
    Err(super::Failure::text(1, "not in this build"))
}
pub(super) fn agent_init(_: AgentInitArgs, _: &super::Context) -> super::Ended {
    Err(super::Failure::text(1, "not in this build"))
}
