//! Starts idle containers and prints what the supervisors hold in memory.
//!
//! ```text
//! FLUYT_SUPERVISOR=… cargo run -p fluyt-control --example idle_memory -- [COUNT]
//! ```

#[path = "../tests/support/mod.rs"]
mod support;

use support::Scene;

fn main() {
    let count: usize = std::env::args().nth(1).map_or(50, |text| text.parse().expect("a number"));
    let scene = Scene::new();
    let running: Vec<_> = (0..count)
        .map(|_| {
            let spec = scene.script("echo ready; sleep 1000; true");
            (scene.start(&spec), spec)
        })
        .collect();
    // Buffers go back after a second without output.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let of = |pid: u32, field: &str| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it lives");
        let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    for field in ["Pss:", "Pss_Anon:", "Pss_File:", "Rss:"] {
        let values: Vec<u64> =
            running.iter().map(|(supervisor, _)| of(supervisor.supervisor_pid(), field)).collect();
        let (sum, most) = (values.iter().sum::<u64>(), values.iter().max().copied().unwrap_or(0));
        println!("{field:10} mean {:5} KiB   most {most:5} KiB", sum / values.len().max(1) as u64);
    }
    for (supervisor, spec) in running {
        supervisor.signal(9).expect("it is killed");
        scene.finish(&spec, supervisor);
    }
}
