//! A throw-away mount namespace in which everything but one fresh tmpfs is read-only, so that an extractor that leaves
//! its root finds canaries there and harms nothing.

use std::path::PathBuf;
use std::process::Command;

const VARIABLE: &str = "FLUYT_TEST_JAIL";

const SCRIPT: &str = r#"
set -e
mount -t tmpfs jail "$FLUYT_TEST_JAIL"
mkdir "$FLUYT_TEST_JAIL/canary" "$FLUYT_TEST_JAIL/tmp"
echo untouched > "$FLUYT_TEST_JAIL/canary/hostname"
for target in /sys /dev /; do mount -o remount,bind,ro "$target"; done
exec "$0" --exact "$1" --nocapture --test-threads 1
"#;

/// Runs `body` in a jail: the calling test starts itself again there. `body` gets the canary directory, whose content
/// is compared afterwards.
pub fn in_jail(test: &str, body: impl FnOnce(&str)) {
    if let Ok(jail) = std::env::var(VARIABLE) {
        let canary = PathBuf::from(jail).join("canary");
        body(canary.to_str().unwrap());
        assert_eq!(crate::image::names(&canary), ["hostname"], "the canary was touched");
        assert_eq!(std::fs::read_to_string(canary.join("hostname")).unwrap(), "untouched\n");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(VARIABLE, directory.path())
        .env("TMPDIR", directory.path().join("tmp"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "the jail's mount leaked");
}
