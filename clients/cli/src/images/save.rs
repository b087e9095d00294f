//! `fluyt save`.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use sha2::{Digest, Sha256};
use tonic::transport::Channel;

use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::{save_images_response::Part, SaveComplete, SaveImagesRequest};
use crate::container_flags::parse_platforms;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::output_file::OutputFile;
use crate::progress;
use crate::render;

/// `fluyt save`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt save -o app.tar team/app:1 team/app:2
  fluyt save team/app:1 | zstd > app.tar.zst
  fluyt save team/app:1 | ssh other fluyt load")]
pub struct SaveCommand {
    /// File to write; it appears when it is whole. Default: standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Platforms to save; default: all that are present
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    pub platform: Vec<String>,
    /// Print no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Images: references, digests or ids
    #[arg(required = true)]
    pub images: Vec<String>,
}

/// Runs `fluyt save`: one OCI archive that `docker load` takes too. Ctrl-C gives it up and leaves no file.
///
/// # Errors
/// Standard output is a terminal, the file cannot be written, what came is not what the engine sent, or what the engine
/// answers.
pub async fn save(channel: Channel, command: SaveCommand) -> Result<u8, Failure> {
    if command.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "an archive is not for a terminal",
            "name a file with --output, or pass it on with a pipe",
        ));
    }
    let platforms = parse_platforms(&command.platform)?;
    let request = SaveImagesRequest { images: command.images, platforms };
    let mut parts = ImageServiceClient::new(channel).save_images(request).await?.into_inner();
    // Made after the engine has taken the request, so that a name that is not there does not touch the disk.
    let mut file = command.output.as_deref().map(OutputFile::create).transpose()?;
    // Where there is nothing to remove, a signal ends the program by itself, also while it waits for a slow reader.
    let mut interrupts =
        file.as_ref().filter(|file| file.is_temporary()).map(|_| Interrupts::new()).transpose()?;
    let bar = progress::receiving(command.quiet || command.output.is_none());
    let mut came = Came::default();
    let complete = loop {
        let part = tokio::select! {
            part = parts.message() => part?.and_then(|message| message.part),
            code = next_of(&mut interrupts) => return Err(Failure::interrupted("save given up", "", code)),
        };
        match part {
            Some(Part::Chunk(chunk)) => {
                came.add(&chunk);
                bar.inc(chunk.len() as u64);
                match &mut file {
                    Some(file) => file.write(&chunk)?,
                    None => render::bytes(&chunk, false)?,
                }
            }
            Some(Part::Complete(complete)) => break complete,
            None => return Err(Failure::cut_off("save")),
        }
    };
    bar.finish_and_clear();
    came.check(&complete)?;
    file.map_or(Ok(()), OutputFile::finish)?;
    Ok(0)
}

/// What came of an archive so far.
#[derive(Default)]
struct Came {
    size_bytes: u64,
    hasher: Sha256,
}

impl Came {
    fn add(&mut self, chunk: &[u8]) {
        self.size_bytes += chunk.len() as u64;
        self.hasher.update(chunk);
    }

    /// It is, byte for byte, what the engine says it sent.
    fn check(self, complete: &SaveComplete) -> Result<(), Failure> {
        if u64::try_from(complete.size_bytes) != Ok(self.size_bytes) {
            return Err(Failure::cut_off("save"));
        }
        let hex: String = self.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if complete.digest == format!("sha256:{hex}") {
            return Ok(());
        }
        Err(Failure::new(
            format!("the archive that came is sha256:{hex}, not {}", complete.digest),
            "save again; if it happens again, look at what stands between here and the engine",
        ))
    }
}

/// The next signal that is watched for; for ever of none.
async fn next_of(interrupts: &mut Option<Interrupts>) -> u8 {
    match interrupts {
        Some(interrupts) => interrupts.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn check(chunks: &[&[u8]], size_bytes: i64, digest: &str) -> Result<(), Failure> {
        let mut came = Came::default();
        chunks.iter().for_each(|chunk| came.add(chunk));
        came.check(&SaveComplete { size_bytes, digest: digest.to_owned() })
    }

    #[test]
    fn an_archive_is_whole_by_size_and_digest() {
        assert!(check(&[], 0, EMPTY).is_ok());
        assert!(check(&[b"a", b"", b"bc"], 3, ABC).is_ok());
        for (chunks, size_bytes, digest) in [
            (&[b"abc".as_slice()], 4, ABC),
            (&[b"abc"], -1, ABC),
            (&[b"abd"], 3, ABC),
            (&[b"abc"], 3, ""),
            (&[b"abc"], 3, EMPTY),
        ] {
            assert!(check(chunks, size_bytes, digest).is_err(), "{chunks:?} {size_bytes} {digest}");
        }
    }
}
