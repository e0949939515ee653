//! A Java key store of trusted certificates (the JKS format, which every JVM reads).

use std::io;

use ring::digest;

use super::certificate::Certificate;

/// The password of every public Java trust store; it protects nothing.
pub(super) const PASSWORD: &str = "changeit";

/// The store as bytes.
pub(super) fn key_store(certificates: &[Certificate]) -> io::Result<Vec<u8>> {
    const MAGIC: u32 = 0xfeed_feed;
    const VERSION: u32 = 2;
    const TRUSTED_CERTIFICATE: u32 = 2;
    let mut store = Vec::new();
    store.extend(MAGIC.to_be_bytes());
    store.extend(VERSION.to_be_bytes());
    store.extend(length(certificates.len())?.to_be_bytes());
    for (index, certificate) in certificates.iter().enumerate() {
        store.extend(TRUSTED_CERTIFICATE.to_be_bytes());
        text(&mut store, &format!("root-{index}"))?;
        // No date: the same roots make the same store.
        store.extend(0u64.to_be_bytes());
        text(&mut store, "X.509")?;
        store.extend(length(certificate.der.len())?.to_be_bytes());
        store.extend(&certificate.der);
    }
    let mut keyed = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    for unit in PASSWORD.encode_utf16() {
        keyed.update(&unit.to_be_bytes());
    }
    // The format's own salt.
    keyed.update(b"Mighty Aphrodite");
    keyed.update(&store);
    store.extend(keyed.finish().as_ref());
    Ok(store)
}

fn length(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(io::Error::other)
}

/// Java's `writeUTF`; our texts are ASCII, for which it is plain UTF-8.
fn text(store: &mut Vec<u8>, text: &str) -> io::Result<()> {
    store.extend(u16::try_from(text.len()).map_err(io::Error::other)?.to_be_bytes());
    store.extend(text.as_bytes());
    Ok(())
}
