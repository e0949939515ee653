//! The cells on disk: one slot of 64 bytes each, written as it is taken.
//!
//! A write goes to the kernel's cache before the request goes out, so a killed process has lost nothing;
//! after a power cut the last seconds may be missing. Opening writes the file anew with what is still
//! counting. Within one boot time is the kernel's own clock, which nobody sets; from one boot to the
//! next it is the wall clock, and a wall clock that went back refills nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const FILE: &str = "limits";
const SLOT: usize = 64;
const MAGIC: &[u8; 16] = b"enforcer-limits1";
/// Far more than `mod.rs` ever keeps.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// What a cell is found by: see `Counter`.
pub(super) type Id = [u8; 16];

/// One cell with the clocks it was written by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) id: Id,
    /// whose it is
    pub(super) agent: u64,
    /// on the clock of `now`
    pub(super) due: Duration,
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Now {
    /// since boot, also while the machine slept
    pub(super) boot: Duration,
    /// since 1970
    pub(super) wall: Duration,
}

impl Now {
    pub(super) fn read() -> Self {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let boot = Duration::new(boot.tv_sec.unsigned_abs(), boot.tv_nsec.unsigned_abs() as u32);
        Now { boot, wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    #[error("cannot keep {}: {error}", path.display())]
    File {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error(
        "{} is damaged, so it is not known what agents have used up; if it may start full again, remove the file",
        path.display()
    )]
    Damaged { path: PathBuf },
}

#[derive(Debug)]
pub(super) struct Slots {
    file: File,
}

impl Slots {
    /// What is still counting, and the file that holds just that, slot by slot in this order.
    pub(super) fn open(
        directory: &Path,
        boot: Option<&str>,
        now: Now,
    ) -> Result<(Slots, Vec<Slot>), LimitsError> {
        let path = directory.join(FILE);
        let failed = |error| LimitsError::File { path: path.clone(), error };
        let kept = match fs::metadata(&path) {
            Ok(metadata) if metadata.len() <= MAX_FILE => {
                let bytes = fs::read(&path).map_err(failed)?;
                read(&bytes, boot, now).ok_or_else(|| LimitsError::Damaged { path: path.clone() })?
            }
            Ok(_too_long) => return Err(LimitsError::Damaged { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let draft = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&draft).map_err(failed)?;
        let mut bytes = header(boot).to_vec();
        kept.iter().for_each(|slot| bytes.extend_from_slice(&write(slot, now)));
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&draft, &path).map_err(failed)?;
        Ok((Slots { file }, kept))
    }

    /// Slots that were never written lie between as holes, which read as empty.
    pub(super) fn write(&self, number: u32, slot: &Slot, now: Now) -> io::Result<()> {
        let at = SLOT as u64 * (u64::from(number) + 1);
        self.file.write_all_at(&write(slot, now), at)
    }
}

fn header(boot: Option<&str>) -> [u8; SLOT] {
    let mut header = [0; SLOT];
    header[..16].copy_from_slice(MAGIC);
    let boot = boot.unwrap_or_default().as_bytes();
    let length = boot.len().min(SLOT - 16);
    header[16..16 + length].copy_from_slice(&boot[..length]);
    header
}

fn write(slot: &Slot, now: Now) -> [u8; SLOT] {
    let mut bytes = [0; SLOT];
    bytes[..16].copy_from_slice(&slot.id);
    let numbers = [slot.agent, nanos(slot.due), nanos(now.boot), nanos(now.wall)];
    for (to, number) in bytes[16..48].chunks_exact_mut(8).zip(numbers) {
        to.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn read(bytes: &[u8], boot: Option<&str>, now: Now) -> Option<Vec<Slot>> {
    let (head, slots) = bytes.split_at_checked(SLOT)?;
    if !head.starts_with(MAGIC) || slots.len() % SLOT != 0 {
        return None;
    }
    let same_boot = boot.is_some() && head == header(boot);
    let mut kept = Vec::new();
    for bytes in slots.chunks_exact(SLOT) {
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
            Duration::from_nanos(u64::from_le_bytes(bytes))
        };
        let (due, at_boot, at_wall) = (number(24), number(32), number(40));
        let left = if same_boot {
            due.saturating_sub(now.boot)
        } else {
            due.saturating_sub(at_boot).saturating_sub(now.wall.saturating_sub(at_wall))
        };
        if !left.is_zero() {
            let id = bytes.get(..16)?.try_into().ok()?;
            let agent = nanos(number(16));
            kept.push(Slot { id, agent, due: now.boot + left });
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { boot: Duration::from_secs(5000), wall: Duration::from_secs(1_000_000) };

    fn slot(id: u8, due: u64) -> Slot {
        Slot { id: [id; 16], agent: u64::MAX - 3, due: Duration::from_secs(due) }
    }

    fn later(boot: u64, wall: u64) -> Now {
        Now { boot: Duration::from_secs(boot), wall: Duration::from_secs(wall) }
    }

    #[test]
    fn what_still_counts_is_found_again_and_what_is_full_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (slots, none) = Slots::open(folder.path(), Some("one"), NOW).unwrap();
        assert_eq!(none, []);
        slots.write(0, &slot(1, 5100), NOW).unwrap();
        slots.write(7, &slot(2, 5010), NOW).unwrap();
        let (_, kept) = Slots::open(folder.path(), Some("one"), later(5050, 1)).unwrap();
        assert_eq!(kept, [slot(1, 5100)], "the wall clock does not matter within one boot");
    }

    #[test]
    fn after_a_boot_the_wall_clock_tells_how_long_it_took() {
        for (wall, left) in
            [(1_000_000, Some(100)), (1_000_060, Some(40)), (1_000_100, None), (900_000, Some(100))]
        {
            let folder = tempfile::tempdir().unwrap();
            let (slots, _) = Slots::open(folder.path(), Some("one"), NOW).unwrap();
            slots.write(0, &slot(1, 5100), NOW).unwrap();
            let (_, kept) = Slots::open(folder.path(), Some("two"), later(10, wall)).unwrap();
            assert_eq!(kept.first().map(|slot| slot.due.as_secs()), left.map(|left| 10 + left), "{wall}");
        }
    }

    #[test]
    fn a_damaged_file_is_not_taken_for_full_limits() {
        let folder = tempfile::tempdir().unwrap();
        for bytes in [&b""[..], b"enforcer-limits1", &[0; 128], &[header(None).as_slice(), &[1; 63]].concat()]
        {
            fs::write(folder.path().join(FILE), bytes).unwrap();
            let opened = Slots::open(folder.path(), Some("one"), NOW);
            assert!(matches!(opened, Err(LimitsError::Damaged { .. })), "{bytes:?}");
        }
    }
}
