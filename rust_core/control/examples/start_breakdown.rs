//! Starts `/bin/true` in a busybox root many times, each with a supervisor that waits, and prints what each part takes.
//!
//! ```text
//! FLUYT_SUPERVISOR=… TMPDIR=… cargo run -p fluyt-control --example start_breakdown -- [COUNT] [GAP_MILLIS]
//! ```

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use support::{wait_exit, Scene, TIMEOUT};

const STEPS: [&str; 6] =
    ["start", "exit seen", "supervisor gone", "cgroups removed", "directories removed", "all"];

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().map_or(default, |text| text.parse().expect("a number"));
    let (count, gap) = (number(50), Duration::from_millis(number(120)));
    let scene = Scene::new();
    let mut columns: [Vec<f64>; STEPS.len()] = Default::default();
    for _ in 0..count {
        scene.host.prepare(1, false).expect("a supervisor waits");
        std::thread::sleep(gap);
        let marks = run_once(&scene);
        for (column, mark) in marks.windows(2).enumerate() {
            columns[column].push((mark[1] - mark[0]).as_secs_f64() * 1e6);
        }
        columns[STEPS.len() - 1].push((marks[5] - marks[0]).as_secs_f64() * 1e6);
    }
    for (name, column) in STEPS.iter().zip(&mut columns) {
        column.sort_by(f64::total_cmp);
        let at = |share: f64| column[((column.len() - 1) as f64 * share) as usize];
        println!("{name:20} median {:7.0} us   p10 {:7.0}   p90 {:7.0}", at(0.5), at(0.1), at(0.9));
    }
}

fn run_once(scene: &Scene) -> [Instant; 6] {
    let spec = scene.spec(&["/bin/true"]);
    let begin = Instant::now();
    let supervisor = scene.start(&spec);
    let started = Instant::now();
    let record = wait_exit(&supervisor);
    assert_eq!(record.exit_code(), Some(0));
    let exited = Instant::now();
    assert!(supervisor.wait_gone(TIMEOUT).expect("it is waited for"));
    let gone = Instant::now();
    scene.remove_groups(&spec);
    let removed = Instant::now();
    let dir = spec.run_dir.parent().expect("a directory of its own");
    std::fs::remove_dir_all(dir).expect("the directories are removed");
    [begin, started, exited, gone, removed, Instant::now()]
}
