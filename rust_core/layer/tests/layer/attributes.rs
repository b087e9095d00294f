//! Owners, modes, times, extended attributes and special files come out as the archive has them.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use layer::{LayerError, Rule};

use crate::image::Image;
use crate::tar_writer::{tar, Item};

const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn x11_setuid_setgid_and_sticky_bits_survive_the_owner() {
    let items = [
        Item::file("s", "s").mode(0o4755).owner(1000, 1000),
        Item::file("g", "g").mode(0o2755).owner(0, 42),
        Item::dir("t").mode(0o1777),
        Item::dir("d").mode(0o2775).owner(0, 42),
        Item::file("d/in", "i"),
    ];
    let merged = Image::of(&[&items]).mount();
    assert_eq!((merged.mode("s"), merged.owner("s")), (0o4755, (1000, 1000)));
    assert_eq!((merged.mode("g"), merged.owner("g")), (0o2755, (0, 42)));
    assert_eq!(merged.mode("t"), 0o1777);
    assert_eq!((merged.mode("d"), merged.owner("d/in")), (0o2775, (0, 0)));
}

#[test]
fn x12_file_capabilities_survive_the_owner() {
    let item = Item::file("f", "f").mode(0o755).owner(5, 0).xattr("security.capability", CAPABILITY);
    let merged = Image::of(&[&[item]]).mount();
    let mut value = [0u8; 64];
    let len = rustix::fs::getxattr(merged.path("f"), "security.capability", &mut value).unwrap();
    assert_eq!((&value[..len], merged.owner("f")), (&CAPABILITY[..], (5, 0)));
}

#[test]
fn extended_attributes_of_any_type_of_file_are_kept_or_refused() {
    let items = [
        Item::dir("d").xattr("user.a", "1").xattr("trusted.b", [0, 255, b'\n', b'=']),
        Item::symlink("l", "d").xattr("trusted.c", "3").xattr("user.skipped", "x"),
        Item::device(b'6', "p", (0, 0)).xattr("trusted.d", "4"),
    ];
    let merged = Image::of(&[&items]).mount();
    let get = |path: &str, name: &str| {
        let mut value = [0u8; 64];
        rustix::fs::lgetxattr(merged.path(path), name, &mut value).map(|len| value[..len].to_vec())
    };
    assert_eq!(get("d", "user.a").unwrap(), b"1");
    assert_eq!(get("d", "trusted.b").unwrap(), [0, 255, b'\n', b'=']);
    assert_eq!(get("l", "trusted.c").unwrap(), b"3");
    assert_eq!(get("p", "trusted.d").unwrap(), b"4");
    assert!(get("l", "user.skipped").is_err());
    let error = Image::new().stage(&tar(&[Item::file("f", "").xattr("security.capability", "nonsense")]));
    assert!(matches!(error, Err(LayerError::Rejected { rule: Rule::Xattr, .. })), "{error:?}");
}

#[test]
fn x20_large_ids_are_read_from_pax_and_base_256() {
    let pax = Item::file("f", "").pax("uid", "3000000").pax("gid", "4000000000");
    let gnu = Item::file("f", "").owner(3_000_000, 4_000_000_000).gnu();
    for item in [pax, gnu] {
        assert_eq!(Image::of(&[&[item]]).mount().owner("f"), (3_000_000, 4_000_000_000));
    }
}

#[test]
fn the_highest_owner_is_recorded() {
    let image = Image::new();
    let found = |items: &[Item]| {
        let info = image.stage(&tar(items)).unwrap();
        // What is told at once is told again from the record.
        assert_eq!(image.store.find(&info.layer_id).unwrap().unwrap().max_id, info.max_id);
        info.max_id
    };
    assert_eq!(found(&[Item::dir("d")]), 0);
    assert_eq!(found(&[Item::file("f", "").owner(5, 70_000), Item::dir("d").owner(6, 7)]), 70_000);
    assert_eq!(found(&[Item::symlink("l", "x").owner(80_000, 1)]), 80_000);
    // A marker belongs to nobody.
    assert_eq!(found(&[Item::file(".wh.gone", "").owner(90_000, 90_000), Item::dir("e").owner(1, 2)]), 2);
}

#[test]
fn x20_ids_that_linux_cannot_hold_are_refused() {
    for (key, rule) in [("uid", Rule::UserId), ("gid", Rule::GroupId)] {
        for value in ["4294967295", "4294967296", "-1", "9223372036854775807"] {
            let error = Image::new().stage(&tar(&[Item::file("f", "").pax(key, value)])).unwrap_err();
            assert!(matches!(&error, LayerError::Rejected { rule: found, .. } if *found == rule), "{error}");
        }
    }
}

#[test]
fn x22_times_of_directories_and_links_are_the_entrys() {
    let items = [
        Item::dir("d").mtime(1_234_567_890),
        Item::file("d/a", "a"),
        Item::file("d/b", "b").pax("mtime", "1500000000.123456789"),
        Item::symlink("l", "d").owner(12, 13).mtime(1_111_111_111),
        Item::file("old", "").pax("mtime", "-1.5"),
        Item::dir("d/sub").mtime(3),
        Item::file("d/sub/.wh.x", ""),
    ];
    let merged =
        Image::of(&[&[Item::dir("d"), Item::dir("d/sub"), Item::file("d/sub/x", "")], &items]).mount();
    assert_eq!(merged.lstat("d").mtime(), 1_234_567_890);
    assert_eq!(merged.lstat("d/sub").mtime(), 3);
    let b = merged.lstat("d/b");
    assert_eq!((b.mtime(), b.mtime_nsec()), (1_500_000_000, 123_456_789));
    assert_eq!((merged.lstat("l").mtime(), merged.owner("l")), (1_111_111_111, (12, 13)));
    let old = merged.lstat("old");
    assert_eq!((old.mtime(), old.mtime_nsec()), (-2, 500_000_000));
    assert!(merged.lstat("d").is_dir());
}

#[test]
fn x23_a_closed_directory_before_its_files_is_filled() {
    let items = [
        Item::dir("d").mode(0o555),
        Item::file("d/f", "content").mode(0o400),
        Item::dir("z").mode(0),
        Item::file("z/f", ""),
    ];
    let merged = Image::of(&[&items]).mount();
    assert_eq!(
        (merged.mode("d"), merged.mode("d/f"), merged.read("d/f").as_str()),
        (0o555, 0o400, "content")
    );
    assert_eq!(merged.mode("z"), 0);
}

#[test]
fn x30_devices_and_pipes_are_made() {
    let items = [
        Item::device(b'3', "c", (1, 3)).mode(0o666),
        Item::device(b'4', "b", (7, 9)),
        Item::device(b'6', "p", (0, 0)).mode(0o600).owner(8, 9),
    ];
    let merged = Image::of(&[&items]).mount();
    let c = merged.lstat("c");
    assert!(c.file_type().is_char_device() && merged.lstat("b").file_type().is_block_device());
    assert_eq!((c.rdev(), merged.mode("c")), (rustix::fs::makedev(1, 3), 0o666));
    assert_eq!(merged.lstat("b").rdev(), rustix::fs::makedev(7, 9));
    assert!(merged.lstat("p").file_type().is_fifo());
    assert_eq!((merged.mode("p"), merged.owner("p")), (0o600, (8, 9)));
}

#[test]
fn device_numbers_that_linux_cannot_hold_are_refused() {
    let error = Image::new().stage(&tar(&[Item::device(b'3', "c", (4096, 0))])).unwrap_err();
    assert!(matches!(error, LayerError::Rejected { rule: Rule::DeviceNumber, .. }), "{error}");
}

#[test]
fn an_attribute_that_the_file_system_cannot_hold_is_no_full_disk() {
    let item = Item::file("f", "").xattr("user.large", vec![b'x'; 65_536]);
    let mut image = Image::new();
    // File systems differ in what they hold; none may answer that the disk is full.
    match image.add(&tar(&[item])) {
        Ok(_) => assert!(image.mount().lstat("f").is_file()),
        Err(error) => assert!(matches!(error, LayerError::Rejected { rule: Rule::Xattr, .. }), "{error}"),
    }
}

/// More than any store keeps of directories in memory until the end.
#[test]
fn very_many_directories_have_what_their_last_entries_say() {
    const COUNT: u32 = 6_000;
    let path = |n: u32| format!("{}/{n:060}", n % 7);
    let owner = |n: u32| (n + 1, n + 2);
    let dir = |n: u32, mode| {
        Item::dir(path(n)).mode(mode).owner(owner(n).0.into(), owner(n).1.into()).mtime(i64::from(n))
    };
    let mut items: Vec<Item> =
        (0..COUNT).map(|n| dir(n, 0o700 + n % 0o100).xattr("user.first", "1")).collect();
    for n in 0..COUNT {
        items.push(Item::file(format!("{}/in", path(n)), ""));
        match n % 5 {
            // Told again, replaced, and replaced and there again.
            0 => items.push(dir(n, 0o2711)),
            1 => items.push(Item::file(path(n), "file")),
            2 => items.extend([
                Item::symlink(path(n), "x"),
                dir(n, 0o555),
                Item::dir(format!("{}/in", path(n))),
            ]),
            _ => {}
        }
    }
    let merged = Image::of(&[&items]).mount();
    for n in 0..COUNT {
        let found = merged.lstat(&path(n));
        let has_first = rustix::fs::lgetxattr(merged.path(&path(n)), "user.first", &mut [0u8; 8]).is_ok();
        if n % 5 == 1 {
            assert!(found.is_file() && !has_first, "{n}");
            continue;
        }
        let mode = [0o2711, 0, 0o555, 0o700 + n % 0o100, 0o700 + n % 0o100][n as usize % 5];
        assert_eq!((found.is_dir(), found.mode() & 0o7777, has_first), (true, mode, n % 5 > 2), "{n}");
        assert_eq!(((found.uid(), found.gid()), found.mtime()), (owner(n), i64::from(n)), "{n}");
        assert_eq!(merged.lstat(&format!("{}/in", path(n))).is_dir(), n % 5 == 2, "{n}");
    }
}
