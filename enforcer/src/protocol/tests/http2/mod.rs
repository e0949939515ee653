//! HTTP/2 as an agent that means harm writes it, frame by frame and by hand.

mod floods;
mod generic;
mod must;
mod requests;

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::world::World;

/// An attacker is gone by then, and what is answered is answered long before.
const SOON: Duration = Duration::from_secs(30);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// Sent behind every case, to learn whether the connection lives.
const STILL_THERE: &[u8; 8] = b"there?  ";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A number with a prefix of seven bits (RFC 7541, 5.1).
fn number(mut value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![value as u8];
    }
    value -= 127;
    let mut out = vec![127];
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
    out
}

/// One field, not indexed, not coded (RFC 7541, 6.2.2).
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0][..], &number(name.len()), name, &number(value.len()), value].concat()
}

/// A block of fields.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name.as_bytes(), value.as_bytes())).collect()
}

fn head<'a>(method: &'a str, host: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "http"), (":authority", host), (":path", path)]
}

fn get(host: &str, path: &str) -> Vec<u8> {
    block(&head("GET", host, path))
}

fn post(host: &str, more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&head("POST", host, "/")[..], more].concat())
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// Of RST_STREAM and GOAWAY.
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        self.payload.get(at..at + 4).map_or(u32::MAX, |code| u32::from_be_bytes(code.try_into().unwrap()))
    }

    /// The head of an answer 200, which the static table has a byte for.
    fn is_ok(&self) -> bool {
        self.kind == HEADERS && self.payload.first() == Some(&0x88)
    }
}

/// One connection of an agent, in the clear.
struct Raw {
    io: TcpStream,
    got: Vec<u8>,
}

impl Raw {
    /// The preface and nothing more.
    async fn bare(world: &World, agent: &str) -> Self {
        let io = world.dial(agent, world.http).await;
        let mut raw = Raw { io, got: Vec::new() };
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw
    }

    async fn new(world: &World, agent: &str) -> Self {
        let mut raw = Raw::bare(world, agent).await;
        raw.send(&frame(SETTINGS, 0, 0, b"")).await;
        raw
    }

    /// What cannot be written any more was for a connection that is closed.
    async fn send(&mut self, bytes: &[u8]) {
        drop(self.io.write_all(bytes).await);
    }

    /// The next frame; `None`: the connection is closed.
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((head, rest)) = self.got.split_at_checked(9) {
                let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if let Some(payload) = rest.get(..len) {
                    let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
                    let frame = Frame { kind: head[3], flags: head[4], stream, payload: payload.to_vec() };
                    self.got.drain(..9 + len);
                    return Some(frame);
                }
            }
            match self.io.read_buf(&mut self.got).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// Frames up to and with the one asked for, or until the connection is closed (`None` is the last then), or
    /// until nothing more comes.
    async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Vec<Option<Frame>> {
        let mut frames = Vec::new();
        while let Ok(frame) = tokio::time::timeout(SOON, self.frame()).await {
            let last = frame.as_ref().is_none_or(&wanted);
            frames.push(frame);
            if last {
                break;
            }
        }
        frames
    }
}

fn is_ping(payload: &[u8; 8]) -> impl Fn(&Frame) -> bool {
    move |frame| frame.kind == PING && frame.flags & ACK != 0 && frame.payload == payload
}
