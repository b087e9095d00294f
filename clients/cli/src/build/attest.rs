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
    pub manifest_descriptor_annotations: BTreeMap<String, String>,
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

/// `[manifest:|index:|manifest-descriptor:][...]NAME=VALUE`, several places divided by commas; without one it is the
/// manifest's.
///
/// Source: docker buildx build, `--annotation`.
fn annotate(wishes: &mut Wishes, text: &str) -> Result<(), Failure> {
    let help = "write NAME=VALUE, manifest:NAME=VALUE, index:NAME=VALUE or manifest-descriptor:NAME=VALUE";
    let (place, rest) = match text.split_once(':') {
        Some((place, rest)) if is_place(place) => (place, rest),
        _ => ("manifest", text),
    };
    let (name, value) =
        rest.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| usage(text, help))?;
    for one in place.split(',') {
        let all = match one {
            "manifest" => &mut wishes.annotations,
            "index" => &mut wishes.index_annotations,
            "manifest-descriptor" => &mut wishes.manifest_descriptor_annotations,
            // The index has no descriptor but in an archive, and a platform of its own none is annotated for.
            _ => return Err(usage(&format!("{one}:"), help)),
        };
        all.insert(name.to_owned(), value.to_owned());
    }
    Ok(())
}

/// Whether every part is one of Docker's places, with or without a platform.
fn is_place(text: &str) -> bool {
    text.split(',').all(|one| {
        let kind = one.split_once('[').map_or(one, |(kind, _)| kind);
        matches!(kind, "manifest" | "index" | "manifest-descriptor" | "index-descriptor")
    })
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
    fn annotations_have_a_place() {
        let mut wishes = Wishes::default();
        for text in ["a=1", "index:b=2", "manifest,index:c=3=4", "org.example:d=5"] {
            annotate(&mut wishes, text).unwrap();
        }
        let names = |all: &BTreeMap<String, String>| all.keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(names(&wishes.annotations), "a c org.example:d");
        assert_eq!(names(&wishes.index_annotations), "b c");
        assert_eq!(wishes.annotations["c"], "3=4");
        annotate(&mut wishes, "manifest-descriptor,index:e=5").unwrap();
        assert_eq!(names(&wishes.manifest_descriptor_annotations), "e");
        assert_eq!(names(&wishes.index_annotations), "b c e");
        for wrong in ["a", "=1", "index:=1", "index-descriptor:a=1", "manifest[linux/amd64]:a=1"] {
            assert!(annotate(&mut wishes, wrong).is_err(), "{wrong}");
        }
    }
}
