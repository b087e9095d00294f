//! Blobs on their way in: resumed, verified, one writer each, nothing wrong ever visible.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};

use content::{Algorithm, ContentError, ContentStore, Digest, OpenedIngest, StagedBlob, UnnamedBlob};
use errors::Catalogued;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::support::{sha256, Scratch};

#[test]
fn a_blob_gets_its_name_once_it_is_whole_and_takes_the_place_of_a_partial_one() {
    let scratch = Scratch::new();
    let data: Vec<u8> = (0..700_000u32).map(|n| (n / 3) as u8).collect();
    let mut partial = scratch.ingest(&data);
    partial.append(&data[..10]).unwrap();
    drop(partial);
    let write = || {
        let mut blob = UnnamedBlob::begin(&scratch.store).unwrap();
        data.chunks(100_000).for_each(|piece| blob.append(piece).unwrap());
        blob
    };
    drop(write());
    assert_eq!(scratch.store.list_ingests().unwrap()[0].offset_bytes, 10, "a dropped one leaves nothing");
    for is_new in [true, false] {
        let staged = StagedBlob { digest: sha256(&data), size_bytes: 700_000, is_new };
        assert_eq!(write().stage(&scratch.store, &|| false).unwrap(), staged);
        assert!(scratch.store.list_ingests().unwrap()[0].is_complete);
    }
    scratch.store.publish(&[sha256(&data)]).unwrap();
    assert!(scratch.store.verify(&sha256(&data)).unwrap());
    write().stage(&scratch.store, &|| false).unwrap();
    assert!(scratch.store.list_ingests().unwrap().is_empty(), "what is visible is not staged again");
}

#[test]
fn a_partial_blob_is_resumed_where_it_stopped() {
    let scratch = Scratch::new();
    let data: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
    let mut ingest = scratch.ingest(&data);
    ingest.append(&data[..300_000]).unwrap();
    drop(ingest);
    let known = scratch.store.list_ingests().unwrap();
    assert_eq!((known[0].offset_bytes, known[0].is_complete), (300_000, false));
    let mut ingest = scratch.ingest(&data);
    assert_eq!(ingest.offset_bytes(), 300_000);
    let mut replayed = Vec::new();
    let mut buffer = [0; 70_000];
    loop {
        let read = ingest.replay(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        replayed.extend_from_slice(&buffer[..read]);
    }
    assert_eq!(replayed, data[..300_000]);
    ingest.append(&data[300_000..]).unwrap();
    ingest.complete().unwrap();
    scratch.store.publish(&[sha256(&data)]).unwrap();
    assert_eq!(scratch.store.read(&sha256(&data), 1 << 20).unwrap(), data);
    assert!(scratch.store.list_ingests().unwrap().is_empty());
}

#[test]
fn what_was_there_is_hashed_even_if_nobody_asked_for_it() {
    let scratch = Scratch::new();
    scratch.ingest(b"hello world").append(b"hello").unwrap();
    let mut ingest = scratch.ingest(b"hello world");
    ingest.append(b" world").unwrap();
    ingest.complete().unwrap();
}

#[test]
fn r06_a_short_blob_is_never_whole_and_stays_to_be_resumed() {
    let scratch = Scratch::new();
    for written in [&b""[..], b"half"] {
        let mut ingest = scratch.ingest(b"half and half");
        ingest.restart().unwrap();
        ingest.append(written).unwrap();
        let error = ingest.complete().unwrap_err();
        assert!(matches!(error, ContentError::SizeMismatch { expected_bytes: 13, .. }), "{error}");
        assert!(matches!(
            scratch.store.publish(&[sha256(b"half and half")]),
            Err(ContentError::BlobNotFound { .. })
        ));
    }
    assert_eq!(scratch.ingest(b"half and half").offset_bytes(), 4);
    assert_eq!(scratch.store.stat(&sha256(b"")).unwrap(), None);
}

#[test]
fn r07_an_answer_from_byte_0_starts_over() {
    let scratch = Scratch::new();
    scratch.ingest(b"abcdef").append(b"abc").unwrap();
    let mut ingest = scratch.ingest(b"abcdef");
    ingest.restart().unwrap();
    ingest.append(b"abcdef").unwrap();
    ingest.complete().unwrap();
}

#[test]
fn more_bytes_than_announced_are_refused_before_they_are_written() {
    let scratch = Scratch::new();
    let mut ingest = scratch.ingest(b"abc");
    ingest.append(b"ab").unwrap();
    let error = ingest.append(b"cd").unwrap_err();
    assert!(
        matches!(error, ContentError::SizeMismatch { expected_bytes: 3, actual_bytes: 4, .. }),
        "{error}"
    );
    assert_eq!(ingest.offset_bytes(), 2);
}

#[test]
fn wrong_bytes_are_dropped_and_a_retry_succeeds() {
    let scratch = Scratch::new();
    let mut ingest = scratch.ingest(b"right");
    ingest.append(b"wrong").unwrap();
    let error = ingest.complete().unwrap_err();
    assert_eq!(error.reason(), "DIGEST_MISMATCH");
    assert!(error.metadata().contains(&("actual", sha256(b"wrong").to_string())));
    let mut ingest = scratch.ingest(b"right");
    assert_eq!(ingest.offset_bytes(), 0);
    ingest.append(b"right").unwrap();
    ingest.complete().unwrap();
}

#[test]
fn r15_of_many_callers_one_fetches() {
    let scratch = Scratch::new();
    let data = vec![7; 500_000];
    let fetched = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| match scratch.store.open_ingest(&sha256(&data), 500_000, &|| false).unwrap() {
                OpenedIngest::Present { size_bytes } => assert_eq!(size_bytes, 500_000),
                OpenedIngest::Writing(mut ingest) => {
                    fetched.fetch_add(1, Ordering::Relaxed);
                    ingest.append(&data).unwrap();
                    ingest.complete().unwrap();
                }
            });
        }
    });
    assert_eq!(fetched.load(Ordering::Relaxed), 1);
}

#[test]
fn waiting_for_another_writer_can_be_cancelled_and_its_blob_is_not_deleted() {
    let scratch = Scratch::new();
    let mut ingest = scratch.ingest(b"data");
    ingest.append(b"da").unwrap();
    let error = scratch.store.open_ingest(&sha256(b"data"), 4, &|| true).unwrap_err();
    assert_eq!(error.reason(), "CANCELLED");
    scratch.store.delete_ingest(&sha256(b"data")).unwrap();
    ingest.append(b"ta").unwrap();
    ingest.complete().unwrap();
    assert!(scratch.is_present(b"data"));
    scratch.store.delete_ingest(&sha256(b"data")).unwrap();
    scratch.store.delete_ingest(&sha256(b"data")).unwrap();
    assert!(!scratch.is_present(b"data"));
}

#[test]
fn a_blob_staged_before_the_last_boot_is_hashed_again() {
    for (data, is_kept) in [(&b"kept"[..], true), (b"lost", false)] {
        let scratch = Scratch::new();
        let digest = scratch.store.stage_bytes(data, None).unwrap();
        let folder = scratch.root.path().join("ingest").join(digest.hex());
        std::fs::write(folder.join("complete"), "another-boot").unwrap();
        if !is_kept {
            std::fs::write(folder.join("data"), "\0\0\0\0").unwrap();
        }
        assert!(!scratch.store.list_ingests().unwrap()[0].is_complete);
        assert_eq!(scratch.store.publish(std::slice::from_ref(&digest)).is_ok(), is_kept);
        assert_eq!(scratch.store.stat(&digest).unwrap().is_some(), is_kept);
    }
}

#[test]
fn a_full_disk_is_an_error_of_its_own_and_what_was_written_can_go_on() {
    let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    rustix::mount::fsconfig_set_string(&fs, "size", "1m").unwrap();
    rustix::mount::fsconfig_create(&fs).unwrap();
    let mount = rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
    let path = format!("/proc/self/fd/{}/", std::os::fd::AsRawFd::as_raw_fd(&mount));
    let store = ContentStore::open(path.as_ref()).unwrap();
    let data = vec![1; 4 << 20];
    let OpenedIngest::Writing(mut ingest) =
        store.open_ingest(&sha256(&data), data.len() as u64, &|| false).unwrap()
    else {
        panic!("the store is new");
    };
    let error = ingest.append(&data).unwrap_err();
    assert_eq!(error.reason(), "STORAGE_FULL");
    assert!(error.metadata().iter().any(|(key, value)| *key == "path" && value.ends_with("/data")));
    assert!(ingest.offset_bytes() > 0);
    drop(ingest);
    assert!(store.list().unwrap().is_empty());
    assert_eq!(store.stage_bytes(&data[..(2 << 20)], None).unwrap_err().reason(), "STORAGE_FULL");
    store.delete_ingest(&sha256(&data)).unwrap();
}

#[test]
fn sha512_blobs_have_a_folder_of_their_own() {
    let scratch = Scratch::new();
    let digest = Digest::of(Algorithm::Sha512, b"data");
    scratch.store.stage_bytes(b"data", Some(&digest)).unwrap();
    scratch.store.publish(std::slice::from_ref(&digest)).unwrap();
    assert_eq!(scratch.store.read(&digest, 10).unwrap(), b"data");
    assert_eq!(scratch.store.list().unwrap()[0].digest, digest);
    assert!(scratch.root.path().join("content/blobs/sha512").join(digest.hex()).is_file());
}

#[test]
fn staged_blobs_are_read_and_stay_readable_while_published() {
    let scratch = Scratch::new();
    let digest = scratch.store.stage_bytes(b"data", None).unwrap();
    assert_eq!(scratch.store.read(&digest, 10).unwrap(), b"data");
    let mut blob = scratch.store.open_blob(&digest).unwrap();
    let flags = rustix::io::fcntl_getfd(&blob.file).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    scratch.store.publish(std::slice::from_ref(&digest)).unwrap();
    assert_eq!(scratch.store.delete(&digest).unwrap(), 4);
    let mut text = String::new();
    blob.file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "data");
}
