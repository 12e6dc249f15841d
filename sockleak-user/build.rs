//! Compresses the BPF object that is embedded: the committed one for this architecture, or the file that
//! `SOCKLEAK_BPF_OBJ` points to. Neither a BPF linker nor rust-src is needed here.

use std::{env, fs, io::Read as _, path::PathBuf};

use flate2::{Compression, read::ZlibEncoder};

fn main() {
    println!("cargo::rerun-if-env-changed=SOCKLEAK_BPF_OBJ");
    let object = match env::var_os("SOCKLEAK_BPF_OBJ") {
        Some(path) => PathBuf::from(path),
        None => {
            let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
            let root = env::var_os("CARGO_MANIFEST_DIR")
                .map(PathBuf::from)
                .unwrap_or_default();
            root.join("bpf").join(format!("sockleak-{arch}.bpf.o"))
        }
    };
    assert!(
        object.is_file(),
        "no BPF object at {}: sockleak supports x86_64 and aarch64; build one with \
         `cargo xtask build-bpf` or point SOCKLEAK_BPF_OBJ at one",
        object.display()
    );
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = fs::read(&object).expect("an object that can be read");
    let mut compressed = Vec::new();
    ZlibEncoder::new(&*bytes, Compression::best())
        .read_to_end(&mut compressed)
        .expect("there is memory");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where"));
    fs::write(out.join("object.zlib"), compressed).expect("a directory to write to");
    println!("cargo::rustc-env=SOCKLEAK_BPF_OBJECT_BYTES={}", bytes.len());
}
