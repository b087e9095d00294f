//! Manifests that must be refused, and those that must not.

use super::*;
use proptest::prelude::*;
use serde_json::{json, Value};

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn descriptor() -> Value {
    json!({"mediaType": "x", "digest": format!("sha256:{HEX}"), "size": 1})
}

fn image() -> Value {
    json!({"schemaVersion": 2, "mediaType": IMAGE_TYPES[0], "config": descriptor(), "layers": [descriptor()]})
}

fn index() -> Value {
    json!({"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": [descriptor()]})
}

fn verdict(body: &Value, header: Option<&str>) -> Result<String, &'static str> {
    check(body.to_string().as_bytes(), header, "r/x:v").map_err(|error| match error {
        RegistryError::ManifestInvalid { rule, .. } => rule,
        RegistryError::LimitExceeded { limit, .. } => limit,
        _ => "another error",
    })
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

#[test]
fn sound_manifests_of_all_four_types_pass() {
    for media_type in IMAGE_TYPES {
        let body = with(image(), "mediaType", json!(media_type));
        assert_eq!(verdict(&body, Some(media_type)).as_deref(), Ok(media_type));
    }
    for media_type in INDEX_TYPES {
        let body = with(index(), "mediaType", json!(media_type));
        assert_eq!(verdict(&body, Some(&format!("{media_type}; charset=utf-8"))).as_deref(), Ok(media_type));
    }
    assert!(verdict(&image(), None).is_ok());
}

#[test]
fn r01_a_manifest_of_both_kinds_is_refused_under_each_type() {
    for key in ["config", "layers"] {
        let value = if key == "layers" { json!([]) } else { descriptor() };
        assert_eq!(
            verdict(&with(index(), key, value), Some(INDEX_TYPES[0])),
            Err("is both an image and an index")
        );
    }
    let both = with(with(image(), "manifests", json!([])), "mediaType", Value::Null);
    for header in IMAGE_TYPES.iter().chain(&INDEX_TYPES) {
        assert_eq!(verdict(&both, Some(header)), Err("is both an image and an index"));
    }
}

#[test]
fn r01_keys_that_other_readers_would_take_for_the_same_are_refused() {
    // The long s and the sign of kelvin are letters of ASCII to readers in Go.
    for key in ["Manifests", "MANIFESTS", "manife\u{17f}ts", "LAYER\u{17f}", "\u{17f}ubject"] {
        let body = with(image(), key, json!([]));
        assert_eq!(
            verdict(&body, None),
            Err("has a key that differs from a known one by case only"),
            "{key}"
        );
    }
    for key in ["manifest", "manifest\u{15b}", "layers\u{17f}"] {
        assert!(verdict(&with(image(), key, json!([])), None).is_ok(), "{key}");
    }
    let twice = image().to_string().replacen('{', r#"{"layers":[],"#, 1);
    assert!(check(twice.as_bytes(), None, "x").is_err());
}

#[test]
fn r02_header_and_body_must_agree_and_a_silent_body_may_pass() {
    let rule = "header and body disagree on the media type";
    assert_eq!(verdict(&image(), Some(INDEX_TYPES[0])), Err(rule));
    assert_eq!(verdict(&index(), Some(IMAGE_TYPES[0])), Err(rule));
    assert_eq!(verdict(&image(), Some("application/json")), Err(rule));
    let silent = with(image(), "mediaType", Value::Null);
    assert!(verdict(&silent, Some(IMAGE_TYPES[0])).is_ok());
    assert_eq!(verdict(&silent, Some(INDEX_TYPES[0])), Err("an index has no manifests"));
    assert_eq!(verdict(&silent, None), Err("has no media type"));
}

#[test]
fn r04_malformed_digests_anywhere_are_refused() {
    let bad = [
        "sha256:../../x".to_owned(),
        "sha256:".to_owned(),
        String::new(),
        format!("sha256:{}", &HEX[1..]),
        format!("sha256:{}", HEX.to_uppercase()),
        format!("md5:{}", &HEX[..32]),
        format!("sha256:{HEX}/../x"),
    ];
    for digest in bad {
        let wrong = json!({"mediaType": "x", "digest": digest, "size": 1});
        for body in [
            with(image(), "layers", json!([descriptor(), wrong])),
            with(image(), "config", wrong.clone()),
            with(image(), "subject", wrong.clone()),
            with(index(), "manifests", json!([wrong])),
        ] {
            assert_eq!(verdict(&body, None), Err("a digest is malformed"), "{digest}");
        }
    }
}

#[test]
fn sizes_are_non_negative_integers() {
    for size in [json!(-1), json!(1.5), json!(1e3), json!(u64::MAX), Value::Null] {
        let wrong = json!({"digest": format!("sha256:{HEX}"), "size": size});
        let found = verdict(&with(image(), "layers", json!([wrong])), None);
        assert_eq!(found, Err("a size is not a non-negative integer"), "{size}");
    }
    let text = json!({"digest": format!("sha256:{HEX}"), "size": "1"});
    assert!(verdict(&with(image(), "layers", json!([text])), None).is_err());
}

#[test]
fn too_many_descriptors_name_the_limit() {
    let many = vec![descriptor(); DESCRIPTOR_MAX_COUNT as usize + 1];
    assert_eq!(verdict(&with(image(), "layers", json!(many)), None), Err("descriptor_max_count"));
    assert_eq!(verdict(&with(index(), "manifests", json!(many)), None), Err("descriptor_max_count"));
}

#[test]
fn other_documents_are_refused() {
    let old = json!({"schemaVersion": 1, "fsLayers": [], "history": []});
    assert!(verdict(&old, Some("application/vnd.docker.distribution.manifest.v1+prettyjws")).is_err());
    assert!(verdict(&with(image(), "schemaVersion", json!(1)), None).is_err());
    assert!(verdict(&with(image(), "mediaType", json!("text/html")), None).is_err());
    for body in [&b""[..], b"[]", b"null", b"{", b"{}{}", b"\xff", b"{}"] {
        assert!(check(body, Some(IMAGE_TYPES[0]), "x").is_err());
    }
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = check(&body, None, "x");
    }
}
