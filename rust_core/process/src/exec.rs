//! Finding the command in the container and becoming it.

use std::ffi::{CStr, CString};

use rustix::fs::{fstat, openat2, FileType, Mode, OFlags, ResolveFlags, CWD};
use rustix::io::Errno;

use crate::at::Outcome;
use crate::failure::{StartFailure, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND};
use crate::step::Step;

/// Where commands are looked for if the environment has no PATH (Docker's default).
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that was found, with all that execve needs.
#[derive(Debug)]
pub(crate) struct Command {
    candidates: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Command {
    /// The command of `args[0]` with the environment, to which HOME is added unless it is there. Call it in the
    /// container, with the rights and in the working directory that the program will have.
    ///
    /// Exit codes are those of a shell: 127 where nothing was found, 126 where something was that cannot be executed.
    pub(crate) fn find(args: &[String], env: &[String], home: &[u8]) -> Outcome<Self> {
        let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
        let name = args.first().map_or("", String::as_str);
        let mut command =
            Self { candidates: Vec::new(), args: c_strings(args)?, env: environment(env, home)? };
        let mut worst: Option<StartFailure> = None;
        for candidate in candidates_of(name, path) {
            let candidate = c_string(candidate.as_bytes())?;
            match check(&candidate) {
                Ok(()) => command.candidates.push(candidate),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                // As execvp(3): another directory may hold one that can be executed.
                Err(errno) => {
                    worst.get_or_insert_with(|| {
                        failure(errno, &candidate, EXIT_NOT_EXECUTABLE, detail(errno))
                    });
                }
            }
        }
        if command.candidates.is_empty() {
            return Err(worst.unwrap_or_else(|| {
                let detail = if name.contains('/') { NOT_FOUND } else { NOT_IN_PATH };
                let failure = StartFailure::kernel(Step::Exec, name, Errno::NOENT);
                failure.with_detail(detail).with_exit_code(EXIT_NOT_FOUND)
            }));
        }
        Ok(command)
    }

    /// This process is the command; the answer is only ever the failure.
    pub(crate) fn execute(&self) -> StartFailure {
        let mut last = StartFailure::rule(Step::Exec, "", NOT_FOUND).with_exit_code(EXIT_NOT_FOUND);
        for candidate in &self.candidates {
            last = match sys::inherited::execute(candidate, &self.args, &self.env) {
                Errno::ACCESS => {
                    failure(Errno::ACCESS, candidate, EXIT_NOT_EXECUTABLE, detail(Errno::ACCESS))
                }
                // It was there a moment ago, so what is missing is what it names.
                Errno::NOENT => return failure(Errno::NOENT, candidate, EXIT_NOT_FOUND, NO_INTERPRETER),
                errno => return failure(errno, candidate, EXIT_NOT_EXECUTABLE, detail(errno)),
            };
        }
        last
    }
}

fn failure(errno: Errno, candidate: &CStr, exit_code: u8, detail: &str) -> StartFailure {
    let path = candidate.to_string_lossy();
    StartFailure::kernel(Step::Exec, path.as_ref(), errno).with_detail(detail).with_exit_code(exit_code)
}

fn environment(env: &[String], home: &[u8]) -> Outcome<Vec<CString>> {
    let mut strings = c_strings(env)?;
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        strings.push(c_string(&[b"HOME=", home].concat())?);
    }
    Ok(strings)
}

fn c_strings(texts: &[String]) -> Outcome<Vec<CString>> {
    texts.iter().map(|text| c_string(text.as_bytes())).collect()
}

const NOT_FOUND: &str = "the command was not found in the container";
const NOT_IN_PATH: &str = "the command was not found in the PATH of the container";
const NO_INTERPRETER: &str = "the file exists, the interpreter that it names does not";

fn detail(errno: Errno) -> &'static str {
    match errno {
        Errno::ACCESS => "the command is a directory, has no execute permission, or lies on a noexec mount",
        Errno::NOEXEC => "the kernel does not know its format: no #! line, or built for another architecture",
        Errno::LOOP => "the command is a link that leads to an open file of a process, or links in a circle",
        Errno::TOOBIG => "arguments and environment are longer than the kernel takes",
        _ => "the command was found and could not be executed",
    }
}

fn candidates_of(name: &str, path: &str) -> Vec<String> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    // An empty directory of PATH is the working directory.
    path.split(':').map(|dir| format!("{}/{name}", if dir.is_empty() { "." } else { dir })).collect()
}

/// What would be executed is a file of the container. A link such as /proc/self/exe would execute the program that
/// is running here, and let the container write to it later (CVE-2019-5736).
fn check(path: &CStr) -> Result<(), Errno> {
    let resolve = ResolveFlags::NO_MAGICLINKS;
    let file = openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(Errno::ACCESS),
    }
}

fn c_string(bytes: &[u8]) -> Outcome<CString> {
    CString::new(bytes).map_err(|_| {
        StartFailure::rule(Step::Exec, "", "an argument or an environment entry has a NUL byte")
            .with_exit_code(EXIT_NOT_EXECUTABLE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_in_each_directory_of_path() {
        assert_eq!(candidates_of("sh", "/a::/b/"), ["/a/sh", "./sh", "/b//sh"]);
        assert_eq!(candidates_of("./sh", "/a"), ["./sh"]);
        assert_eq!(candidates_of("/bin/sh", "/a"), ["/bin/sh"]);
        assert!(candidates_of("", "/a:/b").is_empty());
    }

    #[test]
    fn t14_home_is_added_unless_it_is_there() {
        let strings = |env: &[&str]| -> Vec<String> {
            let env: Vec<String> = env.iter().map(|entry| (*entry).to_owned()).collect();
            let strings = environment(&env, b"/home/app").expect("no NUL");
            strings.iter().map(|entry| entry.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(strings(&["A=1"]), ["A=1", "HOME=/home/app"]);
        assert_eq!(strings(&["HOME="]), ["HOME="]);
    }

    #[test]
    fn a_nul_byte_is_refused_and_never_cuts() {
        let failure = Command::find(&["a\0b".to_owned()], &[], b"/").expect_err("refused");
        assert_eq!((failure.step, failure.exit_code), (Step::Exec, EXIT_NOT_EXECUTABLE));
    }
}
