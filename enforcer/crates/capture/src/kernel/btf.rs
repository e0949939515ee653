//! The kernel's own description of its types (Documentation/bpf/btf.rst), as far as [`super::unix_view`] needs it: the ids
//! of functions that programs may call, and where members of structures lie.
use std::io;

/// A description as the kernel publishes it, with the place of each type in it.
pub(super) struct Types {
    bytes: Vec<u8>,
    strings: usize,
    /// Place of each type; ids start at 1.
    at: Vec<usize>,
}

/// `enum` of the kinds in uapi/linux/btf.h.
const STRUCT: u32 = 4;
const FUNC: u32 = 12;
/// Of `struct btf_type`.
const HEAD: usize = 12;

impl Types {
    /// Those of the running kernel. Needs CONFIG_DEBUG_INFO_BTF.
    pub(super) fn of_this_kernel() -> io::Result<Self> {
        Types::parse(std::fs::read("/sys/kernel/btf/vmlinux")?)
    }

    fn parse(bytes: Vec<u8>) -> io::Result<Self> {
        let word = |at| read(&bytes, at);
        // struct btf_header: magic, version, flags, length of the header; then offsets and lengths behind it.
        if word(0)? & 0xffff != 0xeb9f {
            return Err(damaged("its magic"));
        }
        let header = word(4)? as usize;
        let (types, length) = (header + word(8)? as usize, word(12)? as usize);
        let strings = header + word(16)? as usize;
        let (mut at, mut next) = (Vec::new(), types);
        while next < types + length {
            at.push(next);
            let info = word(next + 4)?;
            let members = (info & 0xffff) as usize;
            next += HEAD
                + match info >> 24 & 0x1f {
                    // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
                    2 | 7..=12 | 16 | 18 => 0,
                    // INT, VAR, DECL_TAG
                    1 | 14 | 17 => 4,
                    // ARRAY
                    3 => 12,
                    // STRUCT, UNION, DATASEC, ENUM64
                    STRUCT | 5 | 15 | 19 => 12 * members,
                    // ENUM, FUNC_PROTO
                    6 | 13 => 8 * members,
                    // One of a newer kernel's: where the next one begins is not known.
                    _ => return Err(damaged("a kind of type")),
                };
        }
        Ok(Types { bytes, strings, at })
    }

    /// The id of a function.
    pub(super) fn function(&self, name: &str) -> io::Result<u32> {
        let place = self.at.iter().position(|at| self.is(*at, FUNC, name));
        place
            .and_then(|place| u32::try_from(place + 1).ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, format!("no function `{name}`")))
    }

    /// Offset of a direct member, in bytes.
    pub(super) fn member(&self, of: &str, name: &str) -> io::Result<i32> {
        self.at
            .iter()
            .filter(|at| self.is(**at, STRUCT, of))
            .find_map(|at| self.member_of(*at, name))
            .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, format!("no member `{of}.{name}`")))
    }

    fn member_of(&self, at: usize, name: &str) -> Option<i32> {
        let info = self.word(at + 4)?;
        // With the flag the upper byte is the width of a bit field.
        let mask = if info >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        let members = (0..(info & 0xffff) as usize).map(|number| at + HEAD + 12 * number);
        let bits = members.filter(|member| self.named(*member, name)).find_map(|m| self.word(m + 8))? & mask;
        i32::try_from(bits / 8).ok()
    }

    fn is(&self, at: usize, kind: u32, name: &str) -> bool {
        self.word(at + 4).is_some_and(|info| info >> 24 & 0x1f == kind) && self.named(at, name)
    }

    /// Both types and members begin with the place of their name.
    fn named(&self, at: usize, name: &str) -> bool {
        let found = self.word(at).and_then(|name| self.bytes.get(self.strings + name as usize..));
        found.and_then(|text| text.strip_prefix(name.as_bytes())).is_some_and(|rest| rest.first() == Some(&0))
    }

    fn word(&self, at: usize) -> Option<u32> {
        read(&self.bytes, at).ok()
    }
}

fn read(bytes: &[u8], at: usize) -> io::Result<u32> {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map(u32::from_ne_bytes).ok_or_else(|| damaged("its length"))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the kernel's type description is not understood: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_is_read() {
        let types = Types::of_this_kernel().unwrap();
        // The first member of a list is its first word, of a pointer's size.
        assert_eq!(
            (types.member("list_head", "next").unwrap(), types.member("list_head", "prev").unwrap()),
            (0, 8)
        );
        assert!(types.member("list_head", "nex").is_err() && types.member("list_hea", "next").is_err());
        assert!(types.function("schedule").unwrap() > 0);
        assert!(types.function("no_such_function").is_err());
    }

    #[test]
    fn what_is_cut_short_or_something_else_is_refused() {
        let whole = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        for length in [0, 3, 20, 24, whole.len() / 3] {
            assert!(Types::parse(whole[..length].to_vec()).is_err(), "{length}");
        }
        assert!(Types::parse(vec![0; 64]).is_err());
    }
}
