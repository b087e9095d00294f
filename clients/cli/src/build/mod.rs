//! `fluyt build` and `fluyt builder`: a folder, an archive or a repository becomes an image.

mod agents;
mod attest;
mod cache;
mod context;
mod exchange;
mod flags;
mod history;
mod images;
mod layout;
mod lines;
mod output;
mod remembered;
mod show;
mod walk;
mod written;

use std::collections::BTreeMap;
use std::path::Path;

use tonic::transport::Channel;

pub use cache::{run as builder, Command as BuilderCommand};
pub use flags::BuildCommand;
use flags::ProgressKind;

use crate::api::v1::build_service_client::BuildServiceClient;
use crate::api::v1::build_source::Source;
use crate::api::v1::types::operation::Result as OperationResult;
use output::{Asked, Output};

use crate::api::v1::{build_output_spec, BuildImageRequest, BuildOutputSpec, BuildSource};
use crate::credentials;
use crate::failure::Failure;
use crate::flag_values::pairs;
use crate::render;

/// Runs `fluyt build`: sends what the engine lacks of the context, follows the build and prints the image's id.
///
/// # Errors
/// Files that cannot be read, what the engine answers, the build's failure, or that the caller interrupted it.
pub async fn build(channel: Channel, command: BuildCommand) -> Result<u8, Failure> {
    let progress = command.progress()?;
    let is_quiet = command.quiet || progress == ProgressKind::Quiet;
    let found = context::find(&command)?;
    let auths = auths(&command, &found.dockerfile).await?;
    let goes_to = |wanted: &Output| command.output.iter().any(|one| one.output == *wanted);
    let push = command.push || goes_to(&Output::Registry);
    let is_cache_only =
        !command.output.is_empty() && command.output.iter().all(|one| one.output == Output::CacheOnly);
    let image = output::image_options(&command.output)?;
    let references: Vec<String> = command.tag.iter().chain(&image.names).cloned().collect();
    let rewrites_times = command.rewrite_timestamp || image.rewrites_times;
    let build_args = flags::with_source_date(from_environment(&command.build_arg), rewrites_times)?;
    let wishes = attest::wishes(&command)?;
    let (in_registries, in_folders): (Vec<_>, Vec<_>) =
        command.cache_to.iter().partition(|cache| cache.reference().is_some());
    if in_registries.len() > 1 {
        return Err(Failure::usage(
            "--cache-to names several registries",
            "name one; folders may stand beside it",
        ));
    }
    let in_registry = in_registries.first().copied();
    let is_over_ssh = found.context.is_over_ssh();
    let known_hosts = if is_over_ssh || !command.ssh.is_empty() || command.ssh_known_hosts.is_some() {
        agents::known_hosts(command.ssh_known_hosts.as_deref())?
    } else {
        Vec::new()
    };
    let serving = agents::serve(channel.clone(), &command.agents(is_over_ssh)).await?;
    let request = BuildImageRequest {
        context: Some(context::send(channel.clone(), found.context, is_quiet).await?),
        named_contexts: named_contexts(&channel, &command, is_quiet).await?,
        dockerfile_path: found.dockerfile_name,
        dockerfile: found.dockerfile,
        references: references.clone(),
        target: command.target.clone().unwrap_or_default(),
        build_args,
        labels: pairs(&command.label),
        platforms: crate::container_flags::parse_platforms(&command.platform)?,
        no_cache: command.no_cache || !command.no_cache_filter.is_empty(),
        no_cache_stages: command.no_cache_filter.clone(),
        pull: command.pull,
        network_mode: command.network.clone().unwrap_or_default(),
        user_namespace: command.userns,
        entitlements: command.allow.clone(),
        extra_hosts: command.add_host.clone(),
        resources: command.resources(),
        rlimits: command.ulimit.clone(),
        shm_size_bytes: command.shm_size.unwrap_or_default(),
        cgroup_parent: command.cgroup_parent.clone().unwrap_or_default(),
        secrets: command.secrets()?,
        agent_session_id: serving.session_id(),
        known_hosts,
        output: Some(BuildOutputSpec {
            kind: if is_cache_only {
                build_output_spec::Kind::CacheOnly.into()
            } else {
                build_output_spec::Kind::Image.into()
            },
            push,
            compression: image.compression.unwrap_or_default().into(),
            compression_level: image.level,
            force_compression: image.force,
        }),
        auths,
        check_only: command.is_check(),
        is_filtered: true,
        ignore_file: found.ignore_file,
        cache_sources: exchange::sources(&channel, &command.cache_from, is_quiet).await?,
        cache_to: in_registry
            .map(|cache| cache.reference().unwrap_or_default().to_owned())
            .unwrap_or_default(),
        cache_to_spec: in_registry.map(exchange::Cache::spec),
        provenance_spec: wishes.provenance,
        sbom: wishes.sbom,
        annotations: wishes.annotations,
        index_annotations: wishes.index_annotations,
        manifest_descriptor_annotations: wishes.manifest_descriptor_annotations,
        ..Default::default()
    };
    let answer = BuildServiceClient::new(channel.clone()).build_image(request).await?.into_inner();
    let begun = answer.operation.unwrap_or_default();
    let build_id = begun.id.clone();
    let ended = show::follow(channel.clone(), begun, progress, is_quiet).await?;
    drop(serving);
    let Some(OperationResult::BuildResult(result)) = ended.result else {
        return Err(Failure::cut_off("build"));
    };
    for warning in &result.warnings {
        eprintln!("warning: {}", render::printable(warning));
    }
    if command.is_check() {
        if result.warnings.is_empty() {
            eprintln!("Check complete, no warnings found.");
        }
        return Ok(u8::from(!result.warnings.is_empty()));
    }
    for cache in in_folders {
        match exchange::save(&channel, &build_id, cache, is_quiet).await {
            Err(failure) if cache.ignores_error => eprintln!("warning: {}", failure.message),
            saved => saved?,
        }
    }
    if let Some(path) = &command.iidfile {
        write(path, &result.image_id)?;
    }
    if let Some(path) = &command.metadata_file {
        let metadata = serde_json::json!({
            "containerimage.config.digest": result.image_id,
            "containerimage.digest": result.manifest_digest,
            "image.name": result.references.join(","),
        });
        write(path, &format!("{metadata:#}\n"))?;
    }
    let mut is_on_stdout = false;
    for Asked { output, .. } in &command.output {
        output::write(channel.clone(), output, &result.image_id, &references, is_quiet).await?;
        is_on_stdout |= matches!(output, Output::Archive(None) | Output::Tar(None));
    }
    if !is_on_stdout {
        render::line(result.image_id)?;
    }
    Ok(0)
}

/// What the caller has for the registries of its tags and of the images that the Dockerfile names, where it is sent.
async fn auths(
    command: &BuildCommand,
    dockerfile: &[u8],
) -> Result<BTreeMap<String, crate::api::v1::types::RegistryAuth>, Failure> {
    let names = command.output.iter().flat_map(|one| &one.image.names);
    let mut registries: Vec<String> =
        command.tag.iter().chain(names).map(|tag| credentials::registry_of(tag).to_owned()).collect();
    registries.extend(
        bases(&String::from_utf8_lossy(dockerfile)).map(|base| credentials::registry_of(base).to_owned()),
    );
    let caches = command.cache_from.iter().chain(&command.cache_to);
    let caches = caches.filter_map(exchange::Cache::reference);
    registries.extend(caches.map(|cache| credentials::registry_of(cache).to_owned()));
    registries.sort();
    registries.dedup();
    let config = credentials::Config::load()?;
    let mut found = BTreeMap::new();
    for registry in registries {
        if let Some(auth) = config.find(&registry).await? {
            found.insert(registry, auth);
        }
    }
    Ok(found)
}

/// The words of FROM that may be images; a stage's name has no credentials and does no harm.
fn bases(dockerfile: &str) -> impl Iterator<Item = &str> {
    dockerfile.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let is_from = words.next()?.eq_ignore_ascii_case("FROM");
        words.find(|word| !word.starts_with("--")).filter(|word| is_from && !word.contains('$'))
    })
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::file("write", path, &error))
}

/// `NAME=value`; a bare NAME is taken from the environment or, absent there, left out.
fn from_environment(items: &[String]) -> BTreeMap<String, String> {
    items
        .iter()
        .filter_map(|item| match item.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => std::env::var(item).ok().map(|value| (item.clone(), value)),
        })
        .collect()
}

async fn named_contexts(
    channel: &Channel,
    command: &BuildCommand,
    is_quiet: bool,
) -> Result<BTreeMap<String, BuildSource>, Failure> {
    let mut sources = BTreeMap::new();
    for (name, value) in pairs(&command.build_context) {
        let source = if let Some(reference) = value.strip_prefix("docker-image://") {
            BuildSource { source: Some(Source::Image(reference.to_owned())) }
        } else if let Some(place) = value.strip_prefix("oci-layout://") {
            images::send(channel.clone(), place, command, is_quiet).await?
        } else {
            let found = context::Context::named(&value)?;
            context::send(channel.clone(), found, is_quiet).await?
        };
        sources.insert(name, source);
    }
    Ok(sources)
}
