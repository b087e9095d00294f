//! A connected client for `python -m bench`: it does what each line of its input says and prints how long that took.
//!
//! ```text
//! bench_client unix:///run/fluyt/fluytd.sock IMAGE
//! true                     RunContainer of /bin/true, until exited and removed        -> seconds
//! start NAME COUNT CALLERS COUNT detached containers NAME-0, NAME-1, …, CALLERS at once -> seconds
//! ```
//!
//! A client written in Python takes 2 ms of a processor for each run, which on two processors is time that the engine
//! does not have.

#[path = "../src/api.rs"]
mod api;

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use api::v1::container_service_client::ContainerServiceClient;
use api::v1::run_container_response::Event;
use api::v1::types::{network_spec, ContainerSpec, NetworkSpec};
use api::v1::RunContainerRequest;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};

type Client = ContainerServiceClient<Channel>;
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: bench_client unix:///PATH IMAGE";
    let (host, image) = (args.next().ok_or(usage)?, args.next().ok_or(usage)?);
    let path = host.strip_prefix("unix://").ok_or(usage)?.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let channel = runtime.block_on(Endpoint::from_static("http://localhost").connect_with_connector(
        tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
        }),
    ))?;
    let client = ContainerServiceClient::new(channel);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let took = match words[..] {
            ["true"] => runtime.block_on(run_true(&client, &image))?,
            ["start", name, count, callers] => {
                runtime.block_on(start(&client, &image, name, count.parse()?, callers.parse()?))?
            }
            _ => return Err(format!("{line} is no order").into()),
        };
        println!("{}", took.as_secs_f64());
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn request(image: &str, name: &str, args: &[&str], stays: bool) -> RunContainerRequest {
    let network = NetworkSpec { mode: network_spec::Mode::None.into(), ..Default::default() };
    let spec = ContainerSpec {
        image: image.to_owned(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        auto_remove: !stays,
        network: Some(network),
        ..Default::default()
    };
    RunContainerRequest { spec: Some(spec), name: name.to_owned(), detach: stays, ..Default::default() }
}

async fn run_true(client: &Client, image: &str) -> Outcome<Duration> {
    let begin = Instant::now();
    let mut events =
        client.clone().run_container(request(image, "", &["/bin/true"], false)).await?.into_inner();
    let mut last = None;
    while let Some(response) = events.message().await? {
        last = response.event;
    }
    let took = begin.elapsed();
    match last {
        Some(Event::Exited(_)) => Ok(took),
        other => Err(format!("the stream ended with {other:?}").into()),
    }
}

async fn start(client: &Client, image: &str, name: &str, count: usize, callers: usize) -> Outcome<Duration> {
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let (mut client, image, name) = (client.clone(), image.to_owned(), name.to_owned());
        tasks.spawn(async move {
            for number in (caller..count).step_by(callers) {
                let name = format!("{name}-{number}");
                let asked = request(&image, &name, &["/bin/sleep", "100000"], true);
                let mut events = client.run_container(asked).await?.into_inner();
                while events.message().await?.is_some() {}
            }
            Ok::<(), tonic::Status>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(begin.elapsed())
}
