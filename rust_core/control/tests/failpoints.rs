//! The supervisor killed at each of its steps: the daemon is told, and nothing is left. A file of its own: the
//! environment that arms a failpoint is the whole process's.

mod support;

use control::ExitState;
use errors::Catalogued;
use support::{wait_news, wait_until, Scene, TIMEOUT};

#[test]
fn a_supervisor_killed_at_any_step_leaves_no_process_and_no_group() {
    let scene = Scene::new();
    for step in ["supervisor.before_spawn", "supervisor.after_spawn", "supervisor.before_started"] {
        std::env::set_var(sys::failpoint::VARIABLE, step);
        let error = scene.host.start(&scene.script("sleep 1000"), &[], None, TIMEOUT).unwrap_err();
        assert_eq!(error.reason(), "SUPERVISOR_LOST", "{step}");
        assert!(scene.groups.list_groups(&scene.parent).unwrap().is_empty(), "{step}");
    }
    for (step, is_recorded) in
        [("supervisor.before_exit_record", false), ("supervisor.after_exit_record", true)]
    {
        std::env::set_var(sys::failpoint::VARIABLE, step);
        let spec = scene.script("echo out; exit 5");
        let supervisor = scene.start(&spec);
        match wait_news(&supervisor) {
            ExitState::Exited(record) => assert!(is_recorded && record.exit_code() == Some(5)),
            state => assert!(!is_recorded && state == ExitState::Lost),
        }
        assert_eq!(support::output(&spec.log_dir, logs::Stream::Stdout), b"out\n", "{step}");
        assert!(supervisor.wait_gone(TIMEOUT).unwrap());
        scene.remove_groups(&spec);
    }
    std::env::remove_var(sys::failpoint::VARIABLE);
    wait_until("no group", || scene.groups.list_groups(&scene.parent).unwrap().is_empty());
    assert_eq!(scene.run("exit 6").record.exit_code(), Some(6));
}
