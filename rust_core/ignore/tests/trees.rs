//! Whole trees: each verdict agrees with the single question, nothing that is kept is missed, and it is quick.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ignore::{
    IgnoreError, Matcher, Verdict, MAX_IGNORE_FILE_BYTES, MAX_IGNORE_PATTERNS, MAX_IGNORE_PATTERN_BYTES,
};
use proptest::prelude::*;

fn part() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab", "a.c", "*", "?", "**", "*.c", "[ab]", "a*", "*b", "**b"])
        .prop_map(str::to_owned)
}

fn rule() -> impl Strategy<Value = String> {
    (any::<bool>(), prop::collection::vec(part(), 1..4)).prop_map(|(is_exception, parts)| {
        format!("{}{}", if is_exception { "!" } else { "" }, parts.join("/"))
    })
}

fn path() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(
        prop::sample::select(vec!["a", "b", "ab", "a.c", "x"]).prop_map(str::to_owned),
        1..5,
    )
}

/// The rule itself: the last pattern that matches the path or a directory above it decides.
fn by_the_rules(rules: &[String], parts: &[String]) -> bool {
    let mut is_excluded = false;
    for rule in rules {
        let bare = rule.trim_start_matches('!');
        let single = Matcher::from_patterns([bare]).unwrap();
        let is_hit = (1..=parts.len())
            .any(|end| single.child(&Verdict::default(), &parts[..end].join("/")).is_excluded());
        if is_hit {
            is_excluded = !rule.starts_with('!');
        }
    }
    is_excluded
}

proptest! {
    #[test]
    fn a_walk_that_skips_what_cannot_be_kept_finds_all_that_is_kept(
        rules in prop::collection::vec(rule(), 0..6),
        parts in path(),
    ) {
        let matcher = Matcher::from_file(rules.join("\n").as_bytes()).unwrap();
        let full = parts.join("/");
        let mut verdict = Verdict::default();
        let mut is_reached = true;
        for end in 1..=parts.len() {
            let path = parts[..end].join("/");
            verdict = matcher.child(&verdict, &path);
            prop_assert_eq!(verdict.is_excluded(), matcher.excludes(&path), "{}", path);
            prop_assert_eq!(verdict.is_excluded(), by_the_rules(&rules, &parts[..end]), "{}", path);
            if end < parts.len() && verdict.is_excluded() && !matcher.may_keep_below(&path) {
                is_reached = false;
            }
        }
        prop_assert!(is_reached || matcher.excludes(&full), "{} is kept below a directory that is not walked", full);
    }

    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,60}", path in "\\PC{1,40}") {
        if let Ok(matcher) = Matcher::from_file(text.as_bytes()) {
            matcher.excludes(&path);
            matcher.may_keep_below(&path);
        }
    }
}

#[test]
fn fifty_thousand_files_take_well_below_a_second_even_without_optimisation() {
    let file = "**/node_modules\n**/*.pyc\n.git\ndist/**\n*.log\n!keep.log\n**/__pycache__\n**/.cache\nbuild/*\n!build/out\n";
    let matcher = Matcher::from_file(file.as_bytes()).unwrap();
    let begin = Instant::now();
    let mut kept = 0;
    for directory in 0..500 {
        let folder = format!("src/module{directory}");
        let above = matcher.child(&matcher.child(&Verdict::default(), "src"), &folder);
        for index in 0..100 {
            let path = format!("{folder}/file{index}.{}", if index % 4 == 0 { "pyc" } else { "py" });
            kept += usize::from(!matcher.excludes_below(&above, &path));
        }
    }
    assert_eq!(kept, 37_500);
    // A tenth of this with optimisation; the bound leaves room for a loaded machine.
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn no_pattern_takes_more_than_one_pass_over_a_path() {
    let matcher =
        Matcher::from_file(format!("{}b\n{}\n", "*a".repeat(500), "**/a*".repeat(300)).as_bytes()).unwrap();
    let begin = Instant::now();
    assert!(!matcher.excludes(&"a".repeat(4000)));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn every_limit_is_named_by_its_error() {
    let named = |data: Vec<u8>| match Matcher::from_file(&data) {
        Err(IgnoreError::LimitExceeded { limit, .. }) => limit,
        other => panic!("{other:?}"),
    };
    let limits: BTreeMap<&str, Vec<u8>> = BTreeMap::from([
        ("MAX_IGNORE_FILE_BYTES", vec![b'a'; MAX_IGNORE_FILE_BYTES + 1]),
        ("MAX_IGNORE_PATTERN_BYTES", vec![b'a'; MAX_IGNORE_PATTERN_BYTES + 1]),
        ("MAX_IGNORE_PATTERNS", b"a\n".repeat(MAX_IGNORE_PATTERNS + 1)),
    ]);
    for (limit, data) in limits {
        assert_eq!(named(data), limit);
    }
    assert!(matches!(Matcher::from_file(b"ok\n\xff\n"), Err(IgnoreError::Invalid { line: 2, .. })));
}

#[test]
fn a_copy_of_what_is_left_out_is_seen() {
    let matcher = Matcher::from_file(b"secret\n*.key\n").unwrap();
    for source in ["secret", "/secret", "./secret/", "a.key", "secret/x"] {
        assert!(matcher.hides_source(source), "{source}");
    }
    for source in [".", "/", "public", "d/a.key"] {
        assert!(!matcher.hides_source(source), "{source}");
    }
    assert!(Matcher::from_file(b"*\n").unwrap().hides_source("."));
    assert!(!Matcher::from_file(b"*\n!a\n").unwrap().hides_source("b"), "with an exception nothing is sure");
}
