//! Plugins are executed within their bounds, one at a time with one file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use network::plugin::{End, Ended, Execution, MAX_ERROR_BYTES};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fluyt-plugin-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn script(&self, text: &str) -> PathBuf {
        let path = self.0.join("plugin");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        path
    }

    fn run(&self, program: &Path, input: &[u8], timeout: Duration) -> Ended {
        let environment = vec![("CNI_COMMAND".to_owned(), "ADD".to_owned())];
        let input_path = self.0.join("input");
        let execution = Execution {
            program,
            environment: &environment,
            input,
            input_path: &input_path,
            timeout,
            max_output_bytes: 100_000,
        };
        execution.run().expect("executed")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn it_reads_its_input_and_has_the_environment_that_was_given_alone() {
    let place = Place::new("input");
    let script = place.script("/bin/cat; echo said >&2; /usr/bin/env; exit 3");
    let long = "x".repeat(70_000);
    let ended = place.run(&script, long.as_bytes(), LONG);
    assert_eq!((ended.end, ended.errors.as_slice()), (End::Exited(3), &b"said\n"[..]));
    let text = String::from_utf8(ended.output).expect("text");
    let environment = text.strip_prefix(&long).expect("all of its input, whatever a pipe holds");
    let mut names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    names.retain(|name| !["PWD", "_", "SHLVL", "OLDPWD"].contains(name));
    assert_eq!(names, ["CNI_COMMAND"]);
    let shorter = place.run(&script, b"y", LONG);
    assert!(
        shorter.output.starts_with(b"yCNI") || shorter.output.starts_with(b"yP"),
        "nothing of the one before"
    );
}

#[test]
fn what_takes_too_long_is_killed_with_what_it_started() {
    let place = Place::new("long");
    let marker = place.0.join("marker");
    let script = place.script(&format!("(sleep 3; touch {}) & sleep 100", marker.display()));
    let begin = Instant::now();
    assert_eq!(place.run(&script, b"", Duration::from_millis(300)).end, End::TimedOut);
    assert!(begin.elapsed() < Duration::from_secs(3));
    std::thread::sleep(Duration::from_secs(4));
    assert!(!marker.exists());
}

#[test]
fn what_prints_too_much_is_killed_and_what_it_says_of_errors_is_cut() {
    let place = Place::new("much");
    let ended = place.run(&place.script("exec cat /dev/zero"), b"", LONG);
    assert_eq!((ended.end, ended.output.len()), (End::TooLong, 0));
    let noisy = place.script("head -c 1000000 /dev/zero >&2; echo done");
    let ended = place.run(&noisy, b"", LONG);
    assert_eq!((ended.end, ended.output.as_slice()), (End::Exited(0), &b"done\n"[..]));
    assert_eq!(ended.errors.len(), MAX_ERROR_BYTES);
}

#[test]
fn a_program_that_it_leaves_running_keeps_nobody_waiting() {
    let place = Place::new("left");
    let begin = Instant::now();
    let ended = place.run(&place.script("sleep 100 & echo ok"), b"", LONG);
    assert_eq!((ended.end, ended.output.as_slice()), (End::Exited(0), &b"ok\n"[..]));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn one_that_was_killed_tells_the_signal_and_one_that_is_absent_the_errno() {
    let place = Place::new("killed");
    assert_eq!(place.run(&place.script("kill -9 $$"), b"", LONG).end, End::Killed(9));
    let execution = Execution {
        program: &place.0.join("absent"),
        environment: &[],
        input: b"",
        input_path: &place.0.join("input"),
        timeout: LONG,
        max_output_bytes: 10,
    };
    assert_eq!(execution.run().map_err(|error| error.errno()), Err(2));
}

#[test]
fn a_second_one_with_the_same_file_waits_for_the_first() {
    let place = Place::new("second");
    let script = place.script("read line; echo $line begin >> log; sleep 0.3; echo $line end >> log");
    let log = place.0.join("log");
    let text = fs::read_to_string(&script).expect("text").replace("log", &log.display().to_string());
    fs::write(&script, text).expect("written");
    std::thread::scope(|scope| {
        for name in ["a\n", "b\n"] {
            let (place, script) = (&place, &script);
            scope.spawn(move || assert_eq!(place.run(script, name.as_bytes(), LONG).end, End::Exited(0)));
        }
    });
    let lines = fs::read_to_string(&log).expect("both ran");
    let order: Vec<&str> = lines.lines().map(|line| line.split(' ').nth(1).unwrap_or_default()).collect();
    assert_eq!(order, ["begin", "end", "begin", "end"]);
}
