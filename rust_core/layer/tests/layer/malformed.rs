//! Names, numbers and floods that no sound archive has: kept byte by byte or refused by a rule or limit with a name.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use errors::Catalogued;
use layer::{LayerError, Limits, Rule};

use crate::image::Image;
use crate::tar_writer::{header, seal, tar, Item, Tar};

/// What a layer is refused with; nothing of it stays.
#[track_caller]
fn refused(blob: &[u8]) -> LayerError {
    let image = Image::new();
    let error = image.stage(blob).expect_err("a layer that is refused");
    assert_eq!(image.folders(), Vec::<String>::new());
    error
}

#[track_caller]
fn assert_limit(blob: &[u8], expected: &str) {
    let error = refused(blob);
    assert!(matches!(&error, LayerError::LimitExceeded { limit, .. } if *limit == expected), "{error}");
}

/// An archive of one file whose header has `bytes` at `at` and the right checksum.
fn with_field(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut block = header(&Item::file("f", "data"), b'0');
    block[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut block);
    let mut archive = Tar::default();
    archive.add_raw(&block, b"data");
    archive.end()
}

/// An entry of a long name or a PAX header, with this body.
fn long(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut archive = Tar::default();
    archive.add_raw(&header(&Item::file("././@LongLink", body).gnu(), kind), body);
    archive.cut()
}

#[test]
fn names_of_any_bytes_but_nul_and_slash_are_kept() {
    let names: [&[u8]; 6] =
        [b"new\nline", b"\xff\xfe", b"half\xc3", b"tab\tbell\x07", b"back\\slash", b"\xed\xa0\x80"];
    for make in [|item: Item| item, |item: Item| item.gnu()] {
        let mut items = Vec::new();
        for name in names {
            items.push(make(Item::file(name, "x")));
            items.push(make(Item::symlink([b"l-", name].concat(), name)));
            items.push(make(Item::hardlink([b"h-", name].concat(), name)));
        }
        let merged = Image::of(&[&items]).mount();
        let path = |name: &[u8]| merged.path("").join(Path::new(std::ffi::OsStr::from_bytes(name)));
        for name in names {
            assert_eq!(std::fs::read(path(name)).unwrap(), b"x", "{name:?}");
            let target = std::fs::read_link(path(&[b"l-", name].concat())).unwrap();
            assert_eq!(target.as_os_str().as_bytes(), name);
            assert_eq!(std::fs::read(path(&[b"h-", name].concat())).unwrap(), b"x");
        }
        assert_eq!(crate::image::names(&merged.path("")).len(), 3 * names.len());
    }
    let pax = Item::file("short", "x").pax("path", b"pax\xff\nname");
    let merged = Image::of(&[&[pax]]).mount();
    let name = Path::new(std::ffi::OsStr::from_bytes(b"pax\xff\nname"));
    assert!(merged.path("").join(name).exists());
}

#[test]
fn a_nul_in_a_name_or_target_is_refused() {
    for item in [
        Item::file("f", "").pax("path", b"a\0b"),
        Item::symlink("l", "x").pax("linkpath", b"a\0b"),
        Item::hardlink("l", "x").pax("linkpath", b"a\0b"),
    ] {
        let error = refused(&tar(&[Item::file("x", ""), item]));
        assert!(matches!(error, LayerError::Rejected { rule: Rule::NameNul, .. }), "{error}");
    }
}

#[test]
fn a_depth_of_ten_thousand_is_refused_for_every_type() {
    let deep = "d/".repeat(10_000);
    for item in [
        Item::file(format!("{deep}f"), ""),
        Item::dir(&deep),
        Item::symlink(format!("{deep}l"), "x"),
        Item::hardlink(format!("{deep}h"), "x"),
        Item::hardlink("h", format!("{deep}f")),
        Item::file(format!("{deep}.wh.f"), ""),
        Item::symlink("l", &deep),
    ] {
        let key = if item.link.len() > item.name.len() { "linkpath" } else { "path" };
        let value = if key == "path" { item.name.clone() } else { item.link.clone() };
        for item in [item.clone().gnu(), item.pax(key, value)] {
            let error = refused(&tar(&[item]));
            assert!(
                matches!(&error, LayerError::LimitExceeded { limit: "path_bytes" | "path_depth", .. }),
                "{error}"
            );
        }
    }
}

#[test]
fn a_depth_of_ten_thousand_reached_step_by_step_is_refused() {
    // Each name is short; links lead 100 directories further down each time.
    let step = "d/".repeat(100);
    let mut items = vec![Item::symlink("l0", &step).gnu()];
    for number in 1..100 {
        items.push(Item::symlink(format!("l{number}"), format!("l{}/{step}", number - 1)).gnu());
    }
    items.push(Item::file("l99/f", ""));
    let error = refused(&tar(&items));
    let is_named = matches!(
        &error,
        LayerError::LimitExceeded { limit: "path_depth" | "symlink_count", .. }
            | LayerError::Rejected { rule: Rule::SymlinkLoop, .. }
    );
    assert!(is_named, "{error}");
}

#[test]
fn hard_links_in_circles_and_to_themselves_are_refused() {
    for items in [
        vec![Item::hardlink("a", "a")],
        vec![Item::hardlink("a", "b"), Item::hardlink("b", "a")],
        vec![Item::hardlink("a", "b"), Item::hardlink("b", "c"), Item::hardlink("c", "a")],
        vec![Item::hardlink("d/a", "d/./a")],
    ] {
        let mut image = Image::of(&[&[Item::file("base", "")]]);
        let error = image.add(&tar(&items)).unwrap_err();
        assert!(matches!(error, LayerError::Rejected { rule: Rule::HardlinkTargetMissing, .. }), "{error}");
    }
}

#[test]
fn a_flood_of_long_names_is_bounded() {
    assert_limit(&long(b'L', &vec![b'n'; (1 << 20) + 1]), "extended_header_bytes");
    assert_limit(&long(b'K', &vec![b'n'; (1 << 20) + 1]), "extended_header_bytes");
    // Headers that no entry follows count as entries do.
    for kind in [b'L', b'K', b'x'] {
        let body: &[u8] = if kind == b'x' { b"11 path=ab\n" } else { b"name\0" };
        let flood = long(kind, body).repeat(2_000);
        let image = Image::new();
        let limits = Limits { entry_count: 1000, ..Limits::default() };
        let error = image.stage_with(&flood, &limits).unwrap_err();
        assert!(
            matches!(
                &error,
                LayerError::LimitExceeded { limit: "entry_count", .. } | LayerError::Corrupt { .. }
            ),
            "{kind}: {error}"
        );
        assert_eq!(image.folders(), Vec::<String>::new());
    }
}

#[test]
fn a_flood_of_pax_records_and_attributes_is_bounded() {
    let records =
        (0..100_000).fold(Item::file("f", ""), |item, number| item.pax(format!("VENDOR.{number}"), "v"));
    assert_limit(&tar(&[records]), "extended_header_bytes");
    let attributes =
        (0..10_000).fold(Item::file("f", ""), |item, number| item.xattr(&format!("user.{number}"), "v"));
    assert_limit(&tar(&[attributes]), "xattr_count");
    let large = Item::file("f", "").xattr("user.a", vec![b'x'; 100_000]);
    assert_limit(&tar(&[large]), "xattr_value_bytes");
    // One name again and again: the last one counts, or its number meets the limit.
    let same = (0..5_000).fold(Item::file("f", ""), |item, number| item.xattr("user.a", number.to_string()));
    match Image::new().stage(&tar(&[same])) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.reason(), "LIMIT_EXCEEDED", "{error}"),
    }
}

#[test]
fn records_that_are_none_are_refused() {
    for body in [
        &b"path=a\n"[..],
        b"-5 path=a\n",
        b"0 path=a\n",
        b"99999999999999999999 path=a\n",
        b"9999 path=a\n",
        b"5 x\n",
        b"10 path=ab",
        b"10 =abcde\n",
        b"\n",
    ] {
        let blob = [long(b'x', body), tar(&[Item::file("f", "")])].concat();
        let error = refused(&blob);
        assert!(matches!(error, LayerError::Corrupt { .. }), "{:?}: {error}", String::from_utf8_lossy(body));
    }
}

#[test]
fn numbers_that_are_none_are_refused() {
    const SIZE: usize = 124;
    const MODE: usize = 100;
    const UID: usize = 108;
    const MTIME: usize = 136;
    for (at, bytes) in [
        (SIZE, &b"-0000000001\0"[..]),
        (SIZE, b"zzzzzzzzzzz\0"),
        (SIZE, b"00000000088\0"),
        (SIZE, b"0x000000004\0"),
        (SIZE, &[0xff; 12]),
        (SIZE, &[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (SIZE, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (MODE, b"garbage\0"),
        (UID, b"garbage\0"),
        (UID, &[0xff; 8]),
        (UID, &[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (MTIME, b"garbage....\0"),
        (MTIME, &[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ] {
        let error = refused(&with_field(at, bytes));
        assert!(
            matches!(error.reason(), "LAYER_CORRUPT" | "LAYER_REJECTED" | "LIMIT_EXCEEDED"),
            "{at} {bytes:x?}: {error}"
        );
    }
    for (key, value) in [
        ("size", "-1"),
        ("size", "18446744073709551616"),
        ("size", "1e3"),
        ("mtime", "x"),
        ("mtime", "99999999999999999999999"),
        ("uid", "0x10"),
    ] {
        let error = refused(&tar(&[Item::file("f", "").pax(key, value)]));
        assert!(
            matches!(error.reason(), "LAYER_CORRUPT" | "LAYER_REJECTED" | "LIMIT_EXCEEDED"),
            "{key}={value}: {error}"
        );
    }
}
