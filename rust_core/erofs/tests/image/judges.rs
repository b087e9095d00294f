//! Debian's erofs-utils find no fault with an image and tell the same of it.
//!
//! Versions before 1.7 know blocks of 4096 bytes only, so the same tree is judged with those, its data in the image; on
//! a host with a newer one it is judged with blocks of 512 bytes and a device too.

use std::process::{Command, Output};

use erofs::{Attributes, FileData, New, Special, Tree, XattrSet};

use crate::support::{attributes, tree, write_with, Written};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn knows_small_blocks() -> bool {
    // "dump.erofs 1.5", "dump.erofs (erofs-utils) 1.8.6".
    let version = text(&run("dump.erofs", &["-V"]));
    let number = version.split_whitespace().find(|word| word.starts_with("1.")).unwrap_or("1.0").to_owned();
    let minor = number.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    minor.is_some_and(|minor| minor >= 7)
}

fn populate(tree: &mut Tree, data: impl Fn(u64) -> FileData) {
    let root = tree.root();
    let pairs = [(&b"user.k"[..], &b"value"[..]), (b"trusted.overlay.opaque", b"y")];
    let xattrs = tree.xattrs(XattrSet::default(), pairs).unwrap();
    let decorated = Attributes { xattrs, uid: 70_000, mtime_seconds: 1_234_567_890, ..attributes(0o755) };
    let many = tree.add(root, b"many", New::Directory, decorated).unwrap();
    for n in 0..2_000 {
        tree.add(many, format!("file-{n}").as_bytes(), New::File(n, data(n)), attributes(0o644)).unwrap();
    }
    let d = tree.add(root, b"d", New::Directory, decorated).unwrap();
    tree.add(d, b"l", New::Symlink(&[b't'; 4000]), decorated).unwrap();
    tree.add(d, b"s", New::Symlink(b"short"), decorated).unwrap();
    tree.add(d, b"whiteout", New::Special(Special::CharDevice(0, 0)), attributes(0)).unwrap();
    tree.add(d, b"p", New::Special(Special::Fifo), decorated).unwrap();
    let f = tree.find(many, b"file-1999").unwrap().unwrap();
    tree.link(d, b"hard", f).unwrap();
    tree.add(d, &[b'n'; 255], New::File(5, data(5)), decorated).unwrap();
}

#[track_caller]
fn assert_sound(written: &Written, device: &[&str]) {
    let image = written.image.path().to_str().unwrap();
    let checked = run("fsck.erofs", &[device, &["--extract", image]].concat());
    assert!(checked.status.success(), "{}", text(&checked));
    let shown = text(&run("dump.erofs", &[device, &["-S", image]].concat()));
    let count = |label: &str| {
        let line =
            shown.lines().find(|line| line.contains(label)).unwrap_or_else(|| panic!("{label}: {shown}"));
        line.split_whitespace().last().unwrap().parse::<u64>().unwrap()
    };
    // It counts names, and one file has two.
    assert_eq!(count("total file count"), written.summary.inode_count + 1, "{shown}");
    assert_eq!(count("regular file count"), 2_002, "{shown}");
    assert_eq!(count("symlink file count"), 2, "{shown}");
}

#[test]
fn fsck_and_dump_find_no_fault() {
    let mut tree = tree();
    let written = write_with(&mut tree, b"", 12, |tree, writer| {
        let block = writer.append_blocks(&[b'x'; 2000], 2000).unwrap();
        populate(tree, |size| if size == 0 { FileData::Hole } else { FileData::Image(block) });
    });
    assert_eq!(written.summary.inode_count, 2_001 + 7);
    assert_sound(&written, &[]);
    // The judge is awake: it refuses the same image once an inode is damaged.
    let mut damaged = std::fs::read(written.image.path()).unwrap();
    let start = damaged.windows(9).position(|window| window == b"file-1000").unwrap();
    damaged[start..start + 6].copy_from_slice(b"file/\0");
    let start = start / 4096 * 4096;
    damaged[start..start + 8].fill(0xff);
    std::fs::write(written.image.path(), damaged).unwrap();
    let image = written.image.path().to_str().unwrap();
    assert!(!run("fsck.erofs", &["--extract", image]).status.success());
}

#[test]
fn fsck_and_dump_find_no_fault_with_a_device() {
    if !knows_small_blocks() {
        eprintln!("passed over: erofs-utils here know blocks of 4096 bytes only");
        return;
    }
    let mut tree = tree();
    populate(&mut tree, |size| FileData::Device(size as u32));
    let written = write_with(&mut tree, &[b'x'; 2_100 * 512], 9, |_, _| {});
    let device = format!("--device={}", written.device.path().display());
    assert_sound(&written, &[&device]);
}
