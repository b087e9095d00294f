//! The rows of the field's cases, and what moby's matcher answers for more of the same kinds.

use ignore::{IgnoreError, Matcher};

/// (id, ignore file, left out, kept).
type Row = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const ROWS: &[Row] = &[
    ("i01_", "*\n!src\nsrc/*.o\n", &["a", "src/x.o"], &["src", "src/x.c", "src/sub/y.o", "src/sub/y.c"]),
    (
        "i02_",
        "**/node_modules\n",
        &["node_modules", "a/node_modules", "a/node_modules/b/c"],
        &["node_modules2"],
    ),
    (
        "i03_",
        "*.md\n!README*.md\nREADME-secret.md\n",
        &["x.md", "README-secret.md"],
        &["README.md", "README-a.md", "d/x.md"],
    ),
    ("i04_", "/foo\n./bar\nbaz/\na/../b\n", &["foo", "bar", "baz", "baz/x", "b"], &["a", "d/foo"]),
    ("i05_", "*\n!**/*.py\n", &["d/a.txt", "d"], &["a.py", "d/a.py", "d/e/a.py"]),
    ("i06_", "dir\n!dir/keep\n", &["dir", "dir/other"], &["dir/keep", "dir/keep/x"]),
    ("i08_", "a*b\n*/t\n*/*/u\n", &["axb", "x/t", "x/y/u"], &["a/b", "x/y/t", "t"]),
    ("i09_", "\u{feff}foo\r\nbar\r\n", &["foo", "bar"], &["foo\r"]),
    ("i10_", "Foo\n", &["Foo"], &["foo"]),
    ("i11_", "docs/**\n!docs/**/*.png\n", &["docs/a"], &["docs", "docs/a.png", "docs/d/e.png"]),
    // More of the same kinds.
    ("trailing blanks", "  foo  \n\tbar\t\n", &["foo", "bar"], &["foo  "]),
    ("comments", "# foo\n #bar\n#\n", &["#bar"], &["foo", "# foo", "bar"]),
    ("only blank lines", "\n  \n\r\n", &[], &["a", "b/c"]),
    ("no newline at the end", "foo", &["foo"], &["food"]),
    ("escaped comment", "\\#foo\n", &["#foo"], &["foo", "\\#foo"]),
    ("escaped exception", "\\!foo\n", &["!foo"], &["foo"]),
    ("exception with a blank", "*\n! foo\n", &["bar"], &["foo"]),
    ("exception of the root", "*\n!/foo\n", &["bar"], &["foo", "foo/x"]),
    ("exceptions before", "!foo\n*\n", &["foo", "bar"], &[]),
    ("last one wins", "foo\n!foo\nfoo\n", &["foo"], &[]),
    ("deep exception", "*\n!a/b/c\n", &["a", "a/b", "a/b/d"], &["a/b/c", "a/b/c/d"]),
    ("child of a kept directory", "*\n!a\na/b\n!a/b/c\n", &["a/b", "a/b/d"], &["a", "a/x", "a/b/c"]),
    ("above the root", "/../foo\n../bar\n", &["foo"], &["bar"]),
    ("the root itself", ".\n/\n", &[], &["a", "a/b"]),
    ("double slashes", "a//b\n", &["a/b"], &["a"]),
    ("question marks", "?.c\n", &["a.c", "é.c"], &["ab.c", "/.c", ".c"]),
    ("classes", "[a-c]x\n[^a-c]y\n", &["ax", "cx", "dy"], &["dx", "ay"]),
    ("escapes in classes", "[\\]\\-]z\n", &["]z", "-z"], &["\\z", "az"]),
    ("escaped star", "a\\*b\n", &["a*b"], &["axb"]),
    ("dots are literal", "abc.def\n", &["abc.def"], &["abcdef", "abcZdef"]),
    ("regular expressions are not", "a.|)$(}+{bc\n", &["a.|)$(}+{bc"], &["ab", "a"]),
    ("everything", "**\n", &["a", "a/b", "a/b/c"], &[]),
    ("everything with a slash", "**/\n", &["a", "a/b"], &[]),
    ("a directory's content", "abc/**\n", &["abc/def", "abc/def/ghi"], &["abc", "abcd"]),
    ("suffix", "**file\n", &["file", "dir/file", "xfile", "d/xfile"], &["file1"]),
    ("suffix below a slash", "**/.foo\n", &[".foo", "a/.foo", "a/.foo/b"], &["bar.foo"]),
    ("two doubles", "**/dir2/**\n", &["dir/dir2/dir3/file", "dir2/a"], &["dir2", "dir/dir2"]),
    ("doubles and stars", "**/**/*.txt\n", &["file.txt", "dir/dir/file.txt"], &["file.txt2", "dir/a.md"]),
    ("a double in the middle", "a**/*.txt\n", &["a/file.txt", "a/dir/dir/file.txt"], &["b/file.txt"]),
    ("a double behind a star", "*x**y\n", &["axxy", "ax/by/y"], &["axby"]),
    (
        "a double behind a suffix",
        "a/*.txt**\n",
        &["a/file.txt", "a/file.txt.gz", "a/f.txt/x"],
        &["a/b/file.txt"],
    ),
    ("a later pattern of a directory", "ab\n!*/?\n?*\n", &["ab/-", "ab"], &[]),
    ("an exception above, a pattern below", "a\n!*/b\na/b/c\n", &["a", "a/b/c"], &["a/b", "a/b/d"]),
    ("a blank behind the root", "./ a\n/ b\n", &["a", "b"], &[" a"]),
    ("an exception behind the root", "*\n/!a\n", &["b"], &["a"]),
    ("blanks within", "my file\n", &["my file"], &["my", "file"]),
    ("not git's anchoring", "foo\n", &["foo", "foo/bar"], &["a/foo"]),
];

#[test]
fn every_row_is_answered_as_docker_answers_it() {
    for (id, file, excluded, kept) in ROWS {
        let matcher = Matcher::from_file(file.as_bytes()).unwrap_or_else(|error| panic!("{id}: {error}"));
        for path in *excluded {
            assert!(matcher.excludes(path), "{id}: {path} is to be left out");
        }
        for path in *kept {
            assert!(!matcher.excludes(path), "{id}: {path} is to be kept");
        }
    }
}

#[test]
fn i07_a_lone_exclamation_mark_is_refused() {
    for file in ["!\n", "a\n! \n", "!/\n", "!/../\n"] {
        assert!(matches!(Matcher::from_file(file.as_bytes()), Err(IgnoreError::Invalid { .. })), "{file:?}");
    }
}

#[test]
fn malformed_patterns_are_refused_with_their_line() {
    let malformed = [
        "[",
        "[^",
        "[^bc",
        "a[",
        "[]a]",
        "[-]",
        "[x-]",
        "[-x]",
        "[a-b-c]",
        "\\",
        "a\\",
        "[a",
        "[\\",
        "[Local-Only]/",
        "[z-a]",
    ];
    for pattern in malformed {
        let found = Matcher::from_file(format!("ok\n{pattern}\n").as_bytes());
        match found {
            Err(IgnoreError::Invalid { line, .. }) => assert_eq!(line, 2, "{pattern:?}"),
            other => panic!("{pattern:?} gave {other:?}"),
        }
    }
}

#[test]
fn b22_the_file_beside_the_dockerfile_comes_first() {
    assert_eq!(
        ignore::file_names("build/app.Dockerfile"),
        ["build/app.Dockerfile.dockerignore", ".dockerignore"]
    );
}
