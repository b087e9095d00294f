//! Archives made to reach outside their root: they fail, or what they write stays inside. Run in a jail.

use layer::{LayerError, Rule};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::image::Image;
use crate::jail::in_jail;
use crate::tar_writer::{tar, Item};

#[test]
fn z01_names_that_leave_the_root_are_refused() {
    in_jail("hostile::z01_names_that_leave_the_root_are_refused", |canary| {
        for name in ["../../escape1", "..", "a/../../x", "/../x", &format!("../../../..{canary}/pwn")] {
            for item in [
                Item::file(name, "pwn"),
                Item::dir(name),
                Item::symlink(name, "x"),
                Item::hardlink("l", name),
            ] {
                let image = Image::new();
                let error = image.stage(&tar(&[item])).unwrap_err();
                assert!(
                    matches!(error, LayerError::Rejected { rule: Rule::NameEscapes, .. }),
                    "{name}: {error}"
                );
                assert_eq!(image.folders(), Vec::<String>::new());
            }
        }
    });
}

#[test]
fn z01_absolute_names_are_names_inside() {
    in_jail("hostile::z01_absolute_names_are_names_inside", |canary| {
        let name = format!("{canary}/pwn");
        let merged = Image::of(&[&[Item::file(&name, "pwn")]]).mount();
        assert_eq!(merged.read(&name), "pwn");
    });
}

#[test]
fn z01_writes_through_links_stay_inside() {
    in_jail("hostile::z01_writes_through_links_stay_inside", |canary| {
        let through = |items: &[Item]| {
            let merged = Image::of(&[items]).mount();
            assert_eq!(merged.read(&format!("{canary}/pwn")), "pwn");
        };
        through(&[Item::symlink("e", canary), Item::file("e/pwn", "pwn")]);
        through(&[Item::symlink("a", "b"), Item::symlink("b", canary), Item::file("a/pwn", "pwn")]);
        through(&[
            Item::dir("d"),
            Item::symlink("d/e", format!("../../../..{canary}")),
            Item::file("d/e/pwn", "pwn"),
        ]);
        // Over two layers, the link below.
        let low = [Item::symlink("e", canary)];
        let merged = Image::of(&[
            &low,
            &[Item::file("e/pwn", "pwn"), Item::dir("e/dir"), Item::file("e/.wh.hostname", "")],
        ])
        .mount();
        assert_eq!(merged.read(&format!("{canary}/pwn")), "pwn");
    });
}

#[test]
fn z01_hard_links_through_links_find_nothing_outside() {
    in_jail("hostile::z01_hard_links_through_links_find_nothing_outside", |canary| {
        for items in [
            vec![Item::symlink("e", canary), Item::hardlink("b", "e/hostname")],
            vec![
                Item::symlink("h", format!("{canary}/hostname")),
                Item::hardlink("b", "h"),
                Item::file("b", "pwn"),
            ],
            vec![Item::hardlink("b", format!("{canary}/hostname"))],
        ] {
            let mut image = Image::new();
            match image.add(&tar(&items)) {
                Ok(_) => assert_eq!(image.mount().read("b"), "pwn"),
                Err(error) => {
                    let is_refused =
                        matches!(error, LayerError::Rejected { rule: Rule::HardlinkTargetMissing, .. });
                    assert!(is_refused, "{error}");
                }
            }
        }
    });
}

#[test]
fn z01_attributes_and_replacements_do_not_reach_through_links() {
    in_jail("hostile::z01_attributes_and_replacements_do_not_reach_through_links", |canary| {
        let items = [
            Item::symlink("e", canary).owner(7, 7).mtime(1).xattr("trusted.x", "1"),
            Item::dir("e").mode(0o777),
            Item::file("e/.wh..wh..opq", ""),
            Item::symlink("f", format!("{canary}/hostname")),
            Item::file("f", "new").mode(0o777),
            Item::symlink("g", canary),
            Item::file("g/.wh.hostname", ""),
        ];
        let mut image = Image::of(&[&[Item::dir("x")]]);
        image.add(&tar(&items)).unwrap();
        let merged = image.mount();
        assert!(merged.lstat("e").is_dir());
        assert_eq!(merged.read("f"), "new");
    });
}

#[test]
fn z02_whiteouts_of_the_directory_itself_are_refused() {
    in_jail("hostile::z02_whiteouts_of_the_directory_itself_are_refused", |_| {
        for name in [".wh...", "x/.wh..", ".wh.", "x/.wh...", "./.wh..", "x/.wh./y"] {
            let mut image = Image::of(&[&[Item::dir("x"), Item::file("x/f", "f"), Item::file("g", "g")]]);
            let error = image.add(&tar(&[Item::file(name, "")])).unwrap_err();
            assert!(
                matches!(error, LayerError::Rejected { rule: Rule::WhiteoutName, .. }),
                "{name}: {error}"
            );
            let merged = image.mount();
            merged.assert_tree(&[("g", "file g"), ("x", "dir"), ("x/f", "file f")]);
        }
    });
}

fn hostile_name(canary: String) -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => prop_oneof!["a", "b", "l"].prop_map(|s: String| s),
        1 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(String::new()),
        1 => prop_oneof![".wh.a", ".wh..wh..opq", ".wh..", ".wh..wh.x"].prop_map(|s: String| s),
        1 => Just(canary.trim_start_matches('/').to_owned()),
        1 => Just("hostname".to_owned()),
    ];
    proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn hostile_item(canary: String) -> impl Strategy<Value = Item> {
    let target =
        prop_oneof![Just(canary.clone()), Just(format!("{canary}/hostname")), hostile_name(canary.clone())];
    (hostile_name(canary), target, 0..8u8, any::<u16>()).prop_map(|(name, target, kind, bits)| {
        let item = match kind {
            0 | 1 => Item::file(&name, "pwn"),
            2 => Item::dir(&name),
            3 | 4 => Item::symlink(&name, &target),
            5 | 6 => Item::hardlink(&name, &target),
            _ => Item::device(b'3', &name, (u32::from(bits % 2), 3)),
        };
        item.mode(u32::from(bits) & 0o7777).xattr("trusted.overlay.opaque", "y")
    })
}

#[test]
fn random_hostile_layers_never_touch_the_outside() {
    in_jail("hostile::random_hostile_layers_never_touch_the_outside", |canary| {
        let layers =
            proptest::collection::vec(proptest::collection::vec(hostile_item(canary.to_owned()), 1..8), 1..3);
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(400) });
        let result = runner.run(&layers, |layers| {
            let mut image = Image::of(&[&[Item::file("base", "")]]);
            for items in &layers {
                let before = image.folders().len();
                if image.add(&tar(items)).is_err() {
                    // The layer by itself may be staged; nothing half-written is.
                    prop_assert!(image.folders().len() <= before + 1);
                    prop_assert!(image.folders().iter().all(|name| !name.contains("import")));
                }
            }
            let merged = image.mount();
            for name in merged.tree().keys() {
                prop_assert!(!name.split('/').any(|part| part.starts_with(".wh.")), "{name}");
            }
            prop_assert_eq!(crate::image::names(canary.as_ref()), ["hostname"]);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn damaged_archives_are_refused_or_read_and_never_leave_the_root() {
    in_jail("hostile::damaged_archives_are_refused_or_read_and_never_leave_the_root", |canary| {
        let items = [
            Item::dir("d").xattr("user.a", "v"),
            Item::file("d/f", [b'x'; 700]).pax("mtime", "1.5"),
            Item::file("n".repeat(120), "y").gnu().owner(3_000_000, 5),
            Item::symlink("l", canary),
            Item::hardlink("h", "d/f"),
            Item::file("s", [&b"1\n5\n3\n"[..], &[0; 506], b"abc"].concat())
                .pax("GNU.sparse.major", "1")
                .pax("GNU.sparse.minor", "0")
                .pax("GNU.sparse.realsize", "9"),
            Item::device(b'3', "c", (1, 3)),
        ];
        let whole: Vec<u8> = tar(&items);
        Image::new().stage(&whole).unwrap();
        let hits = proptest::collection::vec((0..whole.len(), any::<u8>()), 1..6);
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(2000) });
        let result = runner.run(&(hits, any::<bool>()), |(hits, is_sealed)| {
            let mut blob = whole.clone();
            for (at, byte) in &hits {
                blob[*at] = *byte;
                let start = at / 512 * 512;
                if is_sealed && blob[start + 257..start + 262] == *b"ustar" {
                    // With the checksum mended the damage reaches the fields behind it.
                    crate::tar_writer::seal(&mut blob[start..start + 512]);
                }
            }
            let image = Image::new();
            if image.stage(&blob).is_err() {
                prop_assert!(image.folders().is_empty());
            }
            prop_assert_eq!(crate::image::names(canary.as_ref()), ["hostname"]);
            Ok(())
        });
        result.unwrap();
    });
}
