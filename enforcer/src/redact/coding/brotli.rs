//! `br` (RFC 7932), standard windows only (16 MiB at most; the "large window" variant is refused).

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};

use super::{Codec, Step, broken};
use crate::redact::ScrubError;

pub(super) struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    total: usize,
    ended: bool,
}

impl Brotli {
    pub(super) fn new() -> Self {
        let state = BrotliState::new_strict(
            StandardAlloc::default(),
            StandardAlloc::default(),
            StandardAlloc::default(),
        );
        Brotli { state, total: 0, ended: false }
    }
}

impl Codec for Brotli {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, ScrubError> {
        if self.ended {
            return Ok(Step::default());
        }
        let (mut input_left, mut read) = (input.len(), 0);
        let (mut output_left, mut written) = (output.len(), 0);
        let result = BrotliDecompressStream(
            &mut input_left,
            &mut read,
            input,
            &mut output_left,
            &mut written,
            output,
            &mut self.total,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultSuccess => self.ended = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultFailure => return Err(broken("brotli")),
        }
        Ok(Step { read, written })
    }

    fn complete(&self) -> bool {
        self.ended
    }
}
