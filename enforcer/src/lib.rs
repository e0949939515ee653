//! The daemon and its command line, in reading order.
//!
//! Layers point down only; `cargo xtask tidy` checks it. See `docs/architecture.md`.
#![forbid(unsafe_code)]

// 1 foundations
pub mod agent;
pub mod audit;
pub mod config;
pub mod policies;
pub mod secret;
pub mod shutdown;
pub mod switches;
pub mod telemetry;
pub mod text;
pub mod tls;
// 2 the only code that says yes
pub mod gate;
// 3 what a permit allows
pub mod credential;
pub mod dns;
pub mod redact;
// 4, 5 the data path
pub mod protocol;
pub mod proxy;
// 6 how people reach the daemon
pub mod control;
// 7 clients of `control`
pub mod cli;
// everything wired together
pub mod app;
