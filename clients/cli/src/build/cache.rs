//! `fluyt builder`: what builds keep for later ones.

use clap::Subcommand;
use tonic::transport::Channel;

use crate::api::v1::build_service_client::BuildServiceClient;
use crate::api::v1::types::operation::Result as OperationResult;
use crate::api::v1::{BuildCacheRecord, ListBuildCacheRequest, PruneBuildCacheRequest};
use crate::clock;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::operations::{self, OnInterrupt};
use crate::render::{self, Format};
use crate::units;

/// Characters of a step that a table shows.
const STEP_CHARS: usize = 60;

/// `fluyt builder`
#[derive(Subcommand, Debug)]
#[command(
    after_help = "Examples:\n  fluyt builder du\n  fluyt builder prune -f --keep-storage 2g\n  fluyt builder history ls"
)]
pub enum Command {
    /// Build an image of a folder and a Dockerfile
    Build(Box<super::BuildCommand>),
    /// List what is kept, last used first
    Du {
        /// Output
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Builds that run and the last ones that ended
    #[command(subcommand)]
    History(super::history::Command),
    /// Delete what is kept and no build uses
    Prune {
        /// Also records of layers that an image has, which frees nothing
        #[arg(short, long)]
        all: bool,
        /// Ask nothing
        #[arg(short, long)]
        force: bool,
        /// Only tell what would go
        #[arg(long)]
        dry_run: bool,
        /// Stop once no more than this is kept
        #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
        keep_storage: Option<i64>,
        /// Only what was unused for so long, as 24h
        #[arg(long, value_name = "SPAN", value_parser = units::parse_span)]
        unused_for: Option<std::time::Duration>,
    },
}

/// Runs `fluyt builder …`.
///
/// # Errors
/// There is no terminal to ask on, or what the engine answers.
pub async fn run(channel: Channel, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Build(command) => super::build(channel, *command).await,
        Command::Du { format } => usage(channel, format).await,
        Command::History(command) => super::history::run(channel, command).await,
        Command::Prune { all, force, dry_run, keep_storage, unused_for } => {
            if !force && !dry_run && !confirm("This will remove the build cache that no build uses.")? {
                return Ok(1);
            }
            let unused_for = unused_for.and_then(|span| prost_types::Duration::try_from(span).ok());
            let keep_bytes = keep_storage.unwrap_or_default();
            let request =
                PruneBuildCacheRequest { all, unused_for, keep_bytes, dry_run, ..Default::default() };
            let answer =
                BuildServiceClient::new(channel.clone()).prune_build_cache(request).await?.into_inner();
            let begun = answer.operation.unwrap_or_default();
            let ended = operations::watch(channel, begun, true, OnInterrupt::Cancel).await?;
            let Some(OperationResult::PruneResult(result)) = ended.result else {
                return Err(Failure::cut_off("prune"));
            };
            for id in &result.deleted {
                render::line(id)?;
            }
            let word = if dry_run { "Would reclaim" } else { "Total reclaimed" };
            render::line(format!("{word}: {}", units::human_bytes(result.reclaimed_bytes)))?;
            Ok(0)
        }
    }
}

async fn usage(channel: Channel, format: Format) -> Result<u8, Failure> {
    let mut client = BuildServiceClient::new(channel);
    let mut records: Vec<BuildCacheRecord> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListBuildCacheRequest { page_token, ..Default::default() };
        let page = client.list_build_cache(request).await?.into_inner();
        records.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if format == Format::Json {
        render::json_lines(&records)?;
        return Ok(0);
    }
    let now = clock::now_seconds();
    let row = |record: &BuildCacheRecord| {
        vec![
            render::short_id(&record.id).to_owned(),
            render::shorten(&render::printable(&record.description), STEP_CHARS),
            units::human_bytes(record.size_bytes),
            clock::ago(record.use_time.as_ref(), now),
            record.use_count.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = records.iter().map(row).collect();
    render::line(render::table(&["ID", "STEP", "SIZE", "LAST USED", "USES"], &rows))?;
    let total = records.iter().map(|record| record.size_bytes).sum();
    render::line(format!("Total: {}", units::human_bytes(total)))?;
    Ok(0)
}
