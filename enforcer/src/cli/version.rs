//! `version`: which program this is, to the byte.

use std::io::Read;
use std::process::ExitCode;

use super::{Context, Ended, Output};
use crate::text::hex;

pub(super) fn version(context: &Context, out: &mut Output) -> Ended {
    let version = env!("CARGO_PKG_VERSION");
    let digest = own_digest();
    if context.json {
        out.json(&serde_json::json!({ "version": version, "sha256": digest.as_deref().ok() }), true)?;
    } else {
        out.line(format!("enforcer {version}"))?;
        match digest {
            Ok(digest) => out.line(format!("sha256 {digest}"))?,
            Err(error) => out.line(format!("sha256 unknown: {error}"))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn own_digest() -> std::io::Result<String> {
    let mut file = std::fs::File::open("/proc/self/exe")?;
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        digest.update(buffer.get(..length).unwrap_or_default());
    }
    Ok(hex(digest.finish().as_ref()))
}
