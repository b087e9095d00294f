//! What moby's own matcher answers for files and paths made at random.

use ignore::Matcher;

/// Each line: an ignore file, paths that it leaves out, paths that it keeps. Made by moby/patternmatcher v0.6.1
/// (`ignorefile.ReadAll`, `MatchesOrParentMatches`); a backslash before a letter is left out, which moby reads as an
/// escape of regular expressions.
const ANSWERS: &str = include_str!("answers.json");

#[test]
fn files_made_at_random_are_read_as_moby_reads_them() {
    let mut count = 0;
    for line in ANSWERS.lines() {
        let (file, excluded, kept): (String, Vec<String>, Vec<String>) = serde_json::from_str(line).unwrap();
        let matcher = Matcher::from_file(file.as_bytes()).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        for path in &excluded {
            assert!(matcher.excludes(path), "{file:?} leaves {path:?} out");
        }
        for path in &kept {
            assert!(!matcher.excludes(path), "{file:?} keeps {path:?}");
        }
        count += 1;
    }
    assert_eq!(count, 400);
}
