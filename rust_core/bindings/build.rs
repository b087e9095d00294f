//! Builds the static supervisor program beside the extension, so that one wheel carries both in one version.
//!
//! `FLUYT_SUPERVISOR_PREBUILT` names a program to take instead; lints use it, since they need no second build.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates whose change makes a new supervisor.
const SOURCES: [&str; 8] = ["supervisor", "control", "process", "mount", "cgroup", "logs", "sys", "errors"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // Asked when it runs: this program may have been compiled in another checkout that shares the target directory.
    let manifest_dir =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let crates = manifest_dir.parent().expect("bindings lies below rust_core").to_owned();
    for name in SOURCES {
        // Relative, so that a build of another checkout in the same target directory does not hide a change of ours.
        println!("cargo:rerun-if-changed=../{name}");
    }
    println!("cargo:rerun-if-env-changed=FLUYT_SUPERVISOR_PREBUILT");
    println!("cargo:rustc-env=FLUYT_PROFILE={}", env::var("PROFILE").expect("cargo sets PROFILE"));

    let program = match env::var_os("FLUYT_SUPERVISOR_PREBUILT") {
        Some(path) => PathBuf::from(path),
        None => build(&crates.join("supervisor/Cargo.toml"), &out.join("supervisor-target")),
    };
    std::fs::copy(&program, out.join("fluyt-supervisor"))
        .unwrap_or_else(|error| panic!("copy {}: {error}", program.display()));
}

/// Runs cargo for the supervisor: static, not position independent (fewer private pages), in a target directory
/// of its own (cargo holds a lock on ours while this runs).
fn build(manifest: &Path, target_dir: &Path) -> PathBuf {
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let status = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"))
        .args(["build", "--profile", "supervisor", "--locked", "--target", &target])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(target_dir)
        .args(env::var_os("CARGO_FEATURE_WEAKENED").map(|_| "--features=weakened"))
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\u{1f}-Crelocation-model=static")
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the supervisor did not build");
    target_dir.join(target).join("supervisor/fluyt-supervisor")
}
