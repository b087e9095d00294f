//! The flags of `fluyt run` and `fluyt create`, and the specification they ask for. Pure but for `--env-file`.

use std::path::PathBuf;

use clap::Args;

use crate::api::v1::types;
use crate::cid_file::CidFile;
use crate::confinement_flags::ConfinementFlags;
use crate::docker_flags::DockerFlags;
use crate::failure::Failure;
use crate::flag_values::{env_file_items, pairs, parse_ulimit};
use crate::lifecycle_flags::LifecycleFlags;
use crate::log_flags::LogFlags;
use crate::mount_flags::MountFlags;
use crate::network_flags::NetworkFlags;
use crate::units;

/// Flags shared by `run` and `create`; names and meanings are Docker's.
#[derive(Args, Debug, Default)]
pub struct ContainerFlags {
    /// Name of the container; default: one is made up
    #[arg(long)]
    pub name: Option<String>,
    /// Write the id of the container into this file, which must not be there
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Give it a terminal; with -i the caller's, of its size
    #[arg(short, long)]
    pub tty: bool,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Delete the container once it has ended
    #[arg(long)]
    pub rm: bool,
    /// Environment variable, NAME=value; a bare NAME is taken from the caller's environment or, absent there, removed
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// File with a variable a line, literal, blank lines and lines beginning with # skipped
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Working directory inside the container; made if absent
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User inside the container: uid, uid:gid, name or name:group
    #[arg(short, long)]
    pub user: Option<String>,
    /// Further group, name or id
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Host name; default: the first 12 digits of the id
    #[arg(long)]
    pub hostname: Option<String>,
    /// NIS domain name
    #[arg(long)]
    pub domainname: Option<String>,
    /// Program in place of the image's entrypoint; empty for none
    #[arg(long)]
    pub entrypoint: Option<String>,
    /// Memory limit, as 512m
    #[arg(short, long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub memory: Option<i64>,
    /// Limit of memory and swap together; -1 for no limit
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes_or_unlimited)]
    pub memory_swap: Option<i64>,
    /// Memory that the container is pushed back to when the host runs short
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub memory_reservation: Option<i64>,
    /// Number of processors, as 0.5; 0 for no limit
    #[arg(long, value_name = "NUMBER", value_parser = units::parse_cpus)]
    pub cpus: Option<i64>,
    /// Microseconds of processor time in a period; -1 for no limit
    #[arg(long, value_name = "MICROS")]
    pub cpu_quota: Option<i64>,
    /// Length of a period in microseconds
    #[arg(long, value_name = "MICROS")]
    pub cpu_period: Option<i64>,
    /// Weight against other containers, 2 to 262144
    #[arg(short, long, value_name = "SHARES")]
    pub cpu_shares: Option<i64>,
    /// Processors it may run on, as 0-1,3
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes it may use, as 0
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Number of processes and threads; -1 for no limit
    #[arg(long, value_name = "COUNT")]
    pub pids_limit: Option<i64>,
    /// Resource limit of the process, as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = parse_ulimit)]
    pub ulimit: Vec<types::Rlimit>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub shm_size: Option<i64>,
    /// Adjustment of the score by which the kernel picks a victim, -1000 to 1000
    #[arg(long, value_name = "SCORE")]
    pub oom_score_adj: Option<i32>,
    /// Make the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP")]
    pub cap_add: Vec<String>,
    /// Drop a capability, or ALL
    #[arg(long, value_name = "CAP")]
    pub cap_drop: Vec<String>,
    /// All capabilities and devices, nothing masked, no seccomp filter
    #[arg(long)]
    pub privileged: bool,
    /// seccomp=unconfined, seccomp=FILE (a profile), no-new-privileges, systempaths=unconfined, apparmor=PROFILE,
    /// label=disable or label=type:TYPE, level:LEVEL, user:USER, role:ROLE, filetype:TYPE, nested
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Networks, ports, names
    #[command(flatten)]
    pub network: NetworkFlags,
    /// When to pull the image: always, missing or never
    #[arg(long, value_name = "POLICY", value_parser = ["always", "missing", "never"], default_value = "missing")]
    pub pull: String,
    /// Platform to choose from the image, as linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Signal that `fluyt stop` sends
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds that `fluyt stop` waits before it kills, -1 to wait for ever
    #[arg(long, value_name = "SECONDS", value_parser = units::parse_grace)]
    pub stop_timeout: Option<units::Grace>,
    /// Label, NAME or NAME=value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub label: Vec<String>,
    /// Kernel parameter of the container's own namespaces, as net.ipv4.ip_forward=1
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    /// Volumes, binds, temporary file systems
    #[command(flatten)]
    pub mounts: MountFlags,
    /// Devices, namespaces, names, further limits
    #[command(flatten)]
    pub confinement: ConfinementFlags,
    /// Restarts, init, health
    #[command(flatten)]
    pub lifecycle: LifecycleFlags,
    /// Where the output is kept
    #[command(flatten)]
    pub log: LogFlags,
    /// Further flags of Docker's
    #[command(flatten)]
    pub docker: DockerFlags,
    /// Image: reference, digest or id
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Command and its arguments; default: the image's
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

impl ContainerFlags {
    /// The specification; `environment` looks a variable of the caller up.
    ///
    /// # Errors
    /// A flag whose value does not make sense, or an env file that cannot be read.
    pub fn spec(
        &self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<types::ContainerSpec, Failure> {
        let mut spec = types::ContainerSpec {
            image: self.image.clone(),
            platform: self.platform.as_deref().map(parse_platform).transpose()?,
            pull_policy: pull_policy(&self.pull).into(),
            entrypoint: self.entrypoint.as_ref().map(|program| types::StringList {
                values: if program.is_empty() { Vec::new() } else { vec![program.clone()] },
            }),
            args: self.args.clone(),
            env: variables(&self.env_file, &self.env, environment)?,
            user: self.user.clone().unwrap_or_default(),
            additional_groups: self.group_add.clone(),
            working_dir: self.workdir.clone().unwrap_or_default(),
            hostname: self.hostname.clone().unwrap_or_default(),
            domainname: self.domainname.clone().unwrap_or_default(),
            labels: pairs(&self.label),
            tty: self.tty,
            open_stdin: self.interactive,
            stdin_once: self.interactive,
            stop_signal: self.stop_signal.clone().unwrap_or_default(),
            stop_timeout: self.stop_timeout.and_then(units::Grace::message),
            auto_remove: self.rm,
            read_only_root: self.read_only,
            resources: Some(self.resources()),
            rlimits: self.ulimit.clone(),
            oom_score_adj: self.oom_score_adj,
            shm_size_bytes: self.shm_size.unwrap_or_default(),
            security: Some(self.security()?),
            network: self.network.spec()?,
            mounts: self.mounts.mounts()?,
            volumes_from: self.mounts.volumes_from.clone(),
            sysctls: pairs(&self.sysctl),
            ..types::ContainerSpec::default()
        };
        self.lifecycle.apply(&mut spec);
        self.confinement.apply(&mut spec)?;
        spec.log = self.log.spec()?;
        self.docker.apply(&mut spec)?;
        Ok(spec)
    }

    /// Where the id goes; the file is made.
    ///
    /// # Errors
    /// It is there already, or cannot be made.
    pub fn cid_file(&self) -> Result<CidFile, Failure> {
        CidFile::create(self.cidfile.as_deref())
    }

    fn resources(&self) -> types::Resources {
        types::Resources {
            memory_limit_bytes: self.memory,
            memory_swap_limit_bytes: self.memory_swap,
            memory_reservation_bytes: self.memory_reservation,
            cpu_quota_micros: self.cpu_quota,
            cpu_period_micros: self.cpu_period,
            cpu_shares: self.cpu_shares,
            nano_cpus: self.cpus,
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            pids_limit: self.pids_limit,
            ..types::Resources::default()
        }
    }

    fn security(&self) -> Result<types::SecuritySpec, Failure> {
        let mut security = types::SecuritySpec {
            privileged: self.privileged,
            add_capabilities: self.cap_add.clone(),
            drop_capabilities: self.cap_drop.clone(),
            ..types::SecuritySpec::default()
        };
        for option in &self.security_opt {
            match option.split_once(['=', ':']) {
                None if option == "no-new-privileges" => security.no_new_privileges = true,
                Some(("no-new-privileges", value)) => security.no_new_privileges = value == "true",
                Some(("seccomp", "unconfined")) => {
                    security.seccomp = Some(types::SeccompProfile {
                        profile: Some(types::seccomp_profile::Profile::Unconfined(true)),
                    });
                }
                Some(("seccomp", path)) => {
                    let json = std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
                    security.seccomp =
                        Some(types::SeccompProfile { profile: Some(types::seccomp_profile::Profile::Json(json)) });
                }
                Some(("systempaths", "unconfined")) => {
                    security.masked_paths = Some(types::PathList::default());
                    security.read_only_paths = Some(types::PathList::default());
                }
                Some(("apparmor", profile)) => security.apparmor_profile = profile.to_owned(),
                Some(("label", part)) if is_label_part(part) => security.selinux_options.push(part.to_owned()),
                Some(("label", label)) => security.selinux_label = label.to_owned(),
                _ => {
                    return Err(Failure::usage(
                        format!("--security-opt {option} is not known"),
                        "write seccomp=unconfined, seccomp=FILE, no-new-privileges, systempaths=unconfined, apparmor=PROFILE or label=LABEL",
                    ))
                }
            }
        }
        Ok(security)
    }
}

/// Whether a `label=` gives a part of a label, of which there may be several, and not the whole or none.
fn is_label_part(text: &str) -> bool {
    matches!(text.split(':').next(), Some("user" | "role" | "type" | "level" | "filetype" | "nested"))
}

/// The variables of `--env-file` and, over them, of `--env`; a bare NAME has the value that `environment` gives or, with
/// none, stays bare.
///
/// # Errors
/// An env file that cannot be read or has a line without a plain name.
pub fn variables(
    files: &[PathBuf],
    env: &[String],
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, Failure> {
    let mut items = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
        items.extend(
            env_file_items(&text, &environment)
                .map_err(|message| Failure::usage(format!("{}: {message}", path.display()), ""))?,
        );
    }
    items.extend(env.iter().cloned());
    for item in &mut items {
        if !item.contains('=') {
            if let Some(value) = environment(item) {
                *item = format!("{item}={value}");
            }
        }
    }
    Ok(items)
}

fn pull_policy(text: &str) -> types::PullPolicy {
    match text {
        "always" => types::PullPolicy::Always,
        "never" => types::PullPolicy::Never,
        _ => types::PullPolicy::Missing,
    }
}

/// `os/arch` or `os/arch/variant`; a bare architecture stands for linux.
///
/// # Errors
/// More than three parts, or an empty one.
pub fn parse_platform(text: &str) -> Result<types::Platform, Failure> {
    let parts: Vec<&str> = text.split('/').collect();
    let wrong = || Failure::usage(format!("`{text}` is not a platform"), "write linux/amd64 or linux/arm/v7");
    if parts.iter().any(|part| part.is_empty()) {
        return Err(wrong());
    }
    let (os, architecture, variant) = match parts.as_slice() {
        [architecture] => ("linux", *architecture, ""),
        [os, architecture] => (*os, *architecture, ""),
        [os, architecture, variant] => (*os, *architecture, *variant),
        _ => return Err(wrong()),
    };
    Ok(types::Platform {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.to_owned(),
        ..types::Platform::default()
    })
}

/// Every platform of a flag that may be repeated.
///
/// # Errors
/// As [`parse_platform`].
pub fn parse_platforms(texts: &[String]) -> Result<Vec<types::Platform>, Failure> {
    texts.iter().map(|text| parse_platform(text)).collect()
}
