//! Finds the eBPF object that `cargo xtask build` made, for `include_bytes_aligned!` in the loader. It compiles nothing
//! itself: that takes another toolchain.

use std::env;
use std::path::{Path, PathBuf};

/// Names the object; stands before the place below the target folder where it is looked for otherwise.
const VARIABLE: &str = "SPANDREL_BPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let object = match env::var_os(VARIABLE) {
        Some(named) => PathBuf::from(named).canonicalize().ok(),
        None => below_target(),
    };
    match object {
        Some(object) => {
            println!("cargo::rerun-if-changed={}", object.display());
            println!("cargo::rustc-env=SPANDREL_BPF_OBJECT_PATH={}", object.display());
        }
        None if env::var_os(VARIABLE).is_some() => println!("cargo::error={VARIABLE} names no file"),
        None => println!("cargo::error=the eBPF programs to embed are not built yet: run `cargo xtask build`"),
    }
}

/// `<target folder>/bpf/spandrel.bpf.o`. Cargo does not name its target folder to build scripts, but OUT_DIR lies below.
fn below_target() -> Option<PathBuf> {
    let out = env::var_os("OUT_DIR")?;
    Path::new(&out).ancestors().map(|folder| folder.join("bpf/spandrel.bpf.o")).find(|object| object.is_file())
}
