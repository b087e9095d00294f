//! What a pull of an image cannot be faster than on this machine: prints how long its layers take to be hashed, to be
//! decompressed, to be hashed again, to be written and to be made durable, each step alone and on one processor.
//!
//! `floor LAYOUT FOLDER`: an OCI layout with one image, and a folder on the file system to write to.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use content::{Algorithm, Hasher};
use layer::decompress::Decompressor;

type Failure = Box<dyn std::error::Error>;

const BUFFER_BYTES: usize = 256 * 1024;

fn document(layout: &Path, digest: &str) -> Result<serde_json::Value, Failure> {
    let hex = digest.strip_prefix("sha256:").ok_or("only sha256 is known")?;
    Ok(serde_json::from_reader(File::open(layout.join("blobs/sha256").join(hex))?)?)
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(layout), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: floor LAYOUT FOLDER".into());
    };
    let (layout, folder) = (Path::new(&layout), Path::new(&folder));
    let index: serde_json::Value = serde_json::from_reader(File::open(layout.join("index.json"))?)?;
    let manifest = document(layout, index["manifests"][0]["digest"].as_str().ok_or("no manifest")?)?;
    let mut seconds = [0.0; 5];
    let mut bytes = [0; 2];
    for (number, layer) in manifest["layers"].as_array().ok_or("no layers")?.iter().enumerate() {
        let hex =
            layer["digest"].as_str().and_then(|text| text.strip_prefix("sha256:")).ok_or("no digest")?;
        let mut blob = Vec::new();
        File::open(layout.join("blobs/sha256").join(hex))?.read_to_end(&mut blob)?;
        bytes[0] += blob.len();
        let mut lap = |step: usize, start: Instant| seconds[step] += start.elapsed().as_secs_f64();

        let start = Instant::now();
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&blob);
        hasher.finish();
        lap(0, start);

        let mut archive = File::create(folder.join(format!("layer-{number}")))?;
        let mut decompressor = Decompressor::new(blob.as_slice()).map_err(|e| format!("{e:?}"))?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut hasher = Hasher::new(Algorithm::Sha256);
        loop {
            let start = Instant::now();
            let read = decompressor.read(&mut buffer).map_err(|e| format!("{e:?}"))?;
            lap(1, start);
            if read == 0 {
                break;
            }
            let start = Instant::now();
            hasher.update(&buffer[..read]);
            lap(2, start);
            let start = Instant::now();
            archive.write_all(&buffer[..read])?;
            lap(3, start);
            bytes[1] += read;
        }
        let start = Instant::now();
        File::create(folder.join(format!("blob-{number}")))?.write_all(&blob)?;
        lap(3, start);
    }
    let start = Instant::now();
    rustix::fs::syncfs(File::open(folder)?)?;
    seconds[4] = start.elapsed().as_secs_f64();
    let steps = ["compressed digests", "inflate", "diff_ids", "write", "sync"];
    for (step, seconds) in steps.iter().zip(seconds) {
        println!("{step:<20}{seconds:>8.3} s");
    }
    let total: f64 = seconds.iter().sum();
    println!("{:<20}{total:>8.3} s, of two processors {:.3} s", "all", total / 2.0);
    println!("{} bytes compressed, {} uncompressed", bytes[0], bytes[1]);
    Ok(())
}
