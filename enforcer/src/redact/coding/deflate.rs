//! `deflate`: zlib (RFC 1950) as the standard says, or bare deflate (RFC 1951) as some servers send.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Codec, Step, broken};
use crate::redact::ScrubError;

pub(super) struct Deflate {
    /// The first two bytes, until they have told which of the two it is.
    start: Vec<u8>,
    inflate: Option<Inflate>,
}

impl Deflate {
    pub(super) fn new() -> Self {
        Deflate { start: Vec::with_capacity(2), inflate: None }
    }
}

impl Codec for Deflate {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, ScrubError> {
        if let Some(inflate) = &mut self.inflate {
            return inflate.step(input, output).map_err(|Broken| broken("deflate"));
        }
        let taken = input.len().min(2 - self.start.len());
        self.start.extend_from_slice(&input[..taken]);
        let [first, second] = self.start[..] else {
            return Ok(Step { read: taken, written: 0 });
        };
        let zlib =
            first & 0x0f == 8 && first >> 4 <= 7 && u16::from_be_bytes([first, second]).is_multiple_of(31);
        let mut inflate = Inflate::new(zlib);
        // Two bytes hold a head and one literal at most, so all of their output fits.
        let step = inflate.step(&self.start, output).map_err(|Broken| broken("deflate"))?;
        if step.read != self.start.len() {
            return Err(ScrubError::Decode("there are bytes after its end".to_owned()));
        }
        self.inflate = Some(inflate);
        Ok(Step { read: taken, written: step.written })
    }

    fn complete(&self) -> bool {
        self.inflate.as_ref().is_some_and(|inflate| inflate.ended)
    }
}

/// The codec under zlib and gzip.
pub(super) struct Inflate {
    state: Decompress,
    pub(super) ended: bool,
}

pub(super) struct Broken;

impl Inflate {
    pub(super) fn new(zlib: bool) -> Self {
        Inflate { state: Decompress::new(zlib), ended: false }
    }

    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Broken> {
        if self.ended {
            return Ok(Step::default());
        }
        let (read, written) = (self.state.total_in(), self.state.total_out());
        let status =
            self.state.decompress(input, output, FlushDecompress::None).map_err(|_position_only| Broken)?;
        self.ended = matches!(status, Status::StreamEnd);
        Ok(Step {
            read: (self.state.total_in() - read) as usize,
            written: (self.state.total_out() - written) as usize,
        })
    }
}
