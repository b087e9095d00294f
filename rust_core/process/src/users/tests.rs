//! Tables of users and what they mean.

use proptest::prelude::*;

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\n+nis\n\napp:x:1000:1000::/home/app:/bin/sh\n\
    1000:x:0:0::/evil:/bin/sh\nevil:x:notanum:10::/:/bin/sh\nhuge:x:4294967296:10::/:/bin/sh\n\
    minus:x:4294967295:1::/:/bin/sh\nbadgid:x:7:x::/h:/bin/sh\nshort:x\nnohome:x:8:9\nspaced : x:1:1\n";
const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\napp:x:1000:\nwww:x:33: app , other\nbad:x:zz:app\n\
    2000:x:5:\nlast:x:77:other\n";

fn of(user: &str, more: &[&str]) -> Result<(u32, u32, Vec<u32>, String), String> {
    let more: Vec<String> = more.iter().map(|text| (*text).to_owned()).collect();
    let passwd = || Ok(PASSWD.as_bytes().to_vec());
    let group = || Ok(GROUP.as_bytes().to_vec());
    match resolve(user, &more, &passwd, &group) {
        Ok(found) => Ok((
            found.uid,
            found.gid,
            found.groups,
            String::from_utf8(found.home).expect("utf-8 in the table"),
        )),
        Err(error) => Err(error.rule),
    }
}

#[test]
#[expect(clippy::type_complexity, reason = "a table of cases, read row by row")]
fn each_form_of_a_user_means_its_ids() {
    let table: &[(&str, &[&str], (u32, u32, &[u32], &str))] = &[
        ("", &[], (0, 0, &[0, 10], "/root")),
        ("root", &[], (0, 0, &[0, 10], "/root")),
        ("0", &[], (0, 0, &[0, 10], "/root")),
        ("app", &[], (1000, 1000, &[10, 33, 1000], "/home/app")),
        ("app:www", &[], (1000, 33, &[33], "/home/app")),
        ("app:5", &[], (1000, 5, &[5], "/home/app")),
        ("app:", &[], (1000, 1000, &[10, 33, 1000], "/home/app")),
        (":www", &[], (0, 33, &[33], "/root")),
        ("1234", &[], (1234, 0, &[0], "/")),
        ("1234:99", &[], (1234, 99, &[99], "/")),
        ("badgid:4", &[], (7, 4, &[4], "/h")),
        ("nohome", &[], (8, 9, &[9], "/")),
        ("0001000", &[], (1000, 1000, &[10, 33, 1000], "/home/app")),
        ("2147483647:2147483647", &[], (2_147_483_647, 2_147_483_647, &[2_147_483_647], "/")),
        ("app:www", &["wheel", "44", "44"], (1000, 33, &[10, 33, 44], "/home/app")),
    ];
    for (user, more, (uid, gid, groups, home)) in table {
        let expected = Ok((*uid, *gid, groups.to_vec(), (*home).to_owned()));
        assert_eq!(of(user, more), expected, "user {user:?} with {more:?}");
    }
}

#[test]
fn t05_digits_are_a_number_even_where_a_line_has_that_name() {
    assert_eq!(of("1000", &[]).expect("a user").0, 1000);
    assert_eq!(of("app:2000", &["2000"]).expect("a user").2, [2000]);
}

#[test]
fn t06_a_bad_id_is_an_error_and_never_root() {
    for user in ["evil", "huge", "minus", "short", "4294967295", "4294967296", "2147483648", "app:4294967296"]
    {
        let rule = of(user, &[]).expect_err(user);
        assert!(rule.contains("MAX_ID"), "{user}: {rule}");
    }
    assert!(of("badgid", &[]).expect_err("gid").contains("no gid"));
    for user in ["nobody-here", "-1", "+1", "0x10", "1e3", " 1", "app:nogroup", "app:www:x", "#", "app:-1"] {
        of(user, &[]).expect_err(user);
    }
    of("app", &["nogroup"]).expect_err("an additional group that does not exist");
    of("app", &[""]).expect_err("an additional group without a name");
}

#[test]
fn t07_the_primary_group_is_among_the_supplementary_ones() {
    assert_eq!(of("1000:1000", &["2000"]).expect("a user").2, [1000, 2000]);
}

#[test]
fn t15_a_file_that_cannot_be_read_stops_names_and_not_numbers() {
    let broken = || Err("not a regular file".to_owned());
    let number = resolve("1000:5", &[], &broken, &broken).expect("numbers need no file");
    assert_eq!((number.uid, number.gid, number.home.as_slice()), (1000, 5, &b"/"[..]));
    resolve("", &[], &broken, &broken).expect("the default user needs no file");
    let error = resolve("app", &[], &broken, &broken).expect_err("a name needs it");
    assert!(error.rule.contains("not a regular file"), "{error}");
    let passwd = || Ok(PASSWD.as_bytes().to_vec());
    resolve("app", &[], &passwd, &broken).expect_err("the groups of a name");
    resolve("app:www", &[], &passwd, &broken).expect_err("a group's name");
}

#[test]
fn too_many_groups_are_refused_by_the_name_of_the_limit() {
    let more: Vec<String> = (0..=MAX_GROUPS).map(|id| id.to_string()).collect();
    let none = || Ok(Vec::new());
    let error = resolve("5", &more, &none, &none).expect_err("too many");
    assert!(error.rule.contains("MAX_GROUPS"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_in_the_files_are_read_without_panic_and_never_make_a_name_root(
        passwd in proptest::collection::vec(any::<u8>(), 0..200),
        group in proptest::collection::vec(any::<u8>(), 0..200),
        user in "[a-z0-9:]{0,12}",
    ) {
        let passwd_bytes = passwd.clone();
        let found = resolve(&user, &[], &|| Ok(passwd.clone()), &|| Ok(group.clone()));
        if let Ok(found) = found {
            prop_assert!(found.groups.contains(&found.gid));
            let name = user.split(':').next().unwrap_or("");
            if !name.is_empty() && !name.bytes().all(|byte| byte.is_ascii_digit()) && found.uid == 0 {
                // Only a line that says so makes somebody root.
                let text = String::from_utf8_lossy(&passwd_bytes).into_owned();
                prop_assert!(text.contains(&format!("{name}:")), "{text:?}");
            }
        }
    }

    #[test]
    fn a_number_stands_for_itself(id in any::<u64>()) {
        let passwd = || Ok(PASSWD.as_bytes().to_vec());
        let group = || Ok(GROUP.as_bytes().to_vec());
        let found = resolve(&id.to_string(), &[], &passwd, &group);
        if id <= u64::from(MAX_ID) {
            // `badgid` has the one uid whose line cannot give a group.
            if id != 7 {
                prop_assert_eq!(u64::from(found.expect("in range").uid), id);
            }
        } else {
            prop_assert!(found.is_err());
        }
    }
}
