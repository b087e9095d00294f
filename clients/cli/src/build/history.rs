//! `fluyt builder history`: builds that run and the last ones that ended.

use clap::Subcommand;
use tonic::transport::Channel;

use crate::api::v1::build_service_client::BuildServiceClient;
use crate::api::v1::types::operation::State;
use crate::api::v1::{
    Build, GetBuildRequest, ListBuildsRequest, PruneBuildHistoryRequest, ReadBuildLogRequest,
};
use crate::clock;
use crate::failure::Failure;
use crate::render::{self, Format};
use crate::units;

/// `fluyt builder history`
#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  fluyt builder history ls
  fluyt builder history logs 3f2a
  fluyt builder history rm --all")]
pub enum Command {
    /// List builds, begun last first
    Ls {
        /// Output
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Tell one build with its steps, as JSON; default: the last one
    Inspect {
        /// Id, or the beginning of one
        #[arg(value_name = "BUILD")]
        build: Option<String>,
    },
    /// Print what the steps of a build wrote; default: of the last one
    Logs {
        /// Id, or the beginning of one
        #[arg(value_name = "BUILD")]
        build: Option<String>,
    },
    /// Forget builds that have ended; what they built stays
    Rm {
        /// Ids, or beginnings of them
        #[arg(value_name = "BUILD")]
        builds: Vec<String>,
        /// All that have ended
        #[arg(short, long)]
        all: bool,
    },
}

/// Runs `fluyt builder history …`.
///
/// # Errors
/// A build that is not kept, or what the engine answers.
pub async fn run(channel: Channel, command: Command) -> Result<u8, Failure> {
    let mut client = BuildServiceClient::new(channel);
    let builds = list(&mut client).await?;
    match command {
        Command::Ls { format } => show(&builds, format)?,
        Command::Inspect { build } => {
            let request = GetBuildRequest { id: find(&builds, build.as_deref())? };
            render::json_pretty(&client.get_build(request).await?.into_inner().build.unwrap_or_default())?;
        }
        Command::Logs { build } => {
            let operation_id = find(&builds, build.as_deref())?;
            let request = ReadBuildLogRequest { operation_id, ..Default::default() };
            let mut pieces = client.read_build_log(request).await?.into_inner();
            while let Some(piece) = pieces.message().await? {
                render::bytes(&piece.data, piece.is_stderr)?;
            }
        }
        Command::Rm { builds: named, all } => {
            let ids = named.iter().map(|text| find(&builds, Some(text))).collect::<Result<_, _>>()?;
            let request = PruneBuildHistoryRequest { ids, all, ..Default::default() };
            for id in client.prune_build_history(request).await?.into_inner().deleted {
                render::line(id)?;
            }
        }
    }
    Ok(0)
}

async fn list(client: &mut BuildServiceClient<Channel>) -> Result<Vec<Build>, Failure> {
    let mut builds = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListBuildsRequest { page_token, ..Default::default() };
        let page = client.list_builds(request).await?.into_inner();
        builds.extend(page.builds);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(builds);
        }
    }
}

/// The id of the one build that begins so, or of the last one.
fn find(builds: &[Build], text: Option<&str>) -> Result<String, Failure> {
    let list = "list them with `fluyt builder history ls`";
    let Some(text) = text else {
        let last = builds.first().ok_or_else(|| Failure::new("there is no build yet", ""))?;
        return Ok(last.id.clone());
    };
    let mut found = builds.iter().filter(|build| build.id.starts_with(text) && !text.is_empty());
    match (found.next(), found.next()) {
        (Some(build), None) => Ok(build.id.clone()),
        (Some(_), Some(_)) => Err(Failure::new(format!("several builds begin with `{text}`"), list)),
        (None, _) => Err(Failure::new(format!("there is no build `{text}`"), list)),
    }
}

fn show(builds: &[Build], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return render::json_lines(builds);
    }
    let now = clock::now_seconds();
    let row = |build: &Build| {
        let state = match build.state() {
            State::Running => "running",
            State::Succeeded => "done",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Unspecified => "",
        };
        let begun = build.create_time.as_ref().map_or(0, |time| time.seconds);
        let ended = build.end_time.as_ref().map_or(now, |time| time.seconds);
        let names = build.references.iter().map(|name| render::printable(name)).collect::<Vec<_>>();
        vec![
            render::short_id(&build.id).to_owned(),
            if names.is_empty() { "-".to_owned() } else { names.join(" ") },
            state.to_owned(),
            format!("{}/{}", build.cached_step_count, build.step_count),
            clock::ago(build.create_time.as_ref(), now),
            units::human_span(ended.saturating_sub(begun)),
        ]
    };
    let rows: Vec<Vec<String>> = builds.iter().map(row).collect();
    render::line(render::table(&["ID", "NAME", "STATE", "CACHED", "BEGUN", "TOOK"], &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_found_by_the_beginning_of_their_id() {
        let build = |id: &str| Build { id: id.to_owned(), ..Default::default() };
        let builds = [build("abc"), build("abd"), build("b")];
        assert_eq!(find(&builds, None).unwrap(), "abc");
        assert_eq!(find(&builds, Some("abd")).unwrap(), "abd");
        assert_eq!(find(&builds, Some("b")).unwrap(), "b");
        for wrong in ["ab", "c", ""] {
            assert!(find(&builds, Some(wrong)).is_err(), "{wrong}");
        }
        assert!(find(&[], None).is_err());
    }
}
