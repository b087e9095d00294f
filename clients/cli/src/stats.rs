//! `fluyt stats` and `fluyt top`: what containers use, and their processes.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::types::{ContainerStats, ProcessInfo};
use crate::api::v1::watch_stats_response::Event;
use crate::api::v1::{GetContainerRequest, ListProcessesRequest, WatchStatsRequest};
use crate::failure::Failure;
use crate::interrupt::{Interrupts, INTERRUPTED};
use crate::render::{self, Format};
use crate::units;

/// Time between two looks that a share of the processor is told from.
const FIRST_INTERVAL: Duration = Duration::from_millis(500);
const SECOND_NANOS: i64 = 1_000_000_000;

/// `fluyt stats`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  fluyt stats\n  fluyt stats --no-stream web\n  fluyt stats --no-stream --format json"
)]
pub struct StatsCommand {
    #[arg(short, long, hide = true)]
    all: bool,
    /// Print once and end
    #[arg(long)]
    no_stream: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Time between two prints
    #[arg(long, value_name = "SPAN", value_parser = units::parse_span, default_value = "1s")]
    interval: Duration,
    /// Output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Containers: ids, unique beginnings of ids, or names; default: all that run
    containers: Vec<String>,
}

/// `fluyt top`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt top web")]
pub struct TopCommand {
    /// Output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Container: id, unique beginning of an id, or name
    container: String,
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    ps_options: Vec<String>,
}

/// Runs `fluyt stats`: a table that is drawn anew on a terminal, one below the other elsewhere.
///
/// # Errors
/// What the engine answers.
pub async fn stats(channel: Channel, command: StatsCommand) -> Result<u8, Failure> {
    if command.all {
        return Err(Failure::usage(
            "--all is not offered",
            "one that does not run uses nothing; `fluyt ps -a` lists those too",
        ));
    }
    let interval = if command.no_stream { FIRST_INTERVAL } else { command.interval };
    let request = WatchStatsRequest {
        containers: command.containers.clone(),
        interval: interval.try_into().ok(),
        // JSON has counters, which one look tells; a table has shares, which take two.
        once: command.no_stream && command.format == Format::Json,
    };
    let mut client = ContainerServiceClient::new(channel);
    let mut interrupts = Interrupts::new()?;
    let mut messages = client.watch_stats(request).await?.into_inner();
    let is_live = !command.no_stream && std::io::stdout().is_terminal();
    let mut names = HashMap::new();
    let mut before: HashMap<String, ContainerStats> = HashMap::new();
    let mut count = 0;
    loop {
        let message = tokio::select! {
            message = messages.message() => message?,
            code = interrupts.next() => return Ok(if code == INTERRUPTED { 0 } else { code }),
        };
        let round = match message.map(|message| message.event) {
            Some(Some(Event::Round(round))) => round.stats,
            Some(Some(Event::Complete(_))) => {
                if count < 2 && command.no_stream && command.format == Format::Table {
                    render::line(table(&[], &before, &names, command.no_trunc))?;
                }
                return Ok(0);
            }
            Some(None) => continue,
            None => return Err(Failure::cut_off("watch")),
        };
        count += 1;
        if command.format == Format::Json {
            render::json_lines(&round)?;
            continue;
        }
        for stats in &round {
            if !names.contains_key(&stats.container_id) {
                let name = name_of(&mut client, &stats.container_id).await?;
                names.insert(stats.container_id.clone(), name);
            }
        }
        if count > 1 || !command.no_stream {
            let text = table(&round, &before, &names, command.no_trunc);
            // Home, and each line cleared to its end and all below: nothing flickers.
            render::line(if is_live {
                format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
            } else {
                text
            })?;
        }
        if count > 1 && command.no_stream {
            return Ok(0);
        }
        before = round.into_iter().map(|stats| (stats.container_id.clone(), stats)).collect();
    }
}

/// Its name; empty if it has gone meanwhile.
async fn name_of(client: &mut ContainerServiceClient<Channel>, id: &str) -> Result<String, Failure> {
    let request = GetContainerRequest { container: id.to_owned(), include_size: false };
    match client.get_container(request).await {
        Ok(answer) => Ok(answer.into_inner().container.unwrap_or_default().name),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(String::new()),
        Err(status) => Err(status.into()),
    }
}

fn table(
    round: &[ContainerStats],
    before: &HashMap<String, ContainerStats>,
    names: &HashMap<String, String>,
    no_trunc: bool,
) -> String {
    let rows: Vec<Vec<String>> = round
        .iter()
        .map(|stats| {
            let id = &stats.container_id;
            let share = before.get(id).map_or(0.0, |earlier| cpu_percent(earlier, stats));
            let memory = percent(stats.memory_working_set_bytes, stats.memory_limit_bytes);
            let pair =
                |first, second| format!("{} / {}", units::human_bytes(first), units::human_bytes(second));
            vec![
                if no_trunc { id.clone() } else { render::short_id(id).to_owned() },
                names.get(id).cloned().unwrap_or_default(),
                format!("{share:.2}%"),
                pair(stats.memory_working_set_bytes, stats.memory_limit_bytes),
                format!("{memory:.2}%"),
                pair(stats.network_receive_bytes, stats.network_transmit_bytes),
                pair(stats.io_read_bytes, stats.io_write_bytes),
                stats.pids_count.to_string(),
            ]
        })
        .collect();
    let header =
        ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"];
    render::table(&header, &rows)
}

fn nanos(time: Option<&prost_types::Timestamp>) -> i64 {
    time.map_or(0, |time| time.seconds.saturating_mul(SECOND_NANOS).saturating_add(i64::from(time.nanos)))
}

/// Share of one processor between two looks; above 100 on several.
fn cpu_percent(earlier: &ContainerStats, later: &ContainerStats) -> f64 {
    let used = later.cpu_usage_nanos - earlier.cpu_usage_nanos;
    percent(used, nanos(later.time.as_ref()) - nanos(earlier.time.as_ref()))
}

/// 0 where there is nothing to be a part of, and for a counter that began anew.
fn percent(part: i64, whole: i64) -> f64 {
    if whole <= 0 || part <= 0 {
        return 0.0;
    }
    100.0 * part as f64 / whole as f64
}

/// Runs `fluyt top`.
///
/// # Errors
/// What the engine answers.
pub async fn top(channel: Channel, command: TopCommand) -> Result<u8, Failure> {
    if let Some(option) = command.ps_options.first() {
        return Err(Failure::usage(
            format!("`{option}`: options of ps are not offered"),
            "the columns are fixed; take what you need from --format json, or run ps by `fluyt exec`",
        ));
    }
    let mut client = ContainerServiceClient::new(channel);
    let mut found: Vec<ProcessInfo> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListProcessesRequest { container: command.container.clone(), page_token, ..Default::default() };
        let page = client.list_processes(request).await?.into_inner();
        found.extend(page.processes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if command.format == Format::Json {
        render::json_lines(&found)?;
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = found.iter().map(process_row).collect();
    render::line(render::table(
        &["UID", "PID", "PPID", "INSIDE", "STATE", "TIME", "MEMORY", "COMMAND"],
        &rows,
    ))?;
    Ok(0)
}

fn process_row(process: &ProcessInfo) -> Vec<String> {
    let seconds = process.cpu_usage_nanos / SECOND_NANOS;
    vec![
        process.uid.to_string(),
        process.host_pid.to_string(),
        process.parent_host_pid.to_string(),
        process.pid.to_string(),
        process.process_state.clone(),
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        units::human_bytes(process.resident_bytes),
        process.args.join(" "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_from_two_looks() {
        let look = |cpu_usage_nanos, seconds| ContainerStats {
            cpu_usage_nanos,
            time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..Default::default()
        };
        assert!((cpu_percent(&look(0, 10), &look(3 * SECOND_NANOS, 12)) - 150.0).abs() < 1e-9);
        // It was started again: its counter began anew.
        assert!(cpu_percent(&look(3 * SECOND_NANOS, 10), &look(0, 12)).abs() < 1e-9);
        assert!(cpu_percent(&look(0, 10), &look(5, 10)).abs() < 1e-9);
    }
}
