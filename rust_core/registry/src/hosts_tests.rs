use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;
use crate::endpoint::Capabilities;
use errors::Catalogued;

fn write(root: &Path, name: &str, text: &str) {
    let directory = root.join(name);
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join("hosts.toml"), text).expect("a file");
}

fn bases(hosts: &Hosts, registry: &str) -> Vec<String> {
    let endpoints = hosts.endpoints(registry).expect("endpoints");
    endpoints.iter().map(|endpoint| endpoint.base.to_string()).collect()
}

fn refused(text: &str) -> RegistryError {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "r.example", text);
    Hosts::new(Some(dir.path().to_owned())).endpoints("r.example").expect_err(text)
}

#[test]
fn without_settings_a_registry_stands_for_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    for root in [None, Some(dir.path().to_owned()), Some(dir.path().join("absent"))] {
        let hosts = Hosts::new(root);
        assert_eq!(bases(&hosts, "r.example:5000"), ["https://r.example:5000/v2"]);
        assert_eq!(bases(&hosts, "docker.io"), ["https://registry-1.docker.io/v2"]);
        assert_eq!(bases(&hosts, "localhost:5000"), ["http://localhost:5000/v2"]);
    }
}

#[test]
fn mirrors_stand_in_the_order_of_the_file_and_the_registry_last() {
    let dir = tempfile::tempdir().expect("a directory");
    write(
        dir.path(),
        "docker.io",
        r#"
        server = "https://registry-1.docker.io"
        [host."https://z.example"]
          capabilities = ["pull", "resolve"]
        [host."http://a.example:5000"]
          capabilities = ["pull"]
        [host."https://m.example/some/path"]
          override_path = true
        [host."https://n.example/some/path/"]
          [host."https://n.example/some/path/".header]
            x-one = "1"
            x-two = ["2", "3"]
        "#,
    );
    let hosts = Hosts::new(Some(dir.path().to_owned()));
    let found = hosts.endpoints("docker.io").expect("endpoints");
    let bases: Vec<_> = found.iter().map(|endpoint| endpoint.base.as_str()).collect();
    assert_eq!(
        bases,
        [
            "https://z.example/v2",
            "http://a.example:5000/v2",
            "https://m.example/some/path",
            "https://n.example/some/path/v2",
            "https://registry-1.docker.io/v2",
        ]
    );
    assert_eq!(found[0].capabilities, Capabilities { pull: true, resolve: true, push: false });
    assert_eq!(found[1].capabilities, Capabilities { pull: true, resolve: false, push: false });
    assert_eq!(found[2].capabilities, Capabilities::ALL);
    assert_eq!(
        found.iter().map(|endpoint| endpoint.is_own).collect::<Vec<_>>(),
        [false, false, false, false, true]
    );
    assert_eq!(found[3].headers.get_all("x-two").iter().count(), 2);
    assert!(!format!("{:?}", found[3].headers).contains("\"2\""), "a header may hold a key");
    assert_eq!(found[1].host(), "a.example:5000");
}

#[test]
fn the_default_serves_registries_without_a_directory_of_their_own() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "_default", "[host.\"https://mirror.example\"]\n");
    write(dir.path(), "own.example", "");
    write(dir.path(), "ported.example_5000_", "server = \"http://ported.example:5000\"\n");
    let hosts = Hosts::new(Some(dir.path().to_owned()));
    assert_eq!(bases(&hosts, "any.example"), ["https://mirror.example/v2", "https://any.example/v2"]);
    assert_eq!(bases(&hosts, "own.example"), ["https://own.example/v2"]);
    assert_eq!(bases(&hosts, "ported.example:5000"), ["http://ported.example:5000/v2"]);
}

#[test]
fn a_registry_of_this_host_is_asked_by_https_once_its_directory_tells_how() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "localhost:5000", "skip_verify = true\n");
    let hosts = Hosts::new(Some(dir.path().to_owned()));
    assert_eq!(bases(&hosts, "localhost:5000"), ["https://localhost:5000/v2"]);
    assert!(hosts.endpoints("localhost:5000").expect("endpoints")[0].is_own);
}

#[test]
fn a_changed_file_counts_from_the_next_request_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let hosts = Hosts::new(Some(dir.path().to_owned()));
    assert_eq!(bases(&hosts, "r.example"), ["https://r.example/v2"]);
    write(dir.path(), "_default", "[host.\"https://one.example\"]\n");
    assert_eq!(bases(&hosts, "r.example"), ["https://one.example/v2", "https://r.example/v2"]);
    write(dir.path(), "_default", "[host.\"https://two.example\"]\n");
    let past = SystemTime::now() - Duration::from_secs(60);
    let file =
        fs::File::options().write(true).open(dir.path().join("_default/hosts.toml")).expect("the file");
    file.set_modified(past).expect("a time");
    assert_eq!(bases(&hosts, "r.example"), ["https://two.example/v2", "https://r.example/v2"]);
    write(dir.path(), "r.example", "");
    assert_eq!(bases(&hosts, "r.example"), ["https://r.example/v2"]);
    fs::remove_dir_all(dir.path().join("r.example")).expect("removed");
    fs::remove_dir_all(dir.path().join("_default")).expect("removed");
    assert_eq!(bases(&hosts, "r.example"), ["https://r.example/v2"]);
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_is_wrong() {
    for (text, part) in [
        ("server = ", "is not as it must be"),
        ("server = 5", "is not as it must be"),
        ("server = \"ftp://x\"", "no http or https URL"),
        ("server = \"https://u:p@x\"", "no http or https URL"),
        ("[host.\"https://m\"]\ncapabilities = [\"fly\"]", "is no capability"),
        ("[host.\"https://m\"]\ncapabilities = \"pull\"", "is not as it must be"),
        ("[host.\"https://m\"]\ndial_timeout = \"soon\"", "is no duration"),
        ("[host.\"https://m\"]\nca = \"absent.pem\"", "does not exist"),
        ("[host.\"https://m\"]\nclient = 5", "client must be"),
        ("[host.\"https://m\".header]\n\"a b\" = \"c\"", "cannot be sent"),
        ("[host.\"https://m\".header]\na = \"c\\nd\"", "cannot be sent"),
    ] {
        let error = refused(text);
        assert_eq!(error.reason(), "REGISTRY_CONFIG_INVALID", "{text}");
        assert!(error.to_string().contains(part), "{text}: {error}");
        assert!(
            error.to_string().contains("r.example") || error.to_string().contains("absent.pem"),
            "{error}"
        );
    }
}

#[test]
fn a_file_beyond_a_limit_is_refused_by_the_limits_name() {
    let many: String =
        (0..=hosts_file::HOSTS_MAX_COUNT).map(|n| format!("[host.\"https://h{n}\"]\n")).collect();
    let large = " ".repeat(hosts_file::HOSTS_FILE_MAX_BYTES as usize + 1);
    for (text, name) in [(many, "hosts_max_count"), (large, "hosts_file_max_bytes")] {
        match refused(&text) {
            RegistryError::LimitExceeded { limit, .. } => assert_eq!(limit, name),
            other => panic!("{other}"),
        }
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_settings_or_an_error(text in "(server|ca|client|host|header|capabilities|\\[|\\]|=|\"|\n|https://m|pull|[a-z0-9. ]){0,40}") {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), "r.example", &text);
        if let Err(error) = Hosts::new(Some(dir.path().to_owned())).endpoints("r.example") {
            proptest::prop_assert!(["REGISTRY_CONFIG_INVALID", "LIMIT_EXCEEDED", "IO_FAILED"].contains(&error.reason()));
        }
    }
}

#[test]
fn a_registrys_name_does_not_lead_out_of_the_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("certs.d");
    write(&root, "_default", "[host.\"https://default.example\"]\n");
    write(dir.path(), "", "[host.\"https://outside.example\"]\n");
    let hosts = Hosts::new(Some(root));
    assert_eq!(bases(&hosts, "..")[0], "https://default.example/v2");
    assert!(hosts.endpoints("../x").is_err());
}
