//! `fluyt cp`: files into and out of a container, by Docker's rules.

mod into;
mod names;
mod out;

use std::ffi::OsString;

use clap::Args;
use tonic::transport::Channel;

use crate::failure::Failure;
pub use into::open_directory;
use names::Place;

/// `fluyt cp`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt cp web:/etc/nginx/nginx.conf .
  fluyt cp site/. web:/usr/share/nginx/html
  fluyt cp -a backup web:/var/lib/
  fluyt cp web:/var/log - | tar -t
  tar -c -C site . | fluyt cp - web:/srv")]
pub struct CopyCommand {
    /// Keep user and group; else files are root's in the container, and yours out of it
    #[arg(short, long)]
    pub archive: bool,
    /// If the source is a link, copy what it points to
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// CONTAINER:PATH, a path of this host, or - for a tar on standard input
    pub source: OsString,
    /// A path of this host, CONTAINER:PATH, or - for a tar on standard output
    pub destination: OsString,
}

/// Runs `fluyt cp`.
///
/// # Errors
/// Neither or both sides are of a container; a side that is not there or of the wrong kind; what the engine answers.
pub async fn run(channel: Channel, command: CopyCommand) -> Result<u8, Failure> {
    let CopyCommand { archive, follow_link, quiet, source, destination } = command;
    match (Place::parse(&source), Place::parse(&destination)) {
        (Place::Container(from), Place::Local(to)) => {
            let options = out::Options { is_archive: archive, follow_link, is_quiet: quiet };
            out::copy(channel, from, to, &options).await
        }
        (Place::Local(from), Place::Container(to)) => {
            let options = into::Options { is_archive: archive, follow_link, is_quiet: quiet };
            into::copy(channel, from, to, &options).await
        }
        (Place::Container(_), Place::Container(_)) => Err(Failure::usage(
            "nothing is copied from one container to another",
            "pass it on: fluyt cp FROM:PATH - | fluyt cp - TO:PATH",
        )),
        (Place::Local(_), Place::Local(_)) => Err(Failure::usage(
            "one side must be of a container",
            "write it as CONTAINER:PATH; a local name with a colon as ./NAME",
        )),
    }
}
