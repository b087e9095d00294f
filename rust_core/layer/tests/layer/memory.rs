//! A layer of very many entries: it is stored whole, and what it takes in memory is what its limit says.

use std::process::Command;
use std::sync::atomic::AtomicU64;

use layer::{LayerError, Limits};

use crate::image::{request, Image};
use crate::tar_writer::{header, Item};

/// A shape and a number of entries, for the process that is measured.
const VARIABLE: &str = "FLUYT_TEST_LAYER_SHAPE";

/// What an archive is made of.
type Shape = fn(u64) -> Item;

/// The shapes, and the bytes an entry takes at most in memory: with its name only where that is a directory's.
const SHAPES: [(&str, Shape, u64); 4] = [
    ("files", |n| Item::file(format!("dir-{}/{}{n}", n / 1000, "long-name-".repeat(8)), ""), 40),
    // In an order that is not that of their bytes.
    ("one-directory", |n| Item::file(format!("all/file-{n}"), ""), 40),
    (
        "links",
        |n| if n == 0 { Item::file("f", "") } else { Item::hardlink(format!("{}/link-{n}", n % 1000), "f") },
        40,
    ),
    (DIRECTORIES, |n| Item::dir(format!("{}/directory-{n}", n % 1000)), 110),
];

const DIRECTORIES: &str = "directories";

/// The shapes that a kind of store takes memory for, with how many entries to try. A layer of directories keeps nothing
/// of files, and of directories only what waits to be written.
fn measured() -> Vec<(&'static str, u64, u64)> {
    if crate::KIND == "directory" {
        return vec![(DIRECTORIES, 50_000, 20)];
    }
    SHAPES.iter().map(|(name, _, entry_bytes)| (*name, 100_000, *entry_bytes)).collect()
}

/// An archive of `count` entries, made while it is read.
struct Many {
    shape: Shape,
    count: u64,
    next: u64,
    block: Vec<u8>,
}

impl std::io::Read for Many {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.block.is_empty() {
            let number = self.next;
            self.next += 1;
            self.block = match number {
                _ if number < self.count => {
                    let item = (self.shape)(number);
                    header(&item, item.kind)
                }
                _ if number < self.count + 2 => vec![0; 512],
                _ => return Ok(0),
            };
        }
        let len = buffer.len().min(self.block.len());
        buffer[..len].copy_from_slice(&self.block[..len]);
        self.block.drain(..len);
        Ok(len)
    }
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_layer_of_many_entries_takes_little_memory() {
    if let Ok(asked) = std::env::var(VARIABLE) {
        let (name, count) = asked.split_once(' ').unwrap();
        let count = count.parse().unwrap();
        let (_, shape, _) = SHAPES.into_iter().find(|(found, ..)| *found == name).unwrap();
        let image = Image::new();
        let before = peak_kib();
        let (limits, progress) = (Limits::default(), AtomicU64::new(0));
        let source = Many { shape, count, next: 0, block: Vec::new() };
        let info = image.store.open_import().unwrap().write(source, &request(&limits, &progress)).unwrap();
        assert_eq!(info.entry_count, count);
        println!("peak {} KiB", peak_kib() - before);
        return;
    }
    for (name, count, entry_bytes) in measured() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::a_layer_of_many_entries_takes_little_memory", "--nocapture"])
            .env(VARIABLE, format!("{name} {count}"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let peak = text.split_once("peak ").and_then(|(_, rest)| rest.split_once(" KiB"));
        let peak: u64 = peak.unwrap_or_else(|| panic!("{name}: {text}")).0.parse().unwrap();
        println!("{name}: {peak} KiB");
        // Beside them are buffers of a fixed size.
        assert!(peak * 1024 < count * entry_bytes + (4 << 20), "{name}: {peak} KiB for {count} entries");
    }
}

#[test]
fn entries_beyond_the_memory_limit_are_refused() {
    let image = Image::new();
    let (limits, progress) = (Limits { pending_bytes: 1 << 20, ..Limits::default() }, AtomicU64::new(0));
    let (name, ..) = measured()[0];
    let (_, shape, _) = SHAPES.into_iter().find(|(found, ..)| *found == name).unwrap();
    let source = Many { shape, count: 20_000, next: 0, block: Vec::new() };
    let error = image.store.open_import().unwrap().write(source, &request(&limits, &progress)).unwrap_err();
    assert!(matches!(error, LayerError::LimitExceeded { limit: "pending_bytes", .. }), "{error}");
    assert_eq!(image.folders(), Vec::<String>::new());
}
