//! Whether text is UTF-8, as it comes: a character may be cut in two anywhere.

/// Of one message.
#[derive(Debug, Default)]
pub struct Utf8 {
    /// The beginning of a character whose rest is to come.
    begun: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Is it, so far?
    pub fn look(&mut self, mut bytes: &[u8]) -> bool {
        while self.len > 0
            && let Some((first, rest)) = bytes.split_first()
        {
            let Some(next) = self.begun.get_mut(self.len) else { return false };
            *next = *first;
            self.len += 1;
            bytes = rest;
            match std::str::from_utf8(&self.begun[..self.len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return false,
            }
        }
        let Err(error) = std::str::from_utf8(bytes) else { return true };
        let begun = &bytes[error.valid_up_to()..];
        if error.error_len().is_some() {
            return false;
        }
        self.begun[..begun.len()].copy_from_slice(begun);
        self.len = begun.len();
        true
    }

    /// The message ends here. Does it with a whole character? Then another one may begin.
    pub fn end(&mut self) -> bool {
        std::mem::take(&mut self.len) == 0
    }
}
