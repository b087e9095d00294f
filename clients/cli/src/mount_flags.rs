//! `-v`, `--mount`, `--tmpfs` and `--volumes-from`: Docker's grammar, turned into mounts. Only what the words mean is
//! decided here; whether it can be, the engine says. Pure but for the working directory, against which a relative source
//! is made absolute.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;

use crate::api::v1::types::{self, bind_mount::Propagation, mount::Source, Relabel};
use crate::failure::Failure;
use crate::units;

/// Flags about what is mounted, shared by `run` and `create`.
#[derive(Args, Debug, Default)]
pub struct MountFlags {
    /// Volume or directory of the host: [SOURCE:]TARGET[:OPTIONS], options as ro,nocopy,rslave
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    pub volume: Vec<String>,
    /// Mount as keys and values: type=bind|volume|tmpfs|image,source=…,target=…,readonly,…
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub mount: Vec<String>,
    /// Temporary file system: /path or /path:size=64m,mode=1777,exec
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Container whose volumes and binds it has too: CONTAINER[:ro|rw]
    #[arg(long, value_name = "CONTAINER[:ro]")]
    pub volumes_from: Vec<String>,
    /// Driver of the volumes that `-v` makes
    #[arg(long, value_name = "DRIVER")]
    pub volume_driver: Option<String>,
}

impl MountFlags {
    /// Every mount, in the order of the flags.
    ///
    /// # Errors
    /// A flag whose value does not make sense, and what is wrong with it.
    pub fn mounts(&self) -> Result<Vec<types::Mount>, Failure> {
        let here = std::env::current_dir().unwrap_or_default();
        let mut mounts = Vec::new();
        for text in &self.mount {
            mounts.push(parse_mount(text, &here)?);
        }
        for text in &self.volume {
            mounts.push(parse_volume(text, self.volume_driver.as_deref().unwrap_or_default(), &here)?);
        }
        for text in &self.tmpfs {
            mounts.push(parse_tmpfs(text)?);
        }
        Ok(mounts)
    }
}

fn wrong(flag: &str, text: &str, what: impl std::fmt::Display, next: &str) -> Failure {
    Failure::usage(format!("{flag} {text}: {what}"), next)
}

/// An absolute path of what may be a relative one; the engine's host is taken to be this one then.
fn absolute(source: &str, here: &Path) -> String {
    if source.starts_with('.') {
        let mut path = here.to_path_buf();
        for part in source.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if part == ".." {
                path.pop();
            } else {
                path.push(part);
            }
        }
        return path.to_string_lossy().into_owned();
    }
    source.to_owned()
}

fn propagation(word: &str) -> Option<Propagation> {
    Some(match word {
        "private" => Propagation::Private,
        "rprivate" => Propagation::Rprivate,
        "shared" => Propagation::Shared,
        "rshared" => Propagation::Rshared,
        "slave" => Propagation::Slave,
        "rslave" => Propagation::Rslave,
        _ => return None,
    })
}

/// `-v`. A path is a bind, made as a directory where it is absent; a name a volume; a target alone an anonymous one.
fn parse_volume(text: &str, driver: &str, here: &Path) -> Result<types::Mount, Failure> {
    const NEXT: &str = "write NAME:/target, /host/path:/target or /target, then :ro or other options";
    let fail = |what: String| wrong("-v", text, what, NEXT);
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] if !target.starts_with('/') => {
            return Err(fail(format!(
                "`{target}` is no absolute path; options need a source before the target `{source}`"
            )))
        }
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(fail("it has more than two colons".to_owned())),
    };
    if parts.len() > 1 && source.is_empty() {
        return Err(fail("the source before the first colon is empty".to_owned()));
    }
    if !target.starts_with('/') {
        return Err(fail(format!("the target `{target}` is no absolute path")));
    }
    let source = absolute(source, here);
    let is_bind = source.starts_with('/');
    if !is_bind && source.contains('/') {
        return Err(fail(format!(
            "`{source}` is neither a volume's name nor an absolute path; begin it with ./"
        )));
    }
    let mut mount = types::Mount { target: target.to_owned(), ..Default::default() };
    let (mut no_copy, mut spread, mut relabel) = (false, None, Relabel::Unspecified);
    let mut groups = Vec::new();
    for option in options.split(',').filter(|_| !options.is_empty()) {
        let group = match option {
            "ro" | "rw" => "ro or rw",
            "z" | "Z" => "z or Z",
            "consistent" | "cached" | "delegated" => "a consistency",
            "nocopy" => "nocopy",
            word if propagation(word).is_some() => "propagation",
            _ => "",
        };
        if groups.contains(&group) {
            return Err(fail(format!("{group} is given twice")));
        }
        groups.push(group);
        match option {
            "ro" => mount.read_only = true,
            // What macOS needs makes no difference here.
            "rw" | "consistent" | "cached" | "delegated" => {}
            "z" => relabel = Relabel::Shared,
            "Z" => relabel = Relabel::Private,
            "nocopy" if is_bind => {
                return Err(fail("nocopy is for volumes; a bind is never copied into".to_owned()))
            }
            "nocopy" => no_copy = true,
            word => match propagation(word) {
                Some(_) if !is_bind => return Err(fail(format!("{word} is for binds"))),
                Some(found) => spread = Some(found),
                None => {
                    return Err(fail(format!(
                    "`{word}` is no option; there are ro, rw, nocopy, [r]private, [r]shared, [r]slave, z, Z"
                )))
                }
            },
        }
    }
    mount.source = Some(if is_bind {
        Source::Bind(types::BindMount {
            source,
            create_source: true,
            propagation: spread.map(Into::into).unwrap_or_default(),
            relabel: relabel.into(),
            ..Default::default()
        })
    } else {
        let driver = driver.to_owned();
        let relabel = relabel.into();
        Source::Volume(types::VolumeMount { volume: source, no_copy, driver, relabel, ..Default::default() })
    });
    Ok(mount)
}

/// The fields of a line of comma-separated values; a field in double quotes may hold commas, and quotes by doubling.
fn csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut characters = text.chars().peekable();
    let mut is_quoted = false;
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("there is always one");
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if is_quoted => {
                is_quoted = false;
                if !matches!(characters.peek(), None | Some(',')) {
                    return Err("a comma must follow a closing quote".to_owned());
                }
            }
            '"' if field.is_empty() => is_quoted = true,
            '"' => return Err("a quote stands inside a field; quote the whole field, \"key=a,b\"".to_owned()),
            ',' if !is_quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    if is_quoted {
        return Err("a quote is not closed".to_owned());
    }
    Ok(fields)
}

/// What `--mount` says, key by key.
#[derive(Default)]
struct Keys {
    kind: String,
    source: String,
    target: String,
    read_only: bool,
    bind: types::BindMount,
    bind_recursive: String,
    volume: types::VolumeMount,
    tmpfs: types::TmpfsMount,
    image: types::ImageMount,
    relabel: Relabel,
    /// The first key of each kind, for refusing it with another type.
    of_kind: BTreeMap<&'static str, String>,
}

/// `--mount`.
fn parse_mount(text: &str, here: &Path) -> Result<types::Mount, Failure> {
    const NEXT: &str = "write type=volume,source=NAME,target=/path or type=bind,source=/path,target=/path";
    let fail = |what: String| wrong("--mount", text, what, NEXT);
    let mut keys = Keys::default();
    for field in csv(text).map_err(fail)? {
        keys.take(&field).map_err(fail)?;
    }
    keys.finish(here).map_err(fail)
}

impl Keys {
    fn take(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        for kind in ["bind", "volume", "tmpfs", "image"] {
            if key.strip_prefix(kind).is_some_and(|rest| rest.starts_with('-')) {
                self.of_kind.entry(kind).or_insert_with(|| key.clone());
            }
        }
        if key.trim() != key || value.is_some_and(|value| value.trim() != value) {
            return Err(format!("`{field}` has a blank about its key or its value"));
        }
        if value == Some("") {
            return Err(format!("`{field}` has no value"));
        }
        // Flags may stand alone or have a truth value.
        match key.as_str() {
            "readonly" | "ro" => return truth(&key, value).map(|is_set| self.read_only = is_set),
            "bind-nonrecursive" => return truth(&key, value).map(|is_set| self.bind.non_recursive = is_set),
            "bind-create-src" => return truth(&key, value).map(|is_set| self.bind.create_source = is_set),
            "volume-nocopy" => return truth(&key, value).map(|is_set| self.volume.no_copy = is_set),
            _ => {}
        }
        let Some(value) = value else {
            return Err(format!("`{field}` must be key=value"));
        };
        match key.as_str() {
            "type" => self.kind = value.to_ascii_lowercase(),
            "source" | "src" => value.clone_into(&mut self.source),
            "target" | "dst" | "destination" => value.clone_into(&mut self.target),
            // Of Docker Desktop; it makes no difference on Linux.
            "consistency" => {}
            "bind-propagation" => {
                let found = propagation(&value.to_ascii_lowercase()).ok_or_else(|| format!("`{value}` is no propagation; there are rprivate, private, rshared, shared, rslave, slave"))?;
                self.bind.propagation = found.into();
            }
            "relabel" => {
                self.relabel = match value {
                    "shared" => Relabel::Shared,
                    "private" => Relabel::Private,
                    _ => return Err(format!("`{value}` is no relabel; there are shared, private")),
                }
            }
            "bind-recursive" => value.clone_into(&mut self.bind_recursive),
            "volume-subpath" => value.clone_into(&mut self.volume.sub_path),
            "volume-driver" => value.clone_into(&mut self.volume.driver),
            "volume-label" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                self.volume.labels.insert(name.to_owned(), value.to_owned());
            }
            "volume-opt" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                self.volume.driver_options.insert(name.to_owned(), value.to_owned());
            }
            "image-subpath" => value.clone_into(&mut self.image.sub_path),
            "tmpfs-size" => {
                self.tmpfs.size_bytes =
                    units::parse_bytes(value).map_err(|_| format!("`{value}` is no size; write 64m"))?
            }
            "tmpfs-mode" => {
                self.tmpfs.mode = Some(
                    u32::from_str_radix(value, 8)
                        .map_err(|_| format!("`{value}` is no octal mode; write 1777"))?,
                )
            }
            _ => return Err(format!("`{key}` is no key of a mount")),
        }
        Ok(())
    }

    fn finish(mut self, here: &Path) -> Result<types::Mount, String> {
        let kind = if self.kind.is_empty() { "volume" } else { self.kind.as_str() };
        if !["bind", "volume", "tmpfs", "image"].contains(&kind) {
            return Err(format!("`{kind}` is no type; there are bind, volume, tmpfs and image"));
        }
        if self.target.is_empty() {
            return Err("target is needed".to_owned());
        }
        if let Some((_, key)) = self.of_kind.iter().find(|(of, _)| **of != kind) {
            return Err(format!("{key} does not go with type={kind}"));
        }
        if self.relabel != Relabel::Unspecified && !["bind", "volume"].contains(&kind) {
            return Err(format!("relabel does not go with type={kind}"));
        }
        let needs_source = |what: &str| format!("source is needed, {what}");
        let source = match kind {
            "bind" => {
                if self.source.is_empty() {
                    return Err(needs_source("a path on the engine's host"));
                }
                self.bind.source = absolute(&self.source, here);
                self.recursive()?;
                self.bind.relabel = self.relabel.into();
                Source::Bind(self.bind)
            }
            "tmpfs" if !self.source.is_empty() => return Err("a tmpfs has no source".to_owned()),
            "tmpfs" => Source::Tmpfs(self.tmpfs),
            "image" => {
                if self.source.is_empty() {
                    return Err(needs_source("the image"));
                }
                self.image.image = self.source;
                Source::Image(self.image)
            }
            _ => {
                if self.source.is_empty() && self.read_only {
                    return Err(
                        "an anonymous volume cannot be readonly: it is empty, and nobody else has it"
                            .to_owned(),
                    );
                }
                if self.source.is_empty() && !self.volume.sub_path.is_empty() {
                    return Err("volume-subpath needs a source: an anonymous volume is empty".to_owned());
                }
                if self.source.starts_with(['/', '.']) {
                    return Err(format!(
                        "`{}` is a path, and type={kind} takes a volume's name; write type=bind",
                        self.source
                    ));
                }
                self.volume.volume = self.source;
                self.volume.relabel = self.relabel.into();
                Source::Volume(self.volume)
            }
        };
        Ok(types::Mount { target: self.target, read_only: self.read_only, source: Some(source) })
    }

    /// Source: docker/cli `opts/mount.go`, bind-recursive.
    fn recursive(&mut self) -> Result<(), String> {
        match self.bind_recursive.as_str() {
            "" | "enabled" => {}
            "disabled" => self.bind.non_recursive = true,
            "writable" | "readonly" if !self.read_only => {
                return Err(format!("bind-recursive={} needs readonly", self.bind_recursive));
            }
            "readonly" if self.bind.propagation() != Propagation::Rprivate => {
                return Err("bind-recursive=readonly needs bind-propagation=rprivate".to_owned());
            }
            "writable" => self.bind.recursive_read_only = Some(false),
            "readonly" => self.bind.recursive_read_only = Some(true),
            other => {
                return Err(format!(
                "`{other}` is no value of bind-recursive; there are enabled, disabled, writable, readonly"
            ))
            }
        }
        Ok(())
    }
}

fn truth(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("{key} is true or false, not `{other}`")),
    }
}

/// What `nr_blocks` counts. Source: tmpfs(5), pages of x86_64 and of arm64 as distributions build it.
const PAGE_BYTES: i64 = 4096;

/// A number above 0, with k, m or g as the kernel reads it.
///
/// Source: linux `lib/cmdline.c`, memparse.
fn parse_count(text: &str) -> Option<i64> {
    let (digits, scale) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 1 << 10),
        b'm' => (&text[..text.len() - 1], 1 << 20),
        b'g' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let count = digits.parse::<i64>().ok().filter(|_| is_plain)?.checked_mul(scale)?;
    (count > 0).then_some(count)
}

/// `--tmpfs`.
fn parse_tmpfs(text: &str) -> Result<types::Mount, Failure> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let mut tmpfs = types::TmpfsMount::default();
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let unknown = || {
            wrong(
                "--tmpfs",
                text,
                format_args!("`{option}` is not known"),
                "write size=SIZE, nr_inodes=COUNT, mode=OCTAL, uid=ID, gid=ID, ro, rw, exec, noexec, suid, nosuid, dev or nodev",
            )
        };
        match option.split_once('=') {
            Some(("size", size)) => tmpfs.size_bytes = units::parse_bytes(size).map_err(|_| unknown())?,
            Some(("mode", mode)) => tmpfs.mode = Some(u32::from_str_radix(mode, 8).map_err(|_| unknown())?),
            Some(("nr_inodes", count)) => tmpfs.max_inodes = parse_count(count).ok_or_else(unknown)?,
            Some(("nr_blocks", count)) => {
                let pages = parse_count(count).ok_or_else(unknown)?;
                tmpfs.size_bytes = pages.checked_mul(PAGE_BYTES).ok_or_else(unknown)?;
            }
            Some(("uid", uid)) => tmpfs.uid = uid.parse().map_err(|_| unknown())?,
            Some(("gid", gid)) => tmpfs.gid = gid.parse().map_err(|_| unknown())?,
            None => match option {
                "ro" => read_only = true,
                "rw" => read_only = false,
                // What it is without a word.
                "defaults" | "async" | "atime" | "relatime" | "diratime" => {}
                "noexec" => tmpfs.exec = false,
                "nosuid" => tmpfs.suid = false,
                "nodev" => tmpfs.dev = false,
                "exec" => tmpfs.exec = true,
                "suid" => tmpfs.suid = true,
                "dev" => tmpfs.dev = true,
                _ => return Err(unknown()),
            },
            Some(_) => return Err(unknown()),
        }
    }
    Ok(types::Mount { target: target.to_owned(), read_only, source: Some(Source::Tmpfs(tmpfs)) })
}

#[cfg(test)]
#[path = "mount_flags_tests.rs"]
mod tests;
