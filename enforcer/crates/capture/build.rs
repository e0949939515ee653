//! Embeds the eBPF object that `cargo xtask bpf` builds. Without one the crate still builds, and `Kernel::start` says what is missing.
use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(bpf_object)");
    // Asked when it runs: checkouts that share a target directory share this program.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
    let root = Path::new(&here).join("../../..");
    let folder = root.join("target/bpf");
    let object = folder.join("enforcer.bpf.o");
    println!("cargo::rerun-if-changed=build.rs");
    // The folder: an object that comes back from a cache may be older than the build without one.
    println!("cargo::rerun-if-changed={}", folder.display());
    if object.is_file() {
        println!("cargo::rustc-cfg=bpf_object");
        println!("cargo::rustc-env=ENFORCER_BPF_OBJECT={}", object.display());
    } else {
        println!("cargo::warning=the eBPF object is not built in: run `cargo xtask bpf`, then build again");
    }
}
