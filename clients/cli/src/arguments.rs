//! The arguments as Docker's users write them, said once for all commands: a boolean flag takes a value behind `=`, and a
//! value may begin with a minus. Help shows flags without these values, as docker's does.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, Error, Parser};

/// Flags that cannot be had together with something else: command, flag, the other. It is the flag's value that counts,
/// which clap's own `conflicts_with` does not see: `--detach=false` goes with everything.
const CONFLICTS: [(&str, &str, &str); 5] = [
    ("run", "detach", "attach"),
    ("run", "no_healthcheck", "health_cmd"),
    ("create", "no_healthcheck", "health_cmd"),
    ("stop", "all", "containers"),
    ("login", "no_check", "check"),
];
/// Arguments that are needed unless a flag is set: command, flag, the argument.
const NEEDED_UNLESS: [(&str, &str, &str); 2] = [("stop", "all", "containers"), ("rm", "all", "builds")];

/// What was typed, and the command that it was typed for.
pub struct Parsed<T> {
    /// The arguments.
    pub arguments: T,
    /// The command itself, of `fluyt container ls` the one called `ls`.
    pub command: Command,
}

/// Parses a command line, the program's name first.
///
/// # Errors
/// An argument that is wrong, or help was asked for.
pub fn parse<T: Parser>(
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Parsed<T>, Error> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let mut program = as_dockers(T::command());
    let matches = match program.try_get_matches_from_mut(&arguments) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Err(plain_help::<T>(&arguments, error))
        }
        Err(error) => return Err(error),
    };
    let (mut command, mut inner) = (&mut program, &matches);
    while let Some((name, below)) = inner.subcommand() {
        command = command.find_subcommand_mut(name).expect("what was parsed is a command");
        inner = below;
    }
    check(command, inner)?;
    let command = command.clone();
    Ok(Parsed { arguments: T::from_arg_matches(&matches)?, command })
}

/// The command and all below it, its flags and options read as Docker's.
fn as_dockers(command: Command) -> Command {
    command.mut_args(as_dockers_argument).mut_subcommands(as_dockers)
}

// Source: spf13/pflag `bool.go` and `flag.go`, parseLongArg: a flag is true without a value, the last one counts, and an
// option takes whatever stands behind it.
fn as_dockers_argument(arg: Arg) -> Arg {
    if arg.is_positional() {
        return arg;
    }
    let kind = arg.get_value_parser().type_id();
    match arg.get_action() {
        ArgAction::SetTrue => as_flag(arg.action(ArgAction::Set).default_value("false")),
        ArgAction::Set if kind == TypeId::of::<bool>() => as_flag(arg),
        // Text may be anything; that a number of it is negative is for its own reader to judge.
        ArgAction::Set | ArgAction::Append
            if kind == TypeId::of::<String>() || kind == TypeId::of::<PathBuf>() =>
        {
            arg.allow_negative_numbers(true)
        }
        // The parser of what is no text names what is wrong, as in `--memory -5m`.
        ArgAction::Set | ArgAction::Append => arg.allow_hyphen_values(true),
        _ => arg,
    }
}

fn as_flag(arg: Arg) -> Arg {
    let id = arg.get_id().clone();
    arg.value_name("BOOL")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .hide_default_value(true)
        .value_parser(ValueParser::from(parse_bool))
        .overrides_with(id)
}

/// Source: go `strconv`, ParseBool.
fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// The help without values of flags. `error` if it cannot be had.
fn plain_help<T: Parser>(arguments: &[OsString], error: Error) -> Error {
    let program = T::command();
    let mut path = vec![OsStr::new(program.get_name())];
    let mut command = &program;
    for argument in arguments.iter().skip(1) {
        if let Some(below) = argument.to_str().and_then(|name| command.find_subcommand(name)) {
            path.push(argument);
            command = below;
        }
    }
    let is_long = arguments.iter().any(|argument| argument == "--help");
    path.push(OsStr::new(if is_long { "--help" } else { "-h" }));
    T::command().try_get_matches_from(path).err().unwrap_or(error)
}

/// What clap cannot say, as it counts a flag as given that is given as false.
fn check(command: &mut Command, matches: &ArgMatches) -> Result<(), Error> {
    let name = command.get_name().to_owned();
    let is_set = |flag: &str| matches.try_get_one::<bool>(flag).ok().flatten() == Some(&true);
    let is_given = |argument: &str| matches.try_contains_id(argument).is_ok_and(|is_given| is_given);
    for (of, flag, other) in CONFLICTS {
        if of == name && is_set(flag) && is_given(other) {
            let (flag, other) = (spelled(command, flag), spelled(command, other));
            let message = format!("the argument '{flag}' cannot be used with '{other}'");
            return Err(command.error(ErrorKind::ArgumentConflict, message));
        }
    }
    for (of, flag, argument) in NEEDED_UNLESS {
        let is_one = of == name && command.get_arguments().any(|one| one.get_id() == argument);
        if is_one && !is_set(flag) && !is_given(argument) {
            let message = format!("{} is needed, or {}", spelled(command, argument), spelled(command, flag));
            return Err(command.error(ErrorKind::MissingRequiredArgument, message));
        }
    }
    Ok(())
}

/// An argument as it is typed: `--memory`, or `<CONTAINERS>` for what has its place alone.
fn spelled(command: &Command, id: &str) -> String {
    command.get_arguments().find(|arg| arg.get_id() == id).map_or_else(|| id.to_owned(), written)
}

/// As [`spelled`].
pub fn written(arg: &Arg) -> String {
    match (arg.get_long(), arg.get_value_names()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some([name, ..])) => format!("<{name}>"),
        (None, _) => format!("<{}>", arg.get_id().as_str().to_uppercase()),
    }
}
