//! The one type plaintext lives in.
//!
//! Nothing here prints, compares, copies or serialises a value:
//!
//! ```compile_fail,E0277
//! fn needs<T: std::fmt::Debug>() {}
//! needs::<enforcer_vault::Secret>();
//! ```
//! ```compile_fail,E0277
//! fn needs<T: std::fmt::Display>() {}
//! needs::<enforcer_vault::Secret>();
//! ```
//! ```compile_fail,E0277
//! fn needs<T: Clone>() {}
//! needs::<enforcer_vault::Secret>();
//! ```
//! ```compile_fail,E0277
//! fn needs<T: PartialEq>() {}
//! needs::<enforcer_vault::Secret>();
//! ```
//! ```compile_fail,E0277
//! fn needs<T: serde::Serialize>() {}
//! needs::<enforcer_vault::Secret>();
//! ```

use zeroize::Zeroizing;

/// Shorter values cannot be cut out of responses without cutting out innocent text too, and an
/// agent could guess them against an echo.
const MIN: usize = 8;
/// From here on whole-value scrubbing is safe without a remark.
const COMFORTABLE: usize = 12;
/// More than any header a server takes.
const MAX: usize = 64 * 1024;

/// A secret value in memory: zeroed on drop, never Debug, Clone, PartialEq, Display or Serialize.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes. Refused: under 8 bytes, over 64 KiB, and what would break a header or be
    /// trimmed in one (control characters, non-ASCII, a space at either end).
    pub fn new(bytes: Vec<u8>) -> Result<Self, SecretError> {
        // Wrapped first: a refused value is zeroed as well.
        let bytes = Zeroizing::new(bytes);
        if bytes.is_empty() {
            return Err(SecretError("the value is empty"));
        }
        if bytes.iter().any(|b| matches!(b, b'\r' | b'\n')) {
            return Err(SecretError(
                "the value holds a line break, which would split a header; copy it without the line end",
            ));
        }
        if bytes.iter().any(|b| b.is_ascii_control()) {
            return Err(SecretError("the value holds a control character, which no header can carry"));
        }
        if !bytes.is_ascii() {
            return Err(SecretError(
                "the value holds a character outside ASCII, which headers do not carry reliably",
            ));
        }
        if bytes.first() == Some(&b' ') || bytes.last() == Some(&b' ') {
            return Err(SecretError(
                "the value starts or ends with a space, which servers trim; copy it without the space",
            ));
        }
        if bytes.len() < MIN {
            return Err(SecretError(
                "the value is shorter than 8 characters: it could be guessed, and not be cut out of responses safely; use a longer one",
            ));
        }
        if bytes.len() > MAX {
            return Err(SecretError("the value is longer than 64 KiB"));
        }
        Ok(Secret(bytes))
    }

    /// A remark for the person storing it, where the value is weak but not refused.
    pub fn note(&self) -> Option<&'static str> {
        let mut seen = [false; 128];
        for byte in self.0.iter() {
            seen[usize::from(byte & 0x7f)] = true;
        }
        if self.0.len() < COMFORTABLE {
            Some(
                "the value is shorter than 12 characters: an agent could guess it, and innocent text may be masked in responses",
            )
        } else if seen.iter().filter(|s| **s).count() < 4 {
            Some(
                "the value is made of fewer than 4 different characters: innocent text may be masked in responses",
            )
        } else {
            None
        }
    }

    /// Only for `credential/` and `redact/`.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// What was sealed was checked when it was stored.
    pub(crate) fn from_sealed(bytes: Zeroizing<Vec<u8>>) -> Self {
        Secret(bytes)
    }
}

/// Why a value was refused. Never quotes it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SecretError(pub &'static str);
