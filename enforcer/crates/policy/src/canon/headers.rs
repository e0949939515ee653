//! The header fields of a request, as they are sent on.

use std::fmt;

/// Header fields in the order they came. Cheap to make: two buffers, whatever the number of fields.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    text: Vec<u8>,
    fields: Vec<Field>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Field {
    name_end: usize,
    value_end: usize,
}

impl Headers {
    /// `name` in lower case, as HTTP libraries keep it.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.text.extend_from_slice(name.as_bytes());
        let name_end = self.text.len();
        self.text.extend_from_slice(value);
        self.fields.push(Field { name_end, value_end: self.text.len() });
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut start = 0;
        self.fields.iter().filter_map(move |field| {
            let name = self.text.get(start..field.name_end)?;
            let value = self.text.get(field.name_end..field.value_end)?;
            start = field.value_end;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }

    /// The values of every field that some server reads under this name: many read `_` and `.` as `-`.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(own, _)| same(own, name)).map(|(_, value)| value)
    }
}

fn same(own: &str, name: &str) -> bool {
    let fold = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte.to_ascii_lowercase() };
    own.len() == name.len() && own.bytes().map(fold).eq(name.bytes().map(fold))
}

/// Names alone: values may be anybody's cookies.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}
