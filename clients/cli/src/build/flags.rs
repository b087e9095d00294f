//! The flags of `fluyt build`; names and meanings are Docker's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::agents::{self, Offered};
use super::exchange::{self, Cache};
use super::output::{self, Asked};
use crate::api::v1::types;
use crate::failure::Failure;
use crate::flag_values::parse_ulimit;
use crate::units;

/// The variable and build argument that bounds times.
const SOURCE_DATE: &str = "SOURCE_DATE_EPOCH";

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum ProgressKind {
    /// A live tree on a terminal, plain lines elsewhere
    #[default]
    Auto,
    /// Lines
    Plain,
    /// A live tree
    Tty,
    /// One JSON object a line
    #[value(alias = "rawjson")]
    Json,
    /// Nothing
    Quiet,
}

/// What is done with a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Call {
    /// An image is built
    #[default]
    Build,
    /// The Dockerfile is checked
    Check,
}

/// `fluyt build`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt build -t app:1 .
  fluyt build -t app:1 -f docker/Dockerfile --build-arg VERSION=2 --target release .
  fluyt build --secret id=token,src=token.txt -t app:1 .
  fluyt build --ssh default -t app:1 .
  fluyt build -t app:1 'https://example.com/team/app.git#main:server'
  fluyt build -t registry.example.com/team/app:1 --push .
  fluyt build -o out --target files .
  fluyt build -t app:1 -o type=oci,dest=app.tar .
  tar -c . | fluyt build -t app:1 -
  fluyt build --check .")]
pub struct BuildCommand {
    /// Reference for the image; may be repeated
    #[arg(short, long, value_name = "REFERENCE")]
    pub tag: Vec<String>,
    /// The Dockerfile; `-` is standard input. Default: `Dockerfile` in the context
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<String>,
    /// Value of an ARG, NAME=value; a bare NAME is taken from the environment. They show in the history
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub build_arg: Vec<String>,
    /// Further context, NAME=folder, NAME=docker-image://reference, NAME=oci-layout://folder[:tag|@digest] or NAME=URL
    #[arg(long, value_name = "NAME=SOURCE")]
    pub build_context: Vec<String>,
    /// Label of the image, NAME=value
    #[arg(long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// Stage to build; default: the last one
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Secret for RUN --mount=type=secret: id=NAME[,src=FILE|,env=VARIABLE]
    #[arg(long, value_name = "id=NAME,src=FILE")]
    pub secret: Vec<String>,
    /// Ssh agent for RUN --mount=type=ssh and git over ssh: default for that of SSH_AUTH_SOCK, ID=SOCKET, or
    /// ID=KEY[,KEY] for private keys
    #[arg(long, value_name = "ID[=SOCKET|KEY]", value_parser = agents::parse)]
    pub ssh: Vec<Offered>,
    /// Host keys for git over ssh; default: ~/.ssh/known_hosts
    #[arg(long, value_name = "FILE")]
    pub ssh_known_hosts: Option<PathBuf>,
    /// Use no cached result
    #[arg(long)]
    pub no_cache: bool,
    /// Use no cached result of this stage
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Cache to take results from: a reference, type=registry,ref=REFERENCE or type=local,src=FOLDER[,tag=TAG];
    /// mounts=true also fills empty cache mounts
    #[arg(long, value_name = "CACHE", value_parser = exchange::parse_from)]
    pub cache_from: Vec<Cache>,
    /// Where results are written to: a reference, type=registry,ref=REFERENCE or type=local,dest=FOLDER[,tag=TAG];
    /// mode=min for the image's own stages only, mounts=true with what is in cache mounts
    #[arg(long, value_name = "CACHE", value_parser = exchange::parse_to)]
    pub cache_to: Vec<Cache>,
    /// Resolve base images anew
    #[arg(long)]
    pub pull: bool,
    /// Platform of the image; several make an index
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    pub platform: Vec<String>,
    /// What the Dockerfile may ask for: network.host, security.insecure, device or device=NAME; may be repeated
    #[arg(long, value_name = "ENTITLEMENT")]
    pub allow: Vec<String>,
    /// Network of RUN: default, none or host
    #[arg(long, value_name = "MODE")]
    pub network: Option<String>,
    /// User ids of RUN: host, auto for a range of the step's own, or auto:COUNT
    #[arg(long, value_name = "MODE", value_parser = crate::confinement_flags::parse_users)]
    pub userns: Option<types::UserNamespaceSpec>,
    /// Line of /etc/hosts of RUN, NAME:ADDRESS
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
    /// Resource limit of each RUN, NAME=SOFT[:HARD]
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = parse_ulimit)]
    pub ulimit: Vec<types::Rlimit>,
    /// Memory limit of each RUN, as 512m
    #[arg(short, long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub memory: Option<i64>,
    /// Limit of memory and swap together, of each RUN; -1 for no limit
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes_or_unlimited)]
    pub memory_swap: Option<i64>,
    /// Microseconds of processor time in a period, of each RUN
    #[arg(long, value_name = "MICROS")]
    pub cpu_quota: Option<i64>,
    /// Length of a period in microseconds
    #[arg(long, value_name = "MICROS")]
    pub cpu_period: Option<i64>,
    /// Weight of each RUN against other containers
    #[arg(short, long, value_name = "SHARES")]
    pub cpu_shares: Option<i64>,
    /// Processors that each RUN may use, as 0-1,3
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that each RUN may use, as 0
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Size of /dev/shm of RUN
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub shm_size: Option<i64>,
    /// Parent of the control groups of RUN: a path, or a slice where systemd makes the groups
    #[arg(long, value_name = "PARENT")]
    pub cgroup_parent: Option<String>,
    /// How progress is shown; default: the variable BUILDKIT_PROGRESS, else auto
    #[arg(long, value_enum, value_name = "KIND")]
    pub progress: Option<ProgressKind>,
    /// Print the image's id only
    #[arg(short, long)]
    pub quiet: bool,
    /// File to write the image's id to
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// File to write digests and names of the image to, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Push the image's references once it is there
    #[arg(long)]
    pub push: bool,
    /// The image stays in the engine, as it does anyway
    #[arg(long)]
    pub load: bool,
    /// Where the result goes: a folder, `-` for a tar, or type=image|registry|oci|docker|local|tar|cacheonly[,dest=PATH];
    /// with name=REFERENCE, compression=gzip|zstd|uncompressed, compression-level=N, force-compression=true
    #[arg(short, long, value_name = "OUTPUT", value_parser = output::parse)]
    pub output: Vec<Asked>,
    /// No time in a new layer is later than SOURCE_DATE_EPOCH, which is so wherever that is set
    #[arg(long)]
    pub rewrite_timestamp: bool,
    /// Attest how the image was made: true, mode=min or max, version=v0.2 or v1, builder-id=URI
    #[arg(long, value_name = "PROVENANCE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub provenance: Option<String>,
    /// Attest the packages of dpkg, apk and rpm in the image, as SPDX
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub sbom: Option<String>,
    /// What is attested: type=provenance[,mode=max] or type=sbom
    #[arg(long, value_name = "type=TYPE")]
    pub attest: Vec<String>,
    /// Annotation, [manifest:|index:|manifest-descriptor:]NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE")]
    pub annotation: Vec<String>,
    /// Only check the Dockerfile; exit code 1 if there are warnings
    #[arg(long)]
    pub check: bool,
    /// What is done: build, or check as --check
    #[arg(long, value_enum, default_value_t)]
    pub call: Call,
    /// What Docker's first builder kept between steps is not made here
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub rm: Option<bool>,
    /// The same
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub force_rm: Option<bool>,
    /// Folder, URL of a git repository, or `-` for a tar or a Dockerfile on standard input
    #[arg(value_name = "CONTEXT")]
    pub context: String,
}

impl BuildCommand {
    /// Nothing is built.
    pub fn is_check(&self) -> bool {
        self.check || self.call == Call::Check
    }

    /// How progress is shown.
    ///
    /// # Errors
    /// The variable names no such way.
    pub fn progress(&self) -> Result<ProgressKind, Failure> {
        if let Some(kind) = self.progress {
            return Ok(kind);
        }
        let text = std::env::var("BUILDKIT_PROGRESS").unwrap_or_default();
        if text.is_empty() {
            return Ok(ProgressKind::Auto);
        }
        ProgressKind::from_str(&text, true).map_err(|_| {
            Failure::usage(
                format!("BUILDKIT_PROGRESS is `{text}`"),
                "set it to auto, plain, tty, json or quiet, or unset it",
            )
        })
    }

    /// The limits that were given.
    pub fn resources(&self) -> Option<types::Resources> {
        let resources = types::Resources {
            memory_limit_bytes: self.memory,
            memory_swap_limit_bytes: self.memory_swap,
            cpu_quota_micros: self.cpu_quota,
            cpu_period_micros: self.cpu_period,
            cpu_shares: self.cpu_shares,
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            ..Default::default()
        };
        (resources != types::Resources::default()).then_some(resources)
    }

    /// The agents that are served. A context that comes by ssh needs `default`, which need not be asked for where there
    /// is one. Source: buildx, as it does for such a context.
    pub fn agents(&self, is_over_ssh: bool) -> Vec<Offered> {
        if self.ssh.is_empty()
            && is_over_ssh
            && std::env::var_os("SSH_AUTH_SOCK").is_some_and(|path| !path.is_empty())
        {
            return vec![Offered::of_environment()];
        }
        self.ssh.clone()
    }

    /// The secrets by id, read from their files and variables.
    ///
    /// # Errors
    /// A malformed one, a file that cannot be read, a variable that is not set.
    pub fn secrets(&self) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
        self.secret.iter().map(|text| parse_secret(text)).collect()
    }
}

/// `id=NAME[,src=FILE|,env=VARIABLE]`; without either the variable of that name, else the file.
fn parse_secret(text: &str) -> Result<(String, Vec<u8>), Failure> {
    let usage = || {
        Failure::usage(format!("`{text}` is not a secret"), "write id=NAME,src=FILE or id=NAME,env=VARIABLE")
    };
    let (mut id, mut file, mut variable) = (None, None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => file = Some(value.to_owned()),
            Some(("env", value)) => variable = Some(value.to_owned()),
            Some(("type", "file" | "env")) => {}
            _ => return Err(usage()),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(usage)?;
    let from_variable = |name: &str| std::env::var_os(name).map(|value| value.into_encoded_bytes());
    let value = match (file, variable) {
        (Some(_), Some(_)) => return Err(usage()),
        (Some(path), None) => std::fs::read(&path).map_err(|error| Failure::file("read", &path, &error))?,
        (None, Some(name)) => {
            from_variable(&name).ok_or_else(|| Failure::new(format!("the variable {name} is not set"), ""))?
        }
        (None, None) => match from_variable(&id) {
            Some(value) => value,
            None => std::fs::read(&id).map_err(|error| Failure::file("read", &id, &error))?,
        },
    };
    Ok((id, value))
}

/// The build arguments with SOURCE_DATE_EPOCH of the environment, where they have none themselves: what names the time of
/// the image is what ARG of that name gives its steps.
///
/// # Errors
/// The variable is no number of seconds; `is_needed`, and there is none.
///
/// Source: https://reproducible-builds.org/specs/source-date-epoch/; buildx, which hands it on so.
pub fn with_source_date(
    mut args: BTreeMap<String, String>,
    is_needed: bool,
) -> Result<BTreeMap<String, String>, Failure> {
    if !args.contains_key(SOURCE_DATE) {
        if let Ok(text) = std::env::var(SOURCE_DATE) {
            if text.parse::<u64>().is_err() {
                return Err(Failure::usage(
                    format!("SOURCE_DATE_EPOCH is `{text}`"),
                    "set it to seconds since 1970, or unset it",
                ));
            }
            args.insert(SOURCE_DATE.to_owned(), text);
        }
    }
    if is_needed && !args.contains_key(SOURCE_DATE) {
        return Err(Failure::usage(
            "times are to be rewritten, and SOURCE_DATE_EPOCH is not set",
            "set it to seconds since 1970, for example to the time of the last commit: git log -1 --format=%ct",
        ));
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_variables() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"\xff\n").unwrap();
        let text = format!("id=token,src={}", file.path().display());
        assert_eq!(parse_secret(&text).unwrap(), ("token".to_owned(), b"\xff\n".to_vec()));
        assert_eq!(parse_secret("id=p,env=PATH").unwrap().0, "p");
        for wrong in ["token", "src=x", "id=,src=x", "id=a,src=b,env=c", "id=a,mode=0400"] {
            assert!(parse_secret(wrong).is_err(), "{wrong}");
        }
    }
}
