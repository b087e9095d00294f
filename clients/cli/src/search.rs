//! `fluyt search`.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::SearchRegistryRequest;
use crate::credentials::{registry_argument, Config, DOCKER_HUB};
use crate::failure::Failure;
use crate::render::{self, Format};

/// Characters of a description in a table.
const DESCRIPTION_CHARS: usize = 60;

/// `fluyt search`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt search nginx
  fluyt search --limit 5 --format json registry.example.com/team")]
pub struct SearchCommand {
    /// Most repositories to show, up to 100
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(i32).range(1..=100))]
    limit: i32,
    /// Print descriptions whole
    #[arg(long)]
    no_trunc: bool,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// What to look for; a registry may precede it, as host[:port]/TERM
    term: String,
}

/// Runs `fluyt search`.
///
/// # Errors
/// Credentials that cannot be had, or what the engine answers.
pub async fn run(channel: Channel, command: SearchCommand) -> Result<u8, Failure> {
    let (registry, term) = split_term(&command.term);
    let registry = registry_argument(registry)?;
    let request = SearchRegistryRequest {
        auth: Config::load()?.find(registry).await?,
        registry: registry.to_owned(),
        term: term.to_owned(),
        limit: command.limit,
    };
    let found = ImageServiceClient::new(channel).search_registry(request).await?.into_inner().repositories;
    if command.format == Format::Json {
        render::json_lines(found.iter())?;
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|one| {
            let text = render::printable(&one.description);
            vec![
                render::printable(&one.reference),
                if command.no_trunc { text } else { render::shorten(&text, DESCRIPTION_CHARS) },
                one.star_count.to_string(),
                if one.is_official { "yes" } else { "" }.to_owned(),
            ]
        })
        .collect();
    render::line(render::table(&["NAME", "DESCRIPTION", "STARS", "OFFICIAL"], &rows))?;
    Ok(0)
}

/// The registry that precedes a term, by the rule of references: its first part has a dot or a colon, or is localhost.
fn split_term(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => (first, rest),
        _ => (DOCKER_HUB, text),
    }
}

#[cfg(test)]
mod tests {
    use super::split_term;

    #[test]
    fn a_registry_may_precede_the_term() {
        assert_eq!(split_term("nginx"), ("docker.io", "nginx"));
        assert_eq!(split_term("team/app"), ("docker.io", "team/app"));
        assert_eq!(split_term("localhost/app"), ("localhost", "app"));
        assert_eq!(split_term("r.example:5000/team/app"), ("r.example:5000", "team/app"));
    }
}
