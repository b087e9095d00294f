//! The engine itself: version, info and doctor.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::capability::Need;
use crate::api::v1::engine_service_client::EngineServiceClient;
use crate::api::v1::types::container::State;
use crate::api::v1::{GetInfoRequest, GetInfoResponse, GetVersionRequest};
use crate::failure::Failure;
use crate::render::{self, Format};
use crate::units;

/// `fluyt version`, `fluyt info`, `fluyt doctor`
#[derive(Args, Debug)]
pub struct EngineCommand {
    /// Output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs `fluyt version`: this program's version and the daemon's.
///
/// # Errors
/// The daemon does not answer; this program's version is printed before.
pub async fn version(channel: Channel, command: EngineCommand) -> Result<u8, Failure> {
    let answer = EngineServiceClient::new(channel).get_version(GetVersionRequest {}).await;
    let client = env!("CARGO_PKG_VERSION");
    if command.format == Format::Json {
        let server = answer.as_ref().ok().map(|answer| render::json(answer.get_ref()));
        render::line(serde_json::json!({"client": {"version": client}, "server": server}).to_string())?;
    } else {
        render::line(format!("Client:  {client}"))?;
        if let Ok(answer) = &answer {
            let server = answer.get_ref();
            render::line(format!(
                "Server:  {} (API {}, core {} {}, {}/{}, kernel {})",
                server.version,
                server.api_version,
                server.core_version,
                server.build_profile,
                server.os,
                server.architecture,
                server.kernel_release
            ))?;
        }
    }
    answer.map(|_| 0).map_err(Failure::from)
}

/// Runs `fluyt info`.
///
/// # Errors
/// What the engine answers.
pub async fn info(channel: Channel, command: EngineCommand) -> Result<u8, Failure> {
    let info = EngineServiceClient::new(channel).get_info(GetInfoRequest {}).await?.into_inner();
    if command.format == Format::Json {
        render::json_lines([&info])?;
        return Ok(0);
    }
    let host = info.host.clone().unwrap_or_default();
    let storage = info.storage.clone().unwrap_or_default();
    let mut lines = vec![
        format!("Host:        {} ({}, {})", host.hostname, host.os_name, host.architecture),
        format!("Kernel:      {}", host.kernel_release),
        format!("Processors:  {}", host.cpu_count),
        format!("Memory:      {}", units::human_bytes(host.memory_bytes)),
        format!("Cgroups:     {} ({})", host.cgroup_mode, host.cgroup_controllers.join(" ")),
        format!(
            "Data root:   {} ({}, {} layers)",
            storage.data_root, storage.filesystem, storage.layer_store
        ),
        format!(
            "Space:       {} of {} free",
            units::human_bytes(storage.available_bytes),
            units::human_bytes(storage.total_bytes)
        ),
        format!("Run root:    {}", storage.run_root),
        format!("Images:      {}", info.image_count),
    ];
    for count in &info.container_counts {
        let state = State::try_from(count.state).unwrap_or_default().as_str_name();
        lines.push(format!(
            "Containers:  {} {}",
            count.count,
            state.trim_start_matches("STATE_").to_lowercase()
        ));
    }
    for clamp in &info.clamps {
        lines.push(format!("Clamped:     {}: {}", clamp.field, clamp.detail));
    }
    for warning in &info.warnings {
        lines.push(format!("Warning:     {warning}"));
    }
    render::line(lines.join("\n"))?;
    Ok(0)
}

/// Runs `fluyt doctor`: what this host can do; exit code 1 if something that the engine needs is missing.
///
/// # Errors
/// The daemon does not answer.
pub async fn doctor(channel: Channel, command: EngineCommand) -> Result<u8, Failure> {
    let info = EngineServiceClient::new(channel).get_info(GetInfoRequest {}).await?.into_inner();
    let is_lacking = info
        .capabilities
        .iter()
        .any(|capability| !capability.is_available && capability.need() == Need::Required);
    if command.format == Format::Json {
        render::json_lines(&info.capabilities)?;
    } else {
        render::line(report(&info))?;
    }
    Ok(u8::from(is_lacking))
}

fn report(info: &GetInfoResponse) -> String {
    let rows: Vec<Vec<String>> = info
        .capabilities
        .iter()
        .map(|capability| {
            let mark = match (capability.is_available, capability.need()) {
                (true, _) => "yes",
                (false, Need::Required) => "MISSING",
                (false, _) => "no",
            };
            vec![
                mark.to_owned(),
                capability.name.clone(),
                capability.detail.clone(),
                capability.next_step.clone(),
            ]
        })
        .collect();
    render::table(&["", "CAPABILITY", "DETAIL", "WHAT TO DO"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1::Capability;

    #[test]
    fn what_is_needed_and_missing_stands_out() {
        let capability = |name: &str, is_available, need: Need| Capability {
            name: name.to_owned(),
            is_available,
            need: need.into(),
            ..Default::default()
        };
        let info = GetInfoResponse {
            capabilities: vec![
                capability("overlay", false, Need::Required),
                capability("psi", false, Need::Optional),
            ],
            ..Default::default()
        };
        let text = report(&info);
        assert!(text.contains("MISSING   overlay"), "{text}");
        assert!(text.contains("no        psi"), "{text}");
    }
}
