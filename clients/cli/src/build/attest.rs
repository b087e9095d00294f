//! What is attested of an image and annotated on it: `--provenance`, `--sbom`, `--attest`, `--annotation`.

use std::collections::BTreeMap;

use super::flags::BuildCommand;
use crate::api::v1::provenance_spec::{Mode, Version};
use crate::api::v1::ProvenanceSpec;
use crate::failure::Failure;

/// What of it a request carries.
#[derive(Debug, Default, PartialEq)]
pub struct Wishes {
    pub provenance: Option<ProvenanceSpec>,
    pub sbom: bool,
    pub annotations: BTreeMap<String, String>,
    pub index_annotations: BTreeMap<String, String>,
}

/// What the command asks for. `--provenance` and `--sbom` are short for `--attest`, and win over it.
///
/// # Errors
/// A value that is none of Docker's, or that this engine has not.
pub fn wishes(command: &BuildCommand) -> Result<Wishes, Failure> {
    let mut wishes = Wishes::default();
    for text in &command.attest {
        let mut rest = Vec::new();
        let mut kind = None;
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("type", value)) => kind = Some(value),
                _ => rest.push(part),
            }
        }
        match kind {
            Some("provenance") => wishes.provenance = provenance(&rest.join(","))?,
            Some("sbom") => wishes.sbom = sbom(&rest.join(","))?,
            _ => {
                return Err(usage(text, "write type=provenance[,mode=max][,version=v1] or type=sbom"));
            }
        }
    }
    if let Some(text) = &command.provenance {
        wishes.provenance = provenance(text)?;
    }
    if let Some(text) = &command.sbom {
        wishes.sbom = sbom(text)?;
    }
    for text in &command.annotation {
        annotate(&mut wishes, text)?;
    }
    Ok(wishes)
}

fn usage(text: &str, next_step: &str) -> Failure {
    Failure::usage(format!("`{text}` is not known"), next_step)
}

/// `true`, `false`, or `mode=min|max`, `version=v0.2|v1`, `builder-id=URI`, `disabled=true`.
fn provenance(text: &str) -> Result<Option<ProvenanceSpec>, Failure> {
    let mut spec = ProvenanceSpec::default();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        match part.split_once('=').unwrap_or((part, "")) {
            ("true" | "1", "") | ("disabled", "false") => {}
            ("false" | "0", "") | ("disabled", "true") => return Ok(None),
            ("mode", "min") => spec.set_mode(Mode::Min),
            ("mode", "max") => spec.set_mode(Mode::Max),
            ("version", "v0.2") => spec.set_version(Version::V02),
            ("version", "v1") => spec.set_version(Version::V1),
            ("builder-id", value) => value.clone_into(&mut spec.builder_id),
            _ => {
                return Err(usage(part, "write mode=min|max, version=v0.2|v1, builder-id=URI, true or false"))
            }
        }
    }
    Ok(Some(spec))
}

fn sbom(text: &str) -> Result<bool, Failure> {
    match text {
        "" | "true" | "1" | "disabled=false" => Ok(true),
        "false" | "0" | "disabled=true" => Ok(false),
        _ => {
            Err(usage(text, "write true or false: the engine has a generator of its own and takes no other"))
        }
    }
}

/// `[manifest:|index:][...]NAME=VALUE`; without a place it is the manifest's.
fn annotate(wishes: &mut Wishes, text: &str) -> Result<(), Failure> {
    let help = "write NAME=VALUE, manifest:NAME=VALUE or index:NAME=VALUE";
    let (place, rest) = match text.split_once(':') {
        Some((place, rest)) if place.split(',').all(|one| matches!(one, "manifest" | "index")) => {
            (place, rest)
        }
        _ => ("manifest", text),
    };
    let (name, value) =
        rest.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| usage(text, help))?;
    if name.starts_with("manifest-descriptor") || name.starts_with("index-descriptor") {
        return Err(usage(text, help));
    }
    for one in place.split(',') {
        let all = if one == "index" { &mut wishes.index_annotations } else { &mut wishes.annotations };
        all.insert(name.to_owned(), value.to_owned());
    }
    Ok(())
}

/// The reference of `--cache-from` and `--cache-to`.
pub fn parse_cache(text: &str) -> Result<String, String> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let (mut kind, mut reference) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("type", value)) => kind = Some(value),
            Some(("ref", value)) if !value.is_empty() => reference = Some(value),
            // Every step of the build is written, as Docker's mode=max does.
            Some(("mode", "max")) => {}
            _ => return Err(format!("`{part}` is not known: write type=registry,ref=REFERENCE")),
        }
    }
    match (kind, reference) {
        (Some("registry"), Some(reference)) => Ok(reference.to_owned()),
        (Some("registry") | None, _) => Err("write type=registry,ref=REFERENCE".to_owned()),
        (Some(other), _) => {
            Err(format!("type={other} is not built: caches go to a registry (type=registry,ref=REFERENCE)"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provenance_is_written_as_in_docker() {
        for (text, mode, version) in [
            ("", Mode::Unspecified, Version::Unspecified),
            ("true", Mode::Unspecified, Version::Unspecified),
            ("mode=max", Mode::Max, Version::Unspecified),
            ("mode=min,version=v1", Mode::Min, Version::V1),
        ] {
            let spec = provenance(text).unwrap().unwrap();
            assert_eq!((spec.mode(), spec.version()), (mode, version), "{text}");
        }
        assert_eq!(provenance("builder-id=urn:a=b").unwrap().unwrap().builder_id, "urn:a=b");
        for none in ["false", "disabled=true", "mode=max,disabled=true"] {
            assert_eq!(provenance(none).unwrap(), None, "{none}");
        }
        for wrong in ["mode=most", "version=v2", "maybe"] {
            assert!(provenance(wrong).is_err(), "{wrong}");
        }
        assert!(sbom("generator=image").is_err());
    }

    #[test]
    fn caches_are_in_registries() {
        for text in
            ["host/cache:1", "type=registry,ref=host/cache:1", "ref=host/cache:1,mode=max,type=registry"]
        {
            assert_eq!(parse_cache(text).unwrap(), "host/cache:1", "{text}");
        }
        for wrong in
            ["type=local,dest=x", "type=registry", "ref=a", "type=registry,ref=a,mode=min", "type=inline"]
        {
            assert!(parse_cache(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn annotations_have_a_place() {
        let mut wishes = Wishes::default();
        for text in ["a=1", "index:b=2", "manifest,index:c=3=4", "org.example:d=5"] {
            annotate(&mut wishes, text).unwrap();
        }
        let names = |all: &BTreeMap<String, String>| all.keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(names(&wishes.annotations), "a c org.example:d");
        assert_eq!(names(&wishes.index_annotations), "b c");
        assert_eq!(wishes.annotations["c"], "3=4");
        for wrong in ["a", "=1", "index:=1", "manifest-descriptor:a=1"] {
            assert!(annotate(&mut wishes, wrong).is_err(), "{wrong}");
        }
    }
}
