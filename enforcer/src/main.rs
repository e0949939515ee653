//! `enforcer`: parse arguments, run, print the error chain, exit code. All of it is in `cli`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    enforcer::cli::main()
}
