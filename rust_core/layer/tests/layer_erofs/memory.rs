//! A layer of very many entries: it is stored whole, and what it takes in memory is what its limit says.

use std::process::Command;
use std::sync::atomic::AtomicU64;

use layer::{LayerError, Limits};

use crate::image::{request, Image};
use crate::tar_writer::{header, Item};

const VARIABLE: &str = "FLUYT_TEST_LAYER_ENTRIES";

/// An archive of `count` empty files in directories of a thousand, made while it is read.
struct Many {
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
                    header(&Item::file(format!("dir-{}/file-{number}", number / 1000), ""), b'0')
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
    if let Ok(count) = std::env::var(VARIABLE) {
        let count = count.parse().unwrap();
        let image = Image::new();
        let before = peak_kib();
        let (limits, progress) = (Limits::default(), AtomicU64::new(0));
        let source = Many { count, next: 0, block: Vec::new() };
        let info = image.store.open_import().unwrap().write(source, &request(&limits, &progress)).unwrap();
        assert_eq!(info.entry_count, count);
        println!("peak {} KiB", peak_kib() - before);
        return;
    }
    let count = 200_000;
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::a_layer_of_many_entries_takes_little_memory", "--nocapture"])
        .env(VARIABLE, count.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let peak = text.split_once("peak ").and_then(|(_, rest)| rest.split_once(" KiB"));
    let peak: u64 = peak.unwrap_or_else(|| panic!("{text}")).0.parse().unwrap();
    // 120 bytes an entry, with its name, and buffers of a fixed size.
    assert!(peak * 1024 < count * 150 + (8 << 20), "{peak} KiB for {count} entries");
}

#[test]
fn entries_beyond_the_memory_limit_are_refused() {
    let image = Image::new();
    let (limits, progress) = (Limits { pending_bytes: 1 << 20, ..Limits::default() }, AtomicU64::new(0));
    let source = Many { count: 20_000, next: 0, block: Vec::new() };
    let error = image.store.open_import().unwrap().write(source, &request(&limits, &progress)).unwrap_err();
    assert!(matches!(error, LayerError::LimitExceeded { limit: "pending_bytes", .. }), "{error}");
    assert_eq!(image.folders(), Vec::<String>::new());
}
