//! `zstd` (RFC 8878), any number of frames, windows of 8 MiB at most (RFC 9659).

use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::{Codec, Step, broken};
use crate::redact::ScrubError;

/// 2^23 is the 8 MiB of RFC 9659, 3.
const WINDOW_LOG_MAX: u32 = 23;

pub(super) struct Zstd {
    state: Decoder<'static>,
    complete: bool,
}

impl Zstd {
    pub(super) fn new() -> Result<Self, ScrubError> {
        let failed = |e: std::io::Error| ScrubError::Decode(format!("no zstd decoder can be made: {e}"));
        let mut state = Decoder::new().map_err(failed)?;
        state.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(failed)?;
        Ok(Zstd { state, complete: false })
    }
}

impl Codec for Zstd {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, ScrubError> {
        // After a frame, a step without input would ask for the next one.
        if input.is_empty() && self.complete {
            return Ok(Step::default());
        }
        let status = self
            .state
            .run_on_buffers(input, output)
            .map_err(|_code_only| broken("zstd with a window up to 8 MiB"))?;
        self.complete = status.remaining == 0;
        Ok(Step { read: status.bytes_read, written: status.bytes_written })
    }

    fn complete(&self) -> bool {
        self.complete
    }
}
