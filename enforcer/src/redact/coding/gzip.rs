//! `gzip` (RFC 1952): any number of members, each with its checksum and length verified.

use flate2::Crc;

use super::deflate::{Broken, Inflate};
use super::{Codec, Step, broken};
use crate::redact::ScrubError;

const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const HEADER_CRC: u8 = 1 << 1;
const RESERVED: u8 = 0b1110_0000;
/// Names and comments have no limit of their own.
const MAX_HEADER: usize = 128 * 1024;

pub(super) struct Gzip {
    part: Part,
    inflate: Inflate,
    crc: Crc,
}

enum Part {
    Header(Header),
    Data,
    /// CRC-32 and length, both little-endian.
    Trailer([u8; 8], usize),
    /// A member has ended; another may follow.
    Between,
}

#[derive(Default)]
struct Header {
    fixed: [u8; 10],
    read: usize,
    field: Field,
}

#[derive(Default)]
enum Field {
    #[default]
    Fixed,
    ExtraLength(Option<u8>),
    Extra(u16),
    Name,
    Comment,
    Crc(u8),
    Done,
}

impl Gzip {
    pub(super) fn new() -> Self {
        Gzip { part: Part::Between, inflate: Inflate::new(false), crc: Crc::new() }
    }
}

impl Codec for Gzip {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, ScrubError> {
        let mut read = 0;
        loop {
            match &mut self.part {
                Part::Between => {
                    if read == input.len() {
                        return Ok(Step { read, written: 0 });
                    }
                    self.part = Part::Header(Header::default());
                    self.inflate = Inflate::new(false);
                    self.crc.reset();
                }
                Part::Header(header) => {
                    let Some(byte) = input.get(read) else { return Ok(Step { read, written: 0 }) };
                    read += 1;
                    if header.take(*byte).map_err(|Broken| broken("gzip"))? {
                        self.part = Part::Data;
                    }
                }
                Part::Data => {
                    let step = self.inflate.step(&input[read..], output).map_err(|Broken| broken("gzip"))?;
                    self.crc.update(&output[..step.written]);
                    if self.inflate.ended {
                        self.part = Part::Trailer([0; 8], 0);
                    }
                    return Ok(Step { read: read + step.read, written: step.written });
                }
                Part::Trailer(bytes, have) => {
                    if *have < bytes.len() {
                        let Some(byte) = input.get(read) else { return Ok(Step { read, written: 0 }) };
                        read += 1;
                        bytes[*have] = *byte;
                        *have += 1;
                        continue;
                    }
                    let expected = [self.crc.sum().to_le_bytes(), self.crc.amount().to_le_bytes()].concat();
                    if bytes.as_slice() != expected {
                        return Err(ScrubError::Decode("its checksum is wrong".to_owned()));
                    }
                    self.part = Part::Between;
                }
            }
        }
    }

    fn complete(&self) -> bool {
        // The last byte of a trailer and the check of it are two turns of one step.
        matches!(self.part, Part::Between)
    }
}

impl Header {
    /// Takes one byte; true after the last one.
    fn take(&mut self, byte: u8) -> Result<bool, Broken> {
        self.read += 1;
        if self.read > MAX_HEADER {
            return Err(Broken);
        }
        self.field = match self.field {
            Field::Fixed => {
                self.fixed[self.read - 1] = byte;
                if self.read < self.fixed.len() {
                    return Ok(false);
                }
                let [0x1f, 0x8b, 8, flags, ..] = self.fixed else { return Err(Broken) };
                if flags & RESERVED != 0 {
                    return Err(Broken);
                }
                self.after(0)
            }
            Field::ExtraLength(None) => Field::ExtraLength(Some(byte)),
            Field::ExtraLength(Some(low)) => match u16::from_le_bytes([low, byte]) {
                0 => self.after(EXTRA),
                length => Field::Extra(length),
            },
            Field::Extra(1) => self.after(EXTRA),
            Field::Extra(left) => Field::Extra(left - 1),
            Field::Name if byte == 0 => self.after(NAME),
            Field::Name => Field::Name,
            Field::Comment if byte == 0 => self.after(COMMENT),
            Field::Comment => Field::Comment,
            Field::Crc(0) => Field::Crc(1),
            Field::Crc(_) | Field::Done => Field::Done,
        };
        Ok(matches!(self.field, Field::Done))
    }

    /// The next field that the flags announce, in the order of the standard.
    fn after(&self, field: u8) -> Field {
        let flags = self.fixed[3];
        let rest: &[u8] = match field {
            0 => &[EXTRA, NAME, COMMENT, HEADER_CRC],
            EXTRA => &[NAME, COMMENT, HEADER_CRC],
            NAME => &[COMMENT, HEADER_CRC],
            _ => &[HEADER_CRC],
        };
        match rest.iter().find(|flag| flags & **flag != 0) {
            Some(&EXTRA) => Field::ExtraLength(None),
            Some(&NAME) => Field::Name,
            Some(&COMMENT) => Field::Comment,
            Some(_) => Field::Crc(0),
            None => Field::Done,
        }
    }
}
