//! Starts one container's process from a spec in JSON, waits for its end and tells how it ended: what the tests of
//! this crate drive, and the shortest use of its API. `start SPEC.json RESULT.json`; stdio is handed on.

use std::fs;
use std::os::fd::AsFd;

use process::{spawn, Spec, Stdio};
use serde_json::json;
use sys::pidfd::ExitStatus;

fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(spec_path), Some(result_path)) = (args.next(), args.next()) else {
        eprintln!("usage: start SPEC.json RESULT.json");
        std::process::exit(2);
    };
    let text = fs::read(spec_path).expect("the spec can be read");
    let spec: Spec = serde_json::from_slice(&text).expect("the spec is one");
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let stdio =
        Stdio { stdin: Some(stdin.as_fd()), stdout: Some(stdout.as_fd()), stderr: Some(stderr.as_fd()) };
    let users =
        spec.ids.map(|ids| sys::user_namespace::create(ids.first_id, ids.count).expect("a namespace"));
    let result = match spawn(&spec, stdio, None, users.as_ref().map(AsFd::as_fd), &[]) {
        Ok(init) => match sys::pidfd::wait(&init.pidfd).expect("our child") {
            ExitStatus::Exited(code) => json!({"exit_code": code, "clamps": init.clamps}),
            ExitStatus::Killed(signal) => json!({"signal": signal, "clamps": init.clamps}),
        },
        Err(failure) => json!({"failure": failure, "text": failure.to_string()}),
    };
    fs::write(result_path, result.to_string()).expect("the result can be written");
}
