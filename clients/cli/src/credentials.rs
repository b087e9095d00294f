//! The caller's credentials for registries: Docker's config.json and the helper programs that it names.
//!
//! The engine runs no helpers; what is found here is sent with the one request that needs it.
//!
//! Source: docker/cli, cli/config/configfile and cli/config/credentials; docker-credential-helpers, README.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::prelude::{Engine, BASE64_STANDARD};
use serde_json::{json, Map, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::types::RegistryAuth;
use crate::api::v1::GetImageRequest;
use crate::failure::Failure;

/// Largest config.json.
const CONFIG_MAX_BYTES: u64 = 1024 * 1024;
/// Largest answer of a helper.
const HELPER_ANSWER_MAX_BYTES: u64 = 64 * 1024;
/// How long a helper may take, which may ask a person.
const HELPER_TIMEOUT: Duration = Duration::from_secs(120);
/// Docker Hub, and the key under which Docker keeps its credentials.
pub const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// The registry that a reference names. Source: distribution/reference, normalize.go.
pub fn registry_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((first, _)) if is_host(first) => canonical(first),
        _ => DOCKER_HUB,
    }
}

fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase)
}

fn canonical(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        other => other,
    }
}

/// The registry that `fluyt login` was given: a host, or a URL of one.
///
/// # Errors
/// Something else.
pub fn registry_argument(text: &str) -> Result<&str, Failure> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let host = rest.split('/').next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if host.is_empty() || !host.chars().all(is_plain) {
        return Err(Failure::usage(format!("{text:?} is not a registry"), "write HOST or HOST:PORT"));
    }
    Ok(canonical(host))
}

/// Under which key a registry's credentials are kept and asked for.
fn key_of(registry: &str) -> &str {
    if registry == DOCKER_HUB {
        DOCKER_HUB_KEY
    } else {
        registry
    }
}

/// config.json of the caller.
pub struct Config {
    path: PathBuf,
    document: Map<String, Value>,
}

impl Config {
    /// The file in `$DOCKER_CONFIG`, else in `~/.docker`; an absent one is empty.
    ///
    /// # Errors
    /// It cannot be read, is larger than 1 MiB, or is no JSON object.
    pub fn load() -> Result<Self, Failure> {
        let directory = match std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()) {
            Some(directory) => PathBuf::from(directory),
            None => match std::env::var_os("HOME").filter(|value| !value.is_empty()) {
                Some(home) => PathBuf::from(home).join(".docker"),
                None => return Ok(Self { path: PathBuf::new(), document: Map::new() }),
            },
        };
        Self::read(directory.join("config.json"))
    }

    fn read(path: PathBuf) -> Result<Self, Failure> {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Self { path, document: Map::new() });
            }
            Err(error) => return Err(Failure::file("open", &path, &error)),
        };
        let mut data = Zeroizing::new(Vec::new());
        let read = file.take(CONFIG_MAX_BYTES + 1).read_to_end(&mut data);
        read.map_err(|error| Failure::file("read", &path, &error))?;
        if data.len() as u64 > CONFIG_MAX_BYTES {
            let message = format!("{} is larger than CONFIG_MAX_BYTES, {CONFIG_MAX_BYTES}", path.display());
            return Err(Failure::new(message, ""));
        }
        match serde_json::from_slice(&data) {
            Ok(Value::Object(document)) => Ok(Self { path, document }),
            // The parser's message could show a part of a secret.
            _ => {
                Err(Failure::new(format!("{} is no JSON object", path.display()), "mend it or move it away"))
            }
        }
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The helper program for a registry: `credHelpers` wins over `credsStore`.
    ///
    /// # Errors
    /// A name that could be another program than a helper.
    fn helper(&self, registry: &str) -> Result<Option<String>, Failure> {
        let helpers = self.document.get("credHelpers").and_then(Value::as_object);
        let own = helpers.and_then(|helpers| helpers.get(registry).or_else(|| helpers.get(key_of(registry))));
        let name =
            own.or_else(|| self.document.get("credsStore")).and_then(Value::as_str).unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !name.chars().all(is_plain) {
            let message = format!("{}: {name:?} is no name of a credential helper", self.path.display());
            return Err(Failure::new(message, "mend credHelpers or credsStore"));
        }
        Ok((!name.is_empty()).then(|| format!("docker-credential-{name}")))
    }

    /// What the caller has for a registry; `None` for nothing. A helper is asked first, then `auths`.
    ///
    /// # Errors
    /// A helper that cannot be run or fails; an entry that cannot be read.
    pub async fn find(&self, registry: &str) -> Result<Option<RegistryAuth>, Failure> {
        if let Some(helper) = self.helper(registry)? {
            if let Some(found) = ask_helper(&helper, key_of(registry)).await? {
                return Ok(Some(found));
            }
        }
        let Some(auths) = self.document.get("auths").and_then(Value::as_object) else { return Ok(None) };
        let entry = auths.iter().find(|(name, _)| registry_argument(name).is_ok_and(|host| host == registry));
        let Some((_, entry)) = entry else { return Ok(None) };
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut auth = RegistryAuth {
            username: text("username"),
            password: text("password"),
            identity_token: text("identitytoken"),
            registry_token: text("registrytoken"),
        };
        let coded = text("auth");
        if !coded.is_empty() {
            let pair = decode(&coded).ok_or_else(|| {
                let message = format!("{}: the entry of {registry} cannot be read", self.path.display());
                Failure::new(message, format!("run `fluyt login {registry}`"))
            })?;
            (auth.username, auth.password) = pair;
        }
        Ok((auth != RegistryAuth::default()).then_some(auth))
    }

    /// The credentials are kept: by the registry's helper if it has one, else in the file. Returns where.
    ///
    /// # Errors
    /// The helper fails, or the file cannot be written.
    pub async fn store(&mut self, registry: &str, username: &str, password: &str) -> Result<String, Failure> {
        let entry = if let Some(helper) = self.helper(registry)? {
            let request = json!({"ServerURL": key_of(registry), "Username": username, "Secret": password});
            let request = Zeroizing::new(request.to_string());
            run_helper(&helper, "store", &request).await?.succeeded(&helper)?;
            self.put(registry, json!({}))?;
            return Ok(helper);
        } else {
            let pair = Zeroizing::new(format!("{username}:{password}"));
            json!({"auth": BASE64_STANDARD.encode(pair.as_bytes())})
        };
        self.put(registry, entry)?;
        Ok(self.path.display().to_string())
    }

    /// Nothing is kept for the registry any more; false if nothing was.
    ///
    /// # Errors
    /// As [`Config::store`].
    pub async fn erase(&mut self, registry: &str) -> Result<bool, Failure> {
        let mut was_kept = false;
        if let Some(helper) = self.helper(registry)? {
            was_kept = ask_helper(&helper, key_of(registry)).await?.is_some();
            if was_kept {
                run_helper(&helper, "erase", key_of(registry)).await?.succeeded(&helper)?;
            }
        }
        let Some(auths) = self.document.get_mut("auths").and_then(Value::as_object_mut) else {
            return Ok(was_kept);
        };
        let before = auths.len();
        auths.retain(|name, _| registry_argument(name).map_or(true, |host| host != registry));
        if auths.len() == before {
            return Ok(was_kept);
        }
        self.save()?;
        Ok(true)
    }

    fn put(&mut self, registry: &str, entry: Value) -> Result<(), Failure> {
        let auths = self.document.entry("auths").or_insert_with(|| json!({}));
        let Some(auths) = auths.as_object_mut() else {
            return Err(Failure::new(format!("{}: auths is no object", self.path.display()), "mend it"));
        };
        auths.retain(|name, _| registry_argument(name).map_or(true, |host| host != registry));
        auths.insert(key_of(registry).to_owned(), entry);
        self.save()
    }

    /// The file is whole at every moment and for its owner alone; a link to it stays one.
    fn save(&self) -> Result<(), Failure> {
        if self.path.as_os_str().is_empty() {
            return Err(Failure::new("there is no place for config.json", "set HOME or DOCKER_CONFIG"));
        }
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(|error| Failure::file("make", directory, &error))?;
        let beside = directory.join(format!(".config.json.{}", std::process::id()));
        let written = write_new(&beside, &self.document).and_then(|()| fs::rename(&beside, &path));
        written.map_err(|error| {
            // It may not be there; what counts is the first failure.
            let _ = fs::remove_file(&beside);
            Failure::file("write", &path, &error)
        })
    }
}

fn write_new(path: &Path, document: &Map<String, Value>) -> std::io::Result<()> {
    let data = Zeroizing::new(serde_json::to_vec_pretty(document)?);
    // A leftover of a killed login with our pid.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&data)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn decode(coded: &str) -> Option<(String, String)> {
    let pair = Zeroizing::new(BASE64_STANDARD.decode(coded.trim()).ok()?);
    let (username, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// How a helper ended.
struct Answer {
    is_success: bool,
    output: Zeroizing<Vec<u8>>,
}

impl Answer {
    fn succeeded(&self, helper: &str) -> Result<(), Failure> {
        if self.is_success {
            return Ok(());
        }
        // Helpers say what is wrong on standard output; it holds no secret then.
        let text = String::from_utf8_lossy(&self.output);
        let text: String = text.trim().chars().take(200).flat_map(char::escape_default).collect();
        Err(Failure::new(format!("{helper} failed: {text}"), "see whether the helper works by itself"))
    }
}

/// What a helper has for `key`.
async fn ask_helper(helper: &str, key: &str) -> Result<Option<RegistryAuth>, Failure> {
    let answer = run_helper(helper, "get", key).await?;
    if !answer.is_success && String::from_utf8_lossy(&answer.output).contains("credentials not found") {
        return Ok(None);
    }
    answer.succeeded(helper)?;
    let document: Value = serde_json::from_slice(&answer.output)
        .map_err(|_| Failure::new(format!("{helper} answers with no JSON"), ""))?;
    let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (username, secret) = (text("Username"), text("Secret"));
    if username == TOKEN_USER {
        return Ok(Some(RegistryAuth { identity_token: secret, ..Default::default() }));
    }
    Ok(Some(RegistryAuth { username, password: secret, ..Default::default() }))
}

/// Runs a helper: the secret goes by its standard input, never by its arguments.
async fn run_helper(helper: &str, verb: &str, input: &str) -> Result<Answer, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            format!("cannot run {helper}: {error}"),
            "install it, or mend credHelpers in config.json",
        )
    };
    let mut child = tokio::process::Command::new(helper)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let work = async {
        if let Some(mut stdin) = stdin {
            match stdin.write_all(input.as_bytes()).await {
                // It needs no input to fail.
                Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
                _ => {}
            }
        }
        let mut output = Zeroizing::new(Vec::new());
        if let Some(stdout) = stdout {
            stdout.take(HELPER_ANSWER_MAX_BYTES + 1).read_to_end(&mut output).await?;
        }
        let status = child.wait().await?;
        Ok(Answer { is_success: status.success(), output })
    };
    let answer = match tokio::time::timeout(HELPER_TIMEOUT, work).await {
        Ok(outcome) => outcome.map_err(failed)?,
        Err(_) => {
            let message = format!("{helper} took longer than HELPER_TIMEOUT, {} s", HELPER_TIMEOUT.as_secs());
            return Err(Failure::new(message, ""));
        }
    };
    if answer.output.len() as u64 > HELPER_ANSWER_MAX_BYTES {
        let limit = HELPER_ANSWER_MAX_BYTES;
        return Err(Failure::new(
            format!("{helper} answers with more than HELPER_ANSWER_MAX_BYTES, {limit}"),
            "",
        ));
    }
    Ok(answer)
}

/// What the caller has for the registry of a reference.
///
/// # Errors
/// As [`Config::load`] and [`Config::find`].
pub async fn for_reference(reference: &str) -> Result<Option<RegistryAuth>, Failure> {
    Config::load()?.find(registry_of(reference)).await
}

/// What a run sends along: nothing where it will not pull. A helper, which may be slow or ask a person, is asked only
/// for an image that is absent.
///
/// # Errors
/// As [`for_reference`].
pub async fn for_run(channel: &Channel, image: &str, pull: &str) -> Result<Option<RegistryAuth>, Failure> {
    if pull == "never" {
        return Ok(None);
    }
    let (config, registry) = (Config::load()?, registry_of(image));
    if pull != "always" && config.helper(registry)?.is_some() {
        let request = GetImageRequest { image: image.to_owned(), ..Default::default() };
        if ImageServiceClient::new(channel.clone()).get_image(request).await.is_ok() {
            return Ok(None);
        }
    }
    config.find(registry).await
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
