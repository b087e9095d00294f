//! Archives written by other programs, and our trees judged by them.

use std::process::Command;

use crate::image::Image;

const SCRIPT: &str = r#"
set -e
cd "$1"
mkdir -p d/sub closed "$(printf 'x%.0s' $(seq 150))/$(printf 'y%.0s' $(seq 120))"
echo one > d/one; echo two > d/sub/two; : > empty
ln d/one hard; ln -s d/one soft; ln -s "$(printf 't%.0s' $(seq 180))" long
mkfifo pipe; mknod null c 1 3
head -c 3000000 /dev/urandom > big
chmod 4711 d/one; chmod 2755 d/sub; chown 1000:1001 d/sub/two; chmod 000 closed
touch -d '2001-02-03 04:05:06.789' d/sub/two; touch -d '1999-01-01' d
setfattr -n user.k -v v d 2>/dev/null || true
"#;

#[test]
fn gnu_tar_finds_no_difference_between_its_archive_and_our_tree() {
    let source = tempfile::tempdir().unwrap();
    let made = Command::new("sh").args(["-c", SCRIPT, "sh"]).arg(source.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for format in ["gnu", "posix", "oldgnu", "pax"] {
        for compression in ["--no-auto-compress", "--gzip", "--zstd"] {
            let archive = tempfile::NamedTempFile::new().unwrap();
            let written = Command::new("tar")
                .args([compression, "--numeric-owner", "--sparse", &format!("--format={format}"), "-cf"])
                .arg(archive.path())
                .arg("-C")
                .arg(source.path())
                .arg(".")
                .output()
                .unwrap();
            assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
            let mut image = Image::new();
            let info = image.add(&std::fs::read(archive.path()).unwrap()).unwrap();
            assert!(!info.depends_on_lower());
            image.store.publish(&image.stack).unwrap();
            let compared = Command::new("tar")
                .args([compression, "--numeric-owner", "-df"])
                .arg(archive.path())
                .arg("-C")
                .arg(image.store.lower_path(&info.layer_id).unwrap())
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&compared.stdout);
            assert!(compared.status.success() && text.is_empty(), "{format} {compression}: {text}");
        }
    }
}
