//! Compiles `proto/` into client code, with a protobuf compiler written in Rust, so that no `protoc` is needed.

use std::path::{Path, PathBuf};

use prost::Message;

fn main() {
    // Asked when it runs: this program may have been compiled in another checkout that shares the target directory.
    let manifest_dir =
        PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let proto = manifest_dir.join("../../proto");
    println!("cargo:rerun-if-changed={}", proto.display());
    let mut files = Vec::new();
    collect(&proto, &mut files);
    files.sort();
    let descriptors =
        protox::compile(&files, [&proto]).unwrap_or_else(|error| panic!("compile proto/: {error:?}"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec()).expect("OUT_DIR is writable");
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names().btree_map(["."]);
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds_with_config(descriptors, config)
        .unwrap_or_else(|error| panic!("generate client code: {error}"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("read {}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a directory entry is readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
}
