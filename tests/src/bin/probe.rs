//! The attempts to get out as a programme of their own, for tests that have no product at hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    enforcer_probe::main(std::env::args().skip(1))
}
