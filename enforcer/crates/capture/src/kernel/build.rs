//! What the programs in force were made from: a start that would make the very same ones leaves them where they are.
//!
//! Handing the programs to the verifier is most of a restart, once more for each attached cgroup. The pin holds a digest of all that
//! goes into them and the ids that the kernel gave them, which it gives to no others until the next boot. Whatever differs has everything
//! loaded and swapped in.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use ring::digest::{Context, SHA256};

use super::filesystems::Target;
use super::link::{HOOKS, UNIX_HOOKS};
use super::{KernelError, absent};
use crate::sys::bpf::{self, HashMap};

/// A map of one entry, among the pins of the programs.
const PIN: &str = "build";
const WORDS: usize = 8;
/// A place for the program of each hook, and of devices.
const PLACES: usize = 24;
const _: () = assert!(HOOKS.len() + UNIX_HOOKS.len() < PLACES);
/// The instructions that are no part of the object are made by these.
const MAKERS: [&str; 2] = [include_str!("unix_view.rs"), include_str!("btf.rs")];

/// All that goes into the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest([u32; WORDS]);

/// `host_netns`: what only the managed root's programs are told.
pub(super) fn digest(object: &[u8], target: &Target, host_netns: u64, maps: &[u32]) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(object);
    MAKERS.iter().for_each(|maker| context.update(maker.as_bytes()));
    let told = [target.id, target.agent_level.into(), target.attached, host_netns];
    told.iter().for_each(|number| context.update(&number.to_le_bytes()));
    maps.iter().for_each(|id| context.update(&id.to_le_bytes()));
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(context.finish().as_ref().chunks_exact(4)) {
        *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    Digest(words)
}

/// The ids of the programs that were made from this: of [`HOOKS`], [`UNIX_HOOKS`] and devices, 0 where the kernel has no such hook.
/// `None`: they were made from something else, or nobody knows.
pub(super) fn made_from(digest: Digest, pins: &Path) -> io::Result<Option<Vec<u32>>> {
    let Some(pinned) = absent(bpf::pinned(&pins.join(PIN)))? else { return Ok(None) };
    let known = HashMap::<u32, [u32; WORDS + PLACES]>::new(pinned)?.get(&0)?;
    let ids = known.and_then(|known| known.strip_prefix(&digest.0).map(<[u32]>::to_vec));
    Ok(ids)
}

/// From here on nothing is known, until [`write()`].
pub(super) fn forget(pins: &Path) -> Result<(), KernelError> {
    let pin = pins.join(PIN);
    absent(fs::remove_file(&pin)).map(drop).map_err(|error| KernelError::Pins { path: pin, error })
}

/// What is in force now.
pub(super) fn write(digest: Digest, programs: &[u32], pins: &Path) -> io::Result<()> {
    let mut known = [0; WORDS + PLACES];
    for (place, word) in known.iter_mut().zip(digest.0.iter().chain(programs)) {
        *place = *word;
    }
    let map = HashMap::<u32, [u32; WORDS + PLACES]>::new(bpf::one_entry(size_of_val(&known))?)?;
    map.insert(&0, &known)?;
    bpf::pin(map.fd().as_fd(), &pins.join(PIN))
}
