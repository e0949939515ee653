//! Whole requests, from an agent's socket to an upstream and back, in one process.

mod answers;
mod connections;
mod cuts;
mod requests;
mod streams;
mod world;
