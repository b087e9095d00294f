//! Starts, ends and signals of real containers.

mod support;

use std::time::{Duration, Instant};

use control::{read_exit_record, ControlError, ExitState};
use errors::Catalogued;
use support::{readable, wait_exit, wait_news, wait_until, Scene, TIMEOUT};

fn metadata(error: &ControlError, key: &str) -> String {
    error.metadata().into_iter().find(|(name, _)| *name == key).map(|(_, value)| value).unwrap_or_default()
}

#[test]
fn exit_codes_and_signals_are_told_apart() {
    let scene = Scene::new();
    for code in [0, 1, 42, 255] {
        let record = scene.run(&format!("exit {code}")).record;
        assert_eq!((record.exit_code(), record.signal()), (Some(code), None));
    }
    let spec = scene.script("sleep 100");
    let supervisor = scene.start(&spec);
    supervisor.signal(9).unwrap();
    let record = scene.finish(&spec, supervisor).record;
    assert_eq!((record.exit_code(), record.signal(), record.oom_kill_count), (None, Some(9), 0));
}

#[test]
fn the_record_on_disk_is_the_one_that_was_told() {
    let scene = Scene::new();
    let spec = scene.script("exit 3");
    let before =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
    let supervisor = scene.start(&spec);
    let told = wait_exit(&supervisor);
    assert_eq!(read_exit_record(&spec.run_dir).unwrap(), Some(told));
    assert!(before <= supervisor.start_time_unix_nanos());
    assert!(supervisor.start_time_unix_nanos() <= told.exit_time_unix_nanos);
    assert_eq!(supervisor.poll_exit().unwrap(), ExitState::Exited(told), "it stays so");
    assert_eq!(supervisor.signal(15).unwrap_err().reason(), "PROCESS_NOT_FOUND");
    scene.finish(&spec, supervisor);
}

#[test]
fn t16_an_oom_kill_is_counted_and_a_plain_kill_is_not() {
    let scene = Scene::new();
    let mut spec = scene.script("head -c 200000000 /dev/zero | tail -c 200000000 > /dev/null; exit 1");
    std::os::unix::fs::symlink("busybox", scene.base.path().join("root/bin/tail")).unwrap();
    spec.limits.memory_limit_bytes = Some(32 << 20);
    spec.limits.memory_swap_limit_bytes = Some(32 << 20);
    let supervisor = scene.start(&spec);
    let record = scene.finish(&spec, supervisor).record;
    assert!(record.oom_kill_count > 0, "{record:?}");
    // C04: a later run begins anew.
    let supervisor = scene.start(&spec);
    supervisor.signal(9).unwrap();
    let record = scene.finish(&spec, supervisor).record;
    assert_eq!((record.signal(), record.oom_kill_count), (Some(9), 0));
}

#[test]
fn t01_a_command_that_cannot_be_executed_is_126_and_one_that_is_not_there_127() {
    let scene = Scene::new();
    std::fs::write(scene.base.path().join("root/bin/plain"), b"text").unwrap();
    for (command, code) in
        [("/bin/nothing", "127"), ("nothing", "127"), ("/bin/plain", "126"), ("/tmp", "126")]
    {
        let spec = scene.spec(&[command]);
        let error = scene.host.start(&spec, &[], None, TIMEOUT).unwrap_err();
        assert_eq!(
            (error.reason(), &*metadata(&error, "exit_code")),
            ("PROCESS_START_FAILED", code),
            "{error}"
        );
        assert!(std::fs::read_dir(&spec.run_dir).unwrap().next().is_none(), "nothing stays");
        assert!(scene.groups.list_groups(&scene.parent).unwrap().is_empty());
    }
}

#[test]
fn a_start_that_cannot_be_prepared_names_what_is_missing() {
    let scene = Scene::new();
    let mut spec = scene.script("true");
    spec.log_dir = scene.base.path().join("no such directory");
    let error = scene.host.start(&spec, &[], None, TIMEOUT).unwrap_err();
    assert_eq!((error.reason(), metadata(&error, "path")), ("IO_FAILED", spec.log_dir.display().to_string()));
    let mut spec = scene.script("true");
    spec.limits.cpuset_cpus = Some("900".to_owned());
    assert_eq!(scene.host.start(&spec, &[], None, TIMEOUT).unwrap_err().reason(), "CGROUP_LIMIT_REJECTED");
    let mut spec = scene.script("true");
    spec.network_mode = "bridge".to_owned();
    assert_eq!(scene.host.start(&spec, &[], None, TIMEOUT).unwrap_err().reason(), "FIELD_INVALID");
    let mut spec = scene.script("true");
    spec.user = "nobody-knows".to_owned();
    assert_eq!(scene.host.start(&spec, &[], None, TIMEOUT).unwrap_err().reason(), "USER_INVALID");
    let mut spec = scene.script("true");
    spec.env.push(format!("BIG={}", "x".repeat(control::wire::MAX_PLAN_BYTES as usize)));
    let error = scene.host.start(&spec, &[], None, TIMEOUT).unwrap_err();
    assert_eq!((error.reason(), &*metadata(&error, "limit")), ("LIMIT_EXCEEDED", "MAX_PLAN_BYTES"));
    assert!(scene.groups.list_groups(&scene.parent).unwrap().is_empty());
}

#[test]
fn stdin_reaches_the_process_and_ends_when_it_is_closed() {
    let scene = Scene::new();
    let mut spec = scene.script("cat");
    spec.open_stdin = true;
    let supervisor = scene.start(&spec);
    let stdin = supervisor.stdin_fd().unwrap().expect("stdin was asked for");
    assert!(rustix::fs::fcntl_getfl(&stdin).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
    rustix::io::write(&stdin, b"over the wire\n").unwrap();
    supervisor.close_stdin().unwrap();
    assert!(supervisor.stdin_fd().unwrap().is_none());
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(supervisor.poll_exit().unwrap(), ExitState::Running, "a client still holds an end");
    drop(stdin);
    supervisor.close_stdin().unwrap();
    let ended = scene.finish(&spec, supervisor);
    assert_eq!(ended.stdout, b"over the wire\n");
}

#[test]
fn without_stdin_the_process_reads_its_end_at_once() {
    let scene = Scene::new();
    let spec = scene.script("cat; echo done");
    let supervisor = scene.start(&spec);
    assert!(supervisor.stdin_fd().unwrap().is_none());
    assert_eq!(scene.finish(&spec, supervisor).stdout, b"done\n");
}

#[test]
fn z04_the_process_has_three_descriptors() {
    let ended = Scene::new().run("ls /proc/1/fd; true");
    // `ls` is process 2, so that its own directory is not counted.
    assert_eq!(ended.text().split_whitespace().collect::<Vec<_>>(), ["0", "1", "2"]);
}

#[test]
fn processes_left_behind_die_with_the_first_and_delay_nothing() {
    let scene = Scene::new();
    let begin = Instant::now();
    let ended = scene.run("sleep 1000 & echo left; exit 4");
    assert_eq!((ended.record.exit_code(), &*ended.text()), (Some(4), "left\n"));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_daemon_that_goes_is_replaced_by_one_that_adopts() {
    let scene = Scene::new();
    let mut spec = scene.script("read line; echo got $line; exit 9");
    spec.open_stdin = true;
    let first = scene.start(&spec);
    let (host_pid, start_time) = (first.host_pid(), first.start_time_unix_nanos());
    drop(first);
    let second = scene.host.adopt(&spec.run_dir).unwrap().expect("it listens");
    assert_eq!((second.host_pid(), second.start_time_unix_nanos()), (host_pid, start_time));
    assert_eq!(second.poll_exit().unwrap(), ExitState::Running);
    let third = scene.host.adopt(&spec.run_dir).unwrap().expect("it serves several");
    let stdin = second.stdin_fd().unwrap().expect("stdin outlives a daemon");
    rustix::io::write(&stdin, b"it\n").unwrap();
    assert_eq!(wait_exit(&third), wait_exit(&second));
    let ended = scene.finish(&spec, second);
    assert_eq!((ended.record.exit_code(), &*ended.text()), (Some(9), "got it\n"));
    assert!(scene.host.adopt(&spec.run_dir).unwrap().is_none(), "nobody listens any more");
}

#[test]
fn adoption_of_what_never_was_finds_nothing() {
    let scene = Scene::new();
    assert!(scene.host.adopt(&scene.base.path().join("absent")).unwrap().is_none());
    let spec = scene.script("true");
    assert!(scene.host.adopt(&spec.run_dir).unwrap().is_none());
}

#[test]
fn more_daemons_than_the_bound_are_turned_away_and_those_within_it_served() {
    let scene = Scene::new();
    let spec = scene.script("sleep 100");
    let first = scene.start(&spec);
    let mut adopted = Vec::new();
    while let Some(supervisor) = scene.host.adopt(&spec.run_dir).unwrap() {
        adopted.push(supervisor);
        assert!(adopted.len() < 100);
    }
    assert_eq!(adopted.len(), 7);
    drop(adopted);
    first.signal(9).unwrap();
    scene.finish(&spec, first);
}

#[test]
fn l_a_killed_supervisor_takes_the_process_with_it_and_is_reported_lost() {
    let scene = Scene::new();
    let spec = scene.script("sleep 1000");
    let supervisor = scene.start(&spec);
    let host_pid = supervisor.host_pid();
    supervisor.kill_supervisor().unwrap();
    supervisor.kill_supervisor().unwrap();
    assert_eq!(wait_news(&supervisor), ExitState::Lost);
    assert_eq!(supervisor.poll_exit().unwrap().as_str(), "lost");
    assert!(supervisor.wait_gone(TIMEOUT).unwrap());
    wait_until("the process dies", || !std::path::Path::new(&format!("/proc/{host_pid}")).exists());
    assert_eq!(read_exit_record(&spec.run_dir).unwrap(), None);
    assert!(scene.host.adopt(&spec.run_dir).unwrap().is_none());
    scene.remove_groups(&spec);
}

#[test]
fn the_supervisor_shows_its_name_and_the_id_and_ignores_what_ends_programs() {
    let scene = Scene::new();
    let spec = scene.script("sleep 1000");
    let supervisor = scene.start(&spec);
    let proc = format!("/proc/{}", supervisor.supervisor_pid());
    let read = |name: &str| std::fs::read(format!("{proc}/{name}")).unwrap();
    assert_eq!(read("comm"), b"fluyt-super\n");
    assert_eq!(read("cmdline"), format!("fluyt-supervisor\0{}\0", spec.container_id).as_bytes());
    assert_eq!(read("environ"), b"");
    assert_eq!(std::fs::read_link(format!("{proc}/cwd")).unwrap(), std::path::Path::new("/"));
    let pid = rustix::process::Pid::from_raw(supervisor.supervisor_pid() as i32).unwrap();
    use rustix::process::{kill_process, Signal};
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::PIPE] {
        kill_process(pid, signal).unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(supervisor.poll_exit().unwrap(), ExitState::Running);
    supervisor.signal(9).unwrap();
    scene.finish(&spec, supervisor);
}

#[test]
fn another_program_is_no_supervisor() {
    for program in ["/bin/true", "/bin/cat", "/bin/echo"] {
        let error = control::SupervisorHost::open(program.as_ref()).unwrap_err();
        assert_eq!(error.reason(), "VERSION_MISMATCH", "{program}");
    }
    assert_eq!(control::SupervisorHost::open("/nowhere".as_ref()).unwrap_err().reason(), "IO_FAILED");
    assert_eq!(control::SupervisorHost::open("/etc/passwd".as_ref()).unwrap_err().reason(), "IO_FAILED");
}

#[test]
fn a_start_that_is_not_done_in_time_leaves_nothing() {
    let scene = Scene::new();
    let spec = scene.script("sleep 1000");
    let error = scene.host.start(&spec, &[], None, Duration::ZERO).unwrap_err();
    assert_eq!(error.reason(), "SUPERVISOR_LOST", "{error}");
    assert!(scene.groups.list_groups(&scene.parent).unwrap().is_empty());
}

fn children() -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .flat_map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
            text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn supervisors_that_wait_serve_the_next_starts_and_end_with_their_host() {
    let scene = Scene::new();
    scene.host.prepare(2, false).unwrap();
    let waiting = children();
    assert!(waiting.len() >= 2);
    let started = scene.start(&scene.script("ls /sys/class/net; sleep 100"));
    assert!(waiting.contains(&(started.supervisor_pid() as i32)));
    let argument = || {
        let cmdline = std::fs::read(format!("/proc/{}/cmdline", started.supervisor_pid())).unwrap();
        cmdline.split(|&byte| byte == 0).nth(1).map(<[u8]>::to_vec).unwrap_or_default()
    };
    let deadline = Instant::now() + TIMEOUT;
    while !argument().starts_with(b"c") {
        assert!(Instant::now() < deadline, "it took no name");
        std::thread::sleep(Duration::from_millis(5));
    }

    // One that something ended is passed over.
    let left: Vec<i32> = waiting.into_iter().filter(|&pid| pid != started.supervisor_pid() as i32).collect();
    for &pid in &left {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        // Other tests' children may be among them; theirs are never idle ones of this host.
        let is_idle = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).is_ok_and(|line| {
            line.split(|&byte| byte == 0).nth(1).is_some_and(|name| name.starts_with(b"----"))
        });
        if is_idle {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            // What has ended and was not reaped yet has no command line.
            let cmdline = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
            wait_until("it ends", || std::fs::read(&cmdline).map_or(true, |line| line.is_empty()));
        }
    }
    let second = scene.start(&scene.script("exit 3"));
    assert_eq!(wait_exit(&second).exit_code(), Some(3));
    started.signal(9).unwrap();
    wait_exit(&started);
}

#[test]
fn a_supervisor_that_waited_gives_a_container_the_network_it_asks_for() {
    let scene = Scene::new();
    let own_network = std::fs::read_link("/proc/self/ns/net").unwrap();
    for (mode, is_hosts) in [("none", false), ("host", true)] {
        scene.host.prepare(1, false).unwrap();
        // It has made its namespace once it waits in recvmsg.
        std::thread::sleep(Duration::from_millis(50));
        let mut spec = scene.script("sleep 100");
        spec.network_mode = mode.to_owned();
        let started = scene.start(&spec);
        let network = std::fs::read_link(format!("/proc/{}/ns/net", started.host_pid())).unwrap();
        assert_eq!(network == own_network, is_hosts, "{mode}");
        let supervisors = std::fs::read_link(format!("/proc/{}/ns/net", started.supervisor_pid())).unwrap();
        assert_eq!(supervisors, own_network);
        started.signal(9).unwrap();
        wait_exit(&started);
    }
}

#[test]
fn z11_the_supervisors_program_cannot_be_written_by_way_of_a_process_that_runs_it() {
    let scene = Scene::new();
    let spec = scene.script("sleep 100");
    let supervisor = scene.start(&spec);
    let program = format!("/proc/{}/exe", supervisor.supervisor_pid());
    // While it runs the kernel refuses to write to it anyhow; after that the mount still does.
    let flags = rustix::fs::statvfs(program.as_str()).unwrap().f_flag;
    assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{flags:?}");
    assert!(std::fs::OpenOptions::new().write(true).open(&program).is_err());
    supervisor.signal(9).unwrap();
    scene.finish(&spec, supervisor);
}

#[test]
fn a_look_ends_with_its_answer_and_is_reaped() {
    use std::os::fd::AsFd;
    let scene = Scene::new();
    let root = std::fs::File::open("/").unwrap();
    for (path, root) in [("/nowhere", None), ("/", None), ("/", Some(root.as_fd()))] {
        let look = scene.host.look(path.as_ref(), root).unwrap();
        assert!(readable(look.fileno(), Instant::now() + TIMEOUT));
    }
    let task = format!("/proc/self/task/{}/children", rustix::thread::gettid().as_raw_nonzero());
    assert_eq!(std::fs::read_to_string(task).unwrap(), "");
}

#[test]
fn a_look_beneath_a_directory_is_led_out_of_it_by_nothing() {
    use std::process::{Command, Stdio};
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), "").unwrap();
    std::os::unix::fs::symlink("/file", root.path().join("inside")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.path().join("outside")).unwrap();
    let answer = |path: &str| {
        let stdin = Stdio::from(std::fs::File::open(root.path()).unwrap());
        let program = support::supervisor_path();
        Command::new(program).args([control::LOOK_BENEATH, path]).stdin(stdin).status().unwrap().code()
    };
    const ENOENT: i32 = 2;
    for (path, code) in
        [("file", 0), ("/inside", 0), ("/../inside", 0), ("outside", ENOENT), ("etc/passwd", ENOENT)]
    {
        assert_eq!(answer(path), Some(code), "{path}");
    }
}
