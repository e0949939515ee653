//! `receipts ls | show | verify | export`: written with the receipts.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ReceiptsCommand {
    Ls,
}
pub(super) fn receipts(_: ReceiptsCommand, _: &super::Context, _: &mut super::Output) -> super::Ended {
    Err(super::Failure::text(1, "not in this build"))
}
