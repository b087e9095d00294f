//! Stores one layer blob in a data root and prints how long each step took, for comparison of the kinds of store and
//! with other extractors.
//!
//! `apply BLOB DATA_ROOT [directory|erofs]`: the data root should lie on a file system made for the run, since ext4
//! makes files up to ten times slower for minutes after thousands were removed.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use layer::{LayerId, LayerStore, Limits, OpenedStage, StageRequest};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(blob), Some(root)) = (arguments.next(), arguments.next()) else {
        return Err("usage: apply BLOB DATA_ROOT [directory|erofs]".into());
    };
    let kind = arguments.next().unwrap_or_else(|| "directory".into());
    let layers = LayerStore::open(root.as_ref(), &kind.to_string_lossy())?;
    let (limits, progress) = (Limits::default(), AtomicU64::new(0));
    let request = StageRequest {
        subject: "the blob",
        expected_diff_id: None,
        limits: &limits,
        finish: None,
        progress: &progress,
        is_cancelled: &|| false,
    };
    let mut start = Instant::now();
    let mut lap = |what: &str| {
        println!("{what:<24}{:>9.1} ms", start.elapsed().as_secs_f64() * 1e3);
        start = Instant::now();
    };
    let info = layers.open_import()?.write(std::fs::File::open(blob)?, &request)?;
    lap("stored");
    let layer_id = info.layer_id.clone();
    layers.publish(std::slice::from_ref(&layer_id))?;
    lap("synced and visible");
    let path = layers.lower_path(&layer_id)?;
    std::fs::read_dir(&path)?.count();
    lap("first use");
    let again = LayerId::from_chain_id(&info.diff_id);
    if let OpenedStage::Writing(stage) = layers.open_stage(&again, &|| false)? {
        if stage.rewrite(&layer_id, &request)?.is_some() {
            lap("index made again");
            layers.delete_staged(again.as_str())?;
            lap("index removed");
        }
    }
    layers.delete(&layer_id)?;
    lap("removed");
    println!(
        "{} entries, {} bytes of files, {} bytes stored, {}",
        info.entry_count, info.size_bytes, info.stored_bytes, info.diff_id
    );
    Ok(())
}
