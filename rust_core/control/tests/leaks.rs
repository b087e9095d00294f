//! After any number of starts, good or bad, this process and the host hold what they held before. A file of its own:
//! other tests in the same process would be counted.

mod support;

use std::collections::BTreeSet;

use control::ExitState;
use support::{wait_news, Scene, TIMEOUT};

#[derive(Debug, PartialEq)]
struct Holdings {
    descriptors: usize,
    mounts: usize,
    children: BTreeSet<u32>,
    groups: Vec<String>,
}

fn holdings(scene: &Scene) -> Holdings {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let children = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flat_map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
            text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
        })
        .collect();
    Holdings { descriptors, mounts, children, groups: scene.groups.list_groups(&scene.parent).unwrap() }
}

fn nothing_is_left_of_starts_and_failures() {
    let scene = Scene::new();
    // The first start opens the cgroup parents and compiles the filters.
    scene.run("true");
    let before = holdings(&scene);
    for _ in 0..5 {
        scene.run("echo x; exit 1");
        scene.host.start(&scene.spec(&["/bin/nothing"]), &[], None, TIMEOUT).unwrap_err();
        scene.host.start(&scene.script("sleep 100"), &[], None, std::time::Duration::ZERO).unwrap_err();
        let mut spec = scene.script("cat");
        spec.open_stdin = true;
        let supervisor = scene.start(&spec);
        drop(scene.host.adopt(&spec.run_dir).unwrap());
        supervisor.kill_supervisor().unwrap();
        assert_eq!(wait_news(&supervisor), ExitState::Lost);
        assert!(supervisor.wait_gone(TIMEOUT).unwrap());
        drop(supervisor);
        scene.remove_groups(&spec);
    }
    assert_eq!(holdings(&scene), before);
}

#[test]
fn nothing_is_left_of_starts_and_failures_one_by_one_and_eight_at_once() {
    nothing_is_left_of_starts_and_failures();
    let scene = Scene::new();
    scene.run("true");
    let before = holdings(&scene);
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let scene = &scene;
            scope.spawn(move || {
                for round in 0..4 {
                    let ended = scene.run(&format!("echo {caller} {round}"));
                    assert_eq!(ended.text(), format!("{caller} {round}\n"));
                }
            });
        }
    });
    assert_eq!(holdings(&scene), before);
}
