//! What can go wrong with the vault, in words that say what to do next.

/// Errors never carry a value, a key or ciphertext.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is no such secret.
    #[error("no secret is called `{0}`")]
    NotFound(String),
    /// The secret exists, but not for that endpoint.
    #[error("secret `{secret}` may not be sent to {endpoint}; it is bound to {allowed}")]
    NotBound { secret: String, endpoint: String, allowed: String },
    /// The caller asked for something the vault does not do: a bad name, host or value.
    #[error("{0}")]
    Invalid(String),
    /// What is stored is not what this vault wrote: a flipped byte, a swapped row, an edited binding.
    #[error("{0}")]
    Changed(String),
    /// The key or the file cannot be used as it is.
    #[error("{0}")]
    Other(String),
}

impl VaultError {
    /// For failures of SQLite and the file system under the vault.
    pub(crate) fn storage(doing: &str, cause: impl std::fmt::Display) -> Self {
        VaultError::Other(format!("cannot {doing}: {cause}"))
    }
}
