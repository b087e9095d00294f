//! What the kernel shows of an image is what its tree says.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use erofs::{Attributes, Chunk, ChunkMap, FileData, New, Special, XattrSet, DEFAULT_BLOCK_BITS};

use crate::support::{attributes, tree, write, write_with};

#[test]
fn an_empty_root_is_a_directory() {
    let mut tree = tree();
    let written = write(&mut tree, b"");
    let mounted = written.mount();
    assert_eq!((mounted.names(""), mounted.lstat("").mode() & 0o7777), (Vec::new(), 0o755));
    assert_eq!((mounted.lstat("").nlink(), written.summary.inode_count), (2, 1));
}

#[test]
fn files_lie_in_the_device_from_any_block_on() {
    let data: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let mut tree = tree();
    let root = tree.root();
    let files =
        [("a", 0, 1), ("b", 1, 512), ("c", 3, 513), ("d", 5, 4096), ("e", 7, 100_000), ("f", 300, 46_000)];
    for (name, block, size) in files {
        tree.add(root, name.as_bytes(), New::File(size, FileData::Device(block)), attributes(0o644)).unwrap();
    }
    tree.add(root, b"empty", New::File(0, FileData::Hole), attributes(0o600)).unwrap();
    tree.add(root, b"zeros", New::File(10_000_000, FileData::Hole), attributes(0o600)).unwrap();
    let written = write(&mut tree, &data);
    let mounted = written.mount();
    for (name, block, size) in files {
        let start = block as usize * 512;
        assert!(std::fs::read(mounted.path(name)).unwrap() == data[start..start + size as usize], "{name}");
    }
    assert_eq!(std::fs::read(mounted.path("empty")).unwrap(), b"");
    assert!(std::fs::read(mounted.path("zeros")).unwrap() == vec![0; 10_000_000]);
}

#[test]
fn attributes_are_whole() {
    let mut tree = tree();
    let root = tree.root();
    let pairs =
        [(&b"user.a"[..], &b"1"[..]), (b"trusted.b", b""), (b"security.c", &[0, 255]), (b"user.empty", b"")];
    let xattrs = tree.xattrs(XattrSet::default(), pairs).unwrap();
    let full = Attributes {
        mode: 0o6751,
        uid: 3_000_000,
        gid: 4_000_000_000,
        mtime_seconds: -2,
        mtime_nanos: 500_000_000,
        xattrs,
    };
    tree.add(root, b"f", New::File(0, FileData::Hole), full).unwrap();
    tree.add(root, b"d", New::Directory, Attributes { mode: 0o1777, mtime_seconds: 1 << 40, ..full })
        .unwrap();
    tree.add(root, b"l", New::Symlink(b"../to"), full).unwrap();
    let written = write(&mut tree, b"");
    let mounted = written.mount();
    let f = mounted.lstat("f");
    assert_eq!((f.mode() & 0o7777, f.uid(), f.gid()), (0o6751, 3_000_000, 4_000_000_000));
    assert_eq!((f.mtime(), f.mtime_nsec()), (-2, 500_000_000));
    assert_eq!((mounted.lstat("d").mode() & 0o7777, mounted.lstat("d").mtime()), (0o1777, 1 << 40));
    assert_eq!(std::fs::read_link(mounted.path("l")).unwrap().to_str(), Some("../to"));
    for path in ["f", "d", "l"] {
        // xattr(7): a link has no attributes of users.
        for (name, value) in pairs.iter().filter(|(name, _)| path != "l" || !name.starts_with(b"user.")) {
            let mut found = [0_u8; 64];
            let name = std::str::from_utf8(name).unwrap();
            let len = rustix::fs::lgetxattr(mounted.path(path), name, &mut found).unwrap();
            assert_eq!(&found[..len], *value, "{path} {name}");
        }
    }
}

#[test]
fn large_extended_attributes_are_whole() {
    let mut tree = tree();
    let root = tree.root();
    let values: Vec<(String, Vec<u8>)> =
        (0..4).map(|n| (format!("user.{n}"), vec![b'a' + n; 16_000])).collect();
    let pairs = values.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
    let xattrs = tree.xattrs(XattrSet::default(), pairs).unwrap();
    tree.add(root, b"d", New::Directory, Attributes { xattrs, ..attributes(0o755) }).unwrap();
    tree.add(root, b"f", New::File(3, FileData::Device(0)), Attributes { xattrs, ..attributes(0o755) })
        .unwrap();
    let written = write(&mut tree, b"abc");
    let mounted = written.mount();
    for path in ["d", "f"] {
        for (name, value) in &values {
            let mut found = vec![0_u8; 20_000];
            let len = rustix::fs::lgetxattr(mounted.path(path), name.as_str(), &mut found).unwrap();
            assert!(found[..len] == *value, "{path} {name}");
        }
    }
    assert_eq!(std::fs::read(mounted.path("f")).unwrap(), b"abc");
}

#[test]
fn links_devices_and_pipes_are_what_they_are() {
    let mut tree = tree();
    let root = tree.root();
    let add = |tree: &mut erofs::Tree, name: &str, special| {
        tree.add(root, name.as_bytes(), New::Special(special), attributes(0o640)).unwrap()
    };
    add(&mut tree, "c", Special::CharDevice(1, 3));
    add(&mut tree, "b", Special::BlockDevice(4095, 1_048_575));
    add(&mut tree, "whiteout", Special::CharDevice(0, 0));
    let pipe = add(&mut tree, "p", Special::Fifo);
    let d = tree.add(root, b"d", New::Directory, attributes(0o755)).unwrap();
    tree.link(d, b"also", pipe).unwrap();
    let written = write(&mut tree, b"");
    let mounted = written.mount();
    assert!(
        mounted.lstat("c").file_type().is_char_device() && mounted.lstat("b").file_type().is_block_device()
    );
    assert_eq!(mounted.lstat("c").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(mounted.lstat("b").rdev(), rustix::fs::makedev(4095, 1_048_575));
    assert_eq!(mounted.lstat("whiteout").rdev(), 0);
    let (p, also) = (mounted.lstat("p"), mounted.lstat("d/also"));
    assert!(p.file_type().is_fifo());
    assert_eq!((p.ino(), p.nlink()), (also.ino(), 2));
    assert_eq!((mounted.lstat("").nlink(), mounted.lstat("d").nlink()), (3, 2));
}

#[test]
fn long_texts_of_links_are_whole() {
    let mut tree = tree();
    let root = tree.root();
    let lens: Vec<usize> = (1..=600).chain([1023, 1024, 1025, 4094, 4095]).collect();
    for len in &lens {
        let target = vec![b'a' + (*len % 26) as u8; *len];
        tree.add(root, format!("l{len}").as_bytes(), New::Symlink(&target), attributes(0o777)).unwrap();
    }
    let written = write(&mut tree, b"");
    let mounted = written.mount();
    for len in lens {
        let target = std::fs::read_link(mounted.path(&format!("l{len}"))).unwrap();
        assert_eq!(target.to_str().unwrap(), String::from_utf8(vec![b'a' + (len % 26) as u8; len]).unwrap());
    }
}

#[test]
fn directories_of_any_size_are_listed_and_searched() {
    // The last is more than is sorted at once.
    for count in [1, 20, 40, 5_000, 70_000] {
        let mut tree = tree();
        let root = tree.root();
        let mut names: Vec<String> = (0..count).map(|n| format!("name-{n}")).collect();
        // Before, between and behind the directory's own names, and as long as can be.
        names.extend(
            ["!", "-", ".", "..", ".0", "...", "/"]
                .iter()
                .filter(|n| ![".", "..", "/"].contains(n))
                .map(|n| (*n).to_owned()),
        );
        names.extend((0..9).map(|n| format!("{n}{}", "x".repeat(254))));
        names.extend((200..=244).map(|len| "y".repeat(len)));
        for name in &names {
            tree.add(root, name.as_bytes(), New::Special(Special::Fifo), attributes(0o600)).unwrap();
        }
        let written = write(&mut tree, b"");
        let mounted = written.mount();
        names.sort();
        assert_eq!(mounted.names(""), names, "{count}");
        for name in &names {
            assert!(mounted.lstat(name).file_type().is_fifo(), "{name}");
        }
        for absent in ["", "name", "name-", "name-x", "zzz", "\u{1}"] {
            assert!(
                absent.is_empty() || std::fs::symlink_metadata(mounted.path(absent)).is_err(),
                "{absent}"
            );
        }
    }
}

#[test]
fn chunks_come_from_the_device_the_image_and_nowhere() {
    let data: Vec<u8> = (0..8192_u32).map(|n| (n % 253) as u8).collect();
    let mut tree = tree();
    let written = write_with(&mut tree, &data, DEFAULT_BLOCK_BITS, |tree, writer| {
        let own = writer.append_blocks(b"within", 1024).unwrap();
        let whole = writer.append_blocks(&[b'w'; 700], 700).unwrap();
        let chunks = vec![Chunk::Device(4), Chunk::Hole, Chunk::Image(own), Chunk::Device(1)];
        let map = ChunkMap { bits: 1, chunks };
        let root = tree.root();
        tree.add(root, b"f", New::File(3500, FileData::Chunks(map)), attributes(0o644)).unwrap();
        tree.add(root, b"w", New::File(700, FileData::Image(whole)), attributes(0o644)).unwrap();
    });
    let mounted = written.mount();
    let mut expected = data[2048..3072].to_vec();
    expected.resize(2048, 0);
    expected.extend_from_slice(b"within");
    expected.resize(3072, 0);
    expected.extend_from_slice(&data[512..940]);
    assert!(std::fs::read(mounted.path("f")).unwrap() == expected);
    assert_eq!(std::fs::read(mounted.path("w")).unwrap(), [b'w'; 700]);
}

#[test]
fn deep_trees_are_walked_down_and_up() {
    let mut tree = tree();
    let mut directory = tree.root();
    for _ in 0..200 {
        directory = tree.add(directory, b"d", New::Directory, attributes(0o755)).unwrap();
    }
    tree.add(directory, b"f", New::File(0, FileData::Hole), attributes(0o644)).unwrap();
    let written = write(&mut tree, b"");
    let mounted = written.mount();
    let deep = "d/".repeat(200);
    assert!(mounted.lstat(&format!("{deep}f")).is_file());
    assert_eq!(mounted.lstat(&format!("{deep}..")).ino(), mounted.lstat(&"d/".repeat(199)).ino());
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    let image = || {
        let mut tree = tree();
        let root = tree.root();
        let pair = |name: &'static str| (name.as_bytes(), &b"v"[..]);
        for n in 0..500 {
            let xattrs = tree.xattrs(XattrSet::default(), [pair("user.a")]).unwrap();
            let attributes = Attributes { xattrs, ..attributes(0o644) };
            tree.add(root, format!("f{n}").as_bytes(), New::File(1, FileData::Device(n)), attributes)
                .unwrap();
        }
        std::fs::read(write(&mut tree, &[0; 512 * 500]).image.path()).unwrap()
    };
    assert!(image() == image());
}
