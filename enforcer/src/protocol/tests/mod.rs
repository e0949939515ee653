//! Whole requests, from an agent's socket to an upstream and back, in one process.

mod answers;
mod bodies;
mod buffers;
mod certificates;
mod connections;
mod cuts;
mod grpc;
mod hints;
mod hostile;
mod http1;
mod http2;
mod legs;
mod limits;
mod observed;
mod requests;
mod responses;
mod servers;
mod sockets;
mod streams;
mod tunnels;
mod windows;
mod world;
