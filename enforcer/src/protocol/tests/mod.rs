//! Whole requests, from an agent's socket to an upstream and back, in one process.

mod answers;
mod bodies;
mod connections;
mod cuts;
mod hostile;
mod limits;
mod requests;
mod streams;
mod windows;
mod world;
