//! Stores one layer blob in a data root and prints how long that took, for comparison with other extractors.
//!
//! `apply BLOB DATA_ROOT`: the data root should lie on a file system made for the run, since ext4 makes files up to ten
//! times slower for minutes after thousands were removed.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use layer::{LayerStore, Limits, StageRequest};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(blob), Some(root)) = (arguments.next(), arguments.next()) else {
        return Err("usage: apply BLOB DATA_ROOT".into());
    };
    let layers = LayerStore::open(root.as_ref(), "directory")?;
    let progress = AtomicU64::new(0);
    let request = StageRequest {
        subject: "the blob",
        expected_diff_id: None,
        limits: &Limits::default(),
        finish: None,
        progress: &progress,
        is_cancelled: &|| false,
    };
    let start = Instant::now();
    let info = layers.open_import()?.write(std::fs::File::open(blob)?, &request)?;
    let millis = start.elapsed().as_millis();
    println!(
        "{millis} ms, {} entries, {} bytes of files, {}",
        info.entry_count, info.size_bytes, info.diff_id
    );
    Ok(())
}
