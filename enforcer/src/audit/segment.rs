//! Segment files: `00000001.log`, `00000002.log`, …, and the lines in them.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// A new segment is begun when the next batch would pass this size.
pub(super) const MAX_SEGMENT: u64 = 64 * 1024 * 1024;
/// Longer than any entry: the largest are heads that list every open intent.
pub(super) const MAX_LINE: usize = 16 * 1024 * 1024;

pub(super) fn name(number: u32) -> String {
    format!("{number:08}.log")
}

pub(super) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(name(number))
}

/// The numbers of all segments, in order. Other files in the folder are not ours to judge.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for file in fs::read_dir(dir)? {
        let file = file?.file_name();
        let number = file.to_str().and_then(|f| f.strip_suffix(".log")).filter(|stem| stem.len() == 8);
        numbers.extend(number.and_then(|stem| stem.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Lines of one segment with their places, from `offset` to at most `end`.
pub(super) struct Lines {
    reader: io::Take<BufReader<File>>,
    /// of the line read last, from 1; counted from where reading began
    pub(super) line: u64,
    /// where the line read last begins
    pub(super) at: u64,
    /// where it ends: where the next one begins
    pub(super) end: u64,
    buffer: Vec<u8>,
}

pub(super) enum Line<'a> {
    /// without its line feed
    Whole(&'a [u8]),
    /// The file ends without a line feed, after this many bytes.
    Torn(u64),
    TooLong,
    End,
}

impl Lines {
    pub(super) fn open(path: &Path, offset: u64, end: Option<u64>) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let len = end.unwrap_or(u64::MAX).saturating_sub(offset);
        let reader = BufReader::with_capacity(256 * 1024, file).take(len);
        Ok(Lines { reader, line: 0, at: offset, end: offset, buffer: Vec::new() })
    }

    pub(super) fn next(&mut self) -> io::Result<Line<'_>> {
        self.buffer.clear();
        let read = self.reader.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(Line::End);
        }
        self.line += 1;
        self.at = self.end;
        self.end += read as u64;
        Ok(match self.buffer.strip_suffix(b"\n") {
            Some(line) => Line::Whole(line),
            None if read > MAX_LINE => Line::TooLong,
            None => Line::Torn(read as u64),
        })
    }
}
