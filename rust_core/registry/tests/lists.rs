//! Lists of referrers and of repositories, and credentials that are tried without a repository.

mod common;
mod server;

use common::{client, digest, fact, nobody, target, INDEX};
use errors::Catalogued;
use registry::{Credentials, Referrer, RegistryError, SearchHit};
use server::{Reply, Server};
use sys::cancel::CancelToken;

fn entry(data: &[u8], artifact_type: &str) -> String {
    let name = digest(data);
    format!(
        r#"{{"mediaType":"m","digest":"{name}","size":3,"artifactType":"{artifact_type}","annotations":{{"k":"v"}}}}"#
    )
}

fn index(entries: &[String]) -> String {
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","))
}

fn referrers(server: &Server, artifact_type: &str) -> Result<Vec<Referrer>, RegistryError> {
    client().list_referrers(
        target(&server.registry()),
        &digest(b"subject"),
        artifact_type,
        &CancelToken::new(),
    )
}

fn types(found: &[Referrer]) -> Vec<&str> {
    found.iter().map(|one| one.artifact_type.as_str()).collect()
}

#[test]
fn the_registrys_own_list_is_read_to_its_end_and_each_is_told_once() {
    let server = Server::start(|request, _| {
        if request.target.contains("page=2") {
            return Reply::new(200, index(&[entry(b"b", "sbom"), entry(b"a", "signature")]));
        }
        Reply::new(200, index(&[entry(b"a", "signature")])).with("Link", "<?page=2>; rel=\"next\"")
    });
    let found = referrers(&server, "").expect("referrers");
    assert_eq!(types(&found), ["signature", "sbom"]);
    assert_eq!((found[0].digest.to_string(), found[0].size_bytes), (digest(b"a"), 3));
    assert_eq!(found[0].annotations["k"], "v");
    assert_eq!(server.requests()[0].target, format!("/v2/a/b/referrers/{}", digest(b"subject")));
}

#[test]
fn a_type_is_asked_for_and_filtered_here_where_the_registry_does_not() {
    let server = Server::start(|_, _| Reply::new(200, index(&[entry(b"a", "x/y"), entry(b"b", "sbom")])));
    assert_eq!(types(&referrers(&server, "x/y").expect("referrers")), ["x/y"]);
    assert!(
        server.requests()[0].target.ends_with("?artifactType=x%2Fy"),
        "{:?}",
        server.requests()[0].target
    );
}

#[test]
fn without_a_list_of_the_registry_the_one_under_the_tag_is_read() {
    let server = Server::start(|request, _| {
        if request.target.contains("/manifests/sha256-") {
            return Reply::new(200, index(&[entry(b"a", "signature")])).with("Content-Type", INDEX);
        }
        Reply::new(404, "")
    });
    assert_eq!(types(&referrers(&server, "").expect("referrers")), ["signature"]);
    let server = Server::start(|_, _| Reply::new(404, ""));
    assert!(referrers(&server, "").expect("nothing refers to it").is_empty());
}

#[test]
fn what_is_no_list_of_referrers_is_refused() {
    let many: Vec<_> = (0..10_001).map(|n: u32| entry(&n.to_be_bytes(), "x")).collect();
    for (body, reason) in [
        ("<html>".to_owned(), "REGISTRY_PROTOCOL"),
        (r#"{"manifests":[{"mediaType":"m","digest":"sha256:../x","size":1}]}"#.to_owned(), "DIGEST_INVALID"),
        (
            r#"{"manifests":[{"mediaType":"m","digest":"sha256:0","size":-1}]}"#.to_owned(),
            "REGISTRY_PROTOCOL",
        ),
        (index(&many), "LIMIT_EXCEEDED"),
        (format!("{}{}", index(&[]), " ".repeat(4 << 20)), "LIMIT_EXCEEDED"),
    ] {
        let server = Server::start(move |_, _| Reply::new(200, body.clone()));
        assert_eq!(referrers(&server, "").expect_err(reason).reason(), reason);
    }
    let endless = Server::start(|_, earlier| {
        Reply::new(200, index(&[entry(&earlier.to_be_bytes(), "x")]))
            .with("Link", format!("<?{earlier}>; rel=next"))
    });
    assert_eq!(fact(&referrers(&endless, "").expect_err("endless"), "limit"), "pages_max_count");
}

fn search(server: &Server, term: &str, most: u32) -> Result<Vec<SearchHit>, RegistryError> {
    client().search(&server.registry(), term, most, nobody(), &CancelToken::new())
}

fn names(found: &[SearchHit]) -> Vec<&str> {
    found.iter().map(|hit| hit.name.as_str()).collect()
}

#[test]
fn a_registry_that_searches_is_asked_and_its_answer_counts() {
    let server = Server::start(|request, _| {
        if !request.target.starts_with("/v1/search") {
            return Reply::new(500, "");
        }
        let hit =
            r#"{"name":"NAME","description":null,"star_count":3,"is_official":true,"is_automated":false}"#;
        let hits: Vec<_> = ["x", "a/../b", "y", "z"].iter().map(|name| hit.replace("NAME", name)).collect();
        let found = if request.target.contains("none") { String::new() } else { hits.join(",") };
        Reply::new(200, format!(r#"{{"num_results":3,"results":[{found}]}}"#))
    });
    let found = search(&server, "a b&c", 2).expect("hits");
    assert_eq!((names(&found), found[0].star_count, found[0].is_official), (vec!["x", "y"], 3, true));
    assert_eq!(server.requests()[0].target, "/v1/search?q=a+b%26c&n=2");
    assert!(search(&server, "none", 5).expect("an answer").is_empty());
}

#[test]
fn a_registry_that_lists_its_repositories_is_searched_by_name() {
    let server = Server::start(|request, _| match request.target.as_str() {
        "/v2/_catalog?n=1000" => Reply::new(200, r#"{"repositories":["team/App","other"]}"#)
            .with("Link", "</v2/_catalog?last=o>; rel=next"),
        target if target.starts_with("/v2/_catalog") => {
            Reply::new(200, r#"{"repositories":["app","apple"]}"#)
        }
        _ => Reply::new(200, "<html>a page for people</html>"),
    });
    assert_eq!(names(&search(&server, "APP", 10).expect("hits")), ["app", "apple"]);
    assert_eq!(names(&search(&server, "app", 1).expect("hits")), ["app"]);
}

#[test]
fn a_registry_that_offers_neither_says_so_and_limits_are_named() {
    let server = Server::start(|_, _| Reply::new(404, ""));
    assert_eq!(search(&server, "x", 5).expect_err("neither").reason(), "REGISTRY_SEARCH_UNSUPPORTED");
    assert_eq!(fact(&search(&server, "x", 1001).expect_err("many"), "limit"), "search_max_count");
    let denied = Server::start(|request, _| match request.target.as_str() {
        target if target.starts_with("/v2/_catalog") => Reply::new(401, ""),
        _ => Reply::new(404, ""),
    });
    assert_eq!(search(&denied, "x", 5).expect_err("denied").reason(), "REGISTRY_ACCESS_DENIED");
}

#[test]
fn credentials_are_tried_at_the_registry_itself() {
    let server = Server::start(|request, _| {
        let is_right = request.header("authorization") == Some("Basic dXNlcjpyaWdodA==");
        Reply::new(if is_right { 200 } else { 401 }, "{}").with("WWW-Authenticate", "Basic realm=\"x\"")
    });
    let check = |password: &str| {
        let credentials = Credentials::new("user", password, "", "");
        client().check_credentials(&server.registry(), &credentials, &CancelToken::new())
    };
    assert_eq!(check("right"), Ok(()));
    assert_eq!(check("wrong").expect_err("wrong").reason(), "REGISTRY_ACCESS_DENIED");
    assert!(server.requests().iter().all(|request| request.target == "/v2/"));
}
