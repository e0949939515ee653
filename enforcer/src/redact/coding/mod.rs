//! Decoding content codings as the bytes arrive, with bounded memory and bounded growth.
//!
//! Each codec turns what it was given into as much output as it can at once, so a flushed event
//! passes without waiting. A stream that ends early, goes on after its end, or grows beyond the cap
//! is an error. One coding at a time: lists of codings are refused by [`Coding::of`].

mod brotli;
mod deflate;
mod gzip;
mod zstd;

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use super::ScrubError;

/// Output of one step; what is decoded and not passed on yet is at most this.
const STEP: usize = 16 * 1024;
/// Text and markup stay under 20; deflate can reach 1032, zstd and brotli far more.
const RATIO: u32 = 100;
/// Under a mebibyte a high ratio harms nobody (a page of zeros).
const FLOOR: u64 = 1024 * 1024;

/// The codings of [`super::ACCEPT_ENCODING`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// What the headers say; `None` when the body is not coded.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Coding>, ScrubError> {
        let mut found = None;
        for value in headers.get_all(CONTENT_ENCODING) {
            let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
            for name in text.split(',').map(str::trim).filter(|name| !matches!(*name, "" | "identity")) {
                let coding = match name {
                    "gzip" | "x-gzip" => Coding::Gzip,
                    "deflate" => Coding::Deflate,
                    "br" => Coding::Brotli,
                    "zstd" => Coding::Zstd,
                    unknown => return Err(ScrubError::Coding(unknown.to_owned())),
                };
                if found.replace(coding).is_some() {
                    return Err(ScrubError::Coding(text.clone()));
                }
            }
        }
        Ok(found)
    }

    pub(super) fn decoder(self) -> Result<Decoder, ScrubError> {
        let codec: Box<dyn Codec> = match self {
            Coding::Gzip => Box::new(gzip::Gzip::new()),
            Coding::Deflate => Box::new(deflate::Deflate::new()),
            Coding::Brotli => Box::new(brotli::Brotli::new()),
            Coding::Zstd => Box::new(zstd::Zstd::new()?),
        };
        Ok(Decoder {
            codec,
            input: Bytes::new(),
            more: false,
            read: 0,
            written: 0,
            buffer: vec![0; STEP].into_boxed_slice(),
        })
    }
}

/// One step of a codec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Step {
    read: usize,
    written: usize,
}

trait Codec: Send + Sync {
    /// Reads what it can and writes what it can; with no input, writes what is left inside.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, ScrubError>;
    /// Could the stream end here?
    fn complete(&self) -> bool;
}

/// A codec with its input and its caps.
pub(super) struct Decoder {
    codec: Box<dyn Codec>,
    input: Bytes,
    /// The last step filled the buffer, so the codec may hold more.
    more: bool,
    read: u64,
    written: u64,
    buffer: Box<[u8]>,
}

impl Decoder {
    /// Takes the next input; the last one has been read by then (see [`Decoder::next`]).
    pub(super) fn push(&mut self, input: Bytes) {
        debug_assert!(self.input.is_empty(), "the caller asks `next` until it says None");
        self.input = input;
    }

    /// The next piece of output; `None`: more input is needed.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, ScrubError> {
        while self.more || !self.input.is_empty() {
            let step = self.codec.step(&self.input, &mut self.buffer)?;
            self.input.advance(step.read);
            self.read += step.read as u64;
            self.written += step.written as u64;
            if self.written > FLOOR.max(self.read.saturating_mul(RATIO.into())) {
                return Err(ScrubError::Bomb(RATIO));
            }
            self.more = step.written == self.buffer.len();
            if step.written > 0 {
                return Ok(Some(Bytes::copy_from_slice(&self.buffer[..step.written])));
            }
            if step.read == 0 && !self.input.is_empty() {
                return Err(ScrubError::Decode("there are bytes after its end".to_owned()));
            }
        }
        Ok(None)
    }

    /// The input has ended. Servers send no bytes at all for an empty body.
    pub(super) fn end(&self) -> Result<(), ScrubError> {
        if self.read == 0 || self.codec.complete() {
            return Ok(());
        }
        Err(ScrubError::Decode("it ends in the middle".to_owned()))
    }
}

fn broken(coding: &str) -> ScrubError {
    ScrubError::Decode(format!("it is not valid {coding}"))
}
