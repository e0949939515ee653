//! Both ends of a soak's load: `traffic upstream …` serves and misbehaves, `traffic agent …` asks. Each writes its history.
//!
//! What is right and what is wrong they do not judge: `enforcer_tests::soak::check` does.
#![forbid(unsafe_code)]

mod agent;
mod body;
mod client;
mod frames;
mod kinds;
mod upstream;

use std::sync::Arc;

use anyhow::{Result, bail};
use rustls::crypto::CryptoProvider;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["upstream", pki, dir] => runtime.block_on(upstream::serve(pki.as_ref(), dir.as_ref())),
        ["agent", name, dir, at] => {
            let done = runtime.block_on(agent::work(name, dir.as_ref(), at));
            // A look-up that still waits for a name server is not waited for.
            runtime.shutdown_background();
            done
        }
        _ => bail!("usage: traffic upstream PKI DIR | agent NAME DIR ADDRESS|-"),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
