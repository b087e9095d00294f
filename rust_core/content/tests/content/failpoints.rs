//! The process dies at each failpoint: what is left is whole or absent, and the same work succeeds afterwards.

use std::path::PathBuf;
use std::process::Command;

use content::{ContentStore, UnnamedBlob};

use crate::support::sha256;

const VARIABLE: &str = "FLUYT_TEST_CONTENT_ROOT";
const BLOBS: [&[u8]; 2] = [b"one", b"two"];

fn work(store: &ContentStore) {
    let digests: Vec<_> = BLOBS.iter().map(|data| store.stage_bytes(data, None).unwrap()).collect();
    store.delete_ingest(&stage_unnamed(store, b"three")).unwrap();
    store.stage_bytes(b"dropped", None).unwrap();
    store.delete_ingest(&sha256(b"dropped")).unwrap();
    store.publish(&digests).unwrap();
    store.write_index(br#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    store.delete(&digests[0]).unwrap();
}

fn stage_unnamed(store: &ContentStore, data: &[u8]) -> content::Digest {
    let mut blob = UnnamedBlob::begin(store).unwrap();
    blob.append(data).unwrap();
    blob.stage(store, &|| false).unwrap().digest
}

#[test]
fn a_death_at_any_failpoint_leaves_only_whole_blobs() {
    if let Ok(root) = std::env::var(VARIABLE) {
        work(&ContentStore::open(&PathBuf::from(root)).unwrap());
        return;
    }
    for (failpoint, count) in [
        ("content.ingest.open", 4),
        ("content.ingest.complete", 4),
        ("content.ingest.delete", 2),
        ("content.unnamed.stage", 1),
        ("content.publish.sync", 1),
        ("content.publish.rename", 2),
        ("content.index.rename", 3),
        ("content.delete", 1),
    ] {
        for at in 1..=count {
            let root = tempfile::tempdir().unwrap();
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "failpoints::a_death_at_any_failpoint_leaves_only_whole_blobs"])
                .env(VARIABLE, root.path())
                .env(sys::failpoint::VARIABLE, format!("{failpoint}:{at}"))
                .output()
                .unwrap()
                .status;
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{failpoint}:{at}");
            let store = ContentStore::open(root.path()).unwrap();
            for blob in store.list().unwrap() {
                assert!(store.verify(&blob.digest).unwrap(), "{failpoint}:{at}");
            }
            let index = std::fs::read_to_string(root.path().join("content/index.json")).unwrap();
            assert!(index.starts_with('{') && index.ends_with('}'));
            work(&store);
            assert_eq!(store.list().unwrap().len(), 1, "{failpoint}:{at}");
            assert!(store.list_ingests().unwrap().is_empty(), "{failpoint}:{at}");
        }
    }
}
