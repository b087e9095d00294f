//! `fluyt system check`: reads stored images again and tells what is damaged.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::check_storage_response::Event;
use crate::api::v1::engine_service_client::EngineServiceClient;
use crate::api::v1::{CheckStorageRequest, StorageCheckSummary, StorageFinding};
use crate::failure::Failure;
use crate::render::{self, Format};
use crate::units;

/// Exit code where something is damaged and stays so.
const EXIT_DAMAGED: u8 = 1;

/// `fluyt system check`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt system check
  fluyt system check --repair team/app:1
  fluyt system check --format json")]
pub struct CheckCommand {
    /// Make damaged content again or fetch it anew, and delete what nothing needs
    #[arg(long)]
    repair: bool,
    /// Output; json prints findings and then the summary, one object a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// What to check: digests of blobs, ids of layers or references of images; default: everything
    subjects: Vec<String>,
}

/// Runs `fluyt system check`: each finding as it is made, then the summary. Exit code 0 if nothing is damaged any more,
/// 1 if something is.
///
/// # Errors
/// What the engine answers, the stream ends before the summary, or standard output is closed.
pub async fn run(channel: Channel, command: CheckCommand) -> Result<u8, Failure> {
    let CheckCommand { repair, format, subjects } = command;
    let request = CheckStorageRequest { repair, subjects, ..Default::default() };
    let mut events = EngineServiceClient::new(channel).check_storage(request).await?.into_inner();
    while let Some(message) = events.message().await? {
        match (message.event, format) {
            (Some(Event::Finding(finding)), Format::Json) => render::json_lines([&finding])?,
            (Some(Event::Finding(finding)), _) => render::line(finding_text(&finding))?,
            (Some(Event::Summary(summary)), _) => {
                match format {
                    Format::Json => render::json_lines([&summary])?,
                    Format::Table => render::line(summary_text(&summary))?,
                }
                return Ok(if summary.damaged_count > summary.repaired_count { EXIT_DAMAGED } else { 0 });
            }
            (Some(Event::Progress(_)) | None, _) => {}
        }
    }
    Err(Failure::cut_off("check"))
}

/// What is damaged, who needs it, and what was done.
fn finding_text(finding: &StorageFinding) -> String {
    let state = if finding.is_repaired { "Repaired" } else { "Damaged" };
    let message = finding.failure.as_ref().map(|failure| failure.message.as_str()).unwrap_or_default();
    let mut text = format!("{state}: {}: {}", finding.subject, render::printable(message));
    if !finding.references.is_empty() {
        text.push_str(&format!("\n  needed by: {}", finding.references.join(", ")));
    }
    if !finding.action.is_empty() {
        text.push_str(&format!("\n  {}", render::printable(&finding.action)));
    }
    let next_step = finding.failure.as_ref().map(|failure| failure.next_step.as_str()).unwrap_or_default();
    // What was done, or could not be, says itself what to do next.
    if finding.action.is_empty() && !finding.is_repaired && !next_step.is_empty() {
        text.push_str(&format!("\n  try: {}", render::printable(next_step)));
    }
    text
}

fn summary_text(summary: &StorageCheckSummary) -> String {
    format!(
        "Checked: {} ({}), damaged: {}, repaired: {}",
        summary.checked_count,
        units::human_bytes(summary.checked_bytes),
        summary.damaged_count,
        summary.repaired_count,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_tells_who_needs_what_is_damaged_and_what_was_done() {
        let mut finding = StorageFinding { subject: "sha256:00".to_owned(), ..Default::default() };
        assert_eq!(finding_text(&finding), "Damaged: sha256:00: ");
        finding.is_repaired = true;
        finding.references = vec!["a:1".to_owned(), "b:1".to_owned()];
        finding.action = "fetched\u{1b}".to_owned();
        let text = finding_text(&finding);
        assert!(text.starts_with("Repaired: sha256:00: \n  needed by: a:1, b:1\n  fetched"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
