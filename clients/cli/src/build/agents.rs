//! The ssh agents that a build may use: `--ssh` of the command line, and their service while the build runs.
//!
//! The engine is not trusted with more than a build needs: identities are listed and signatures made, everything else
//! is refused here. Source: draft-ietf-sshm-ssh-agent; BuildKit session/sshforward does the same.

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::Streaming;

use crate::api::v1::build_service_client::BuildServiceClient;
use crate::api::v1::serve_build_agents_request::Part as Said;
use crate::api::v1::serve_build_agents_response::Part as Heard;
use crate::api::v1::{
    BuildAgentEnd, BuildAgentMessage, BuildAgentOffer, ServeBuildAgentsRequest, ServeBuildAgentsResponse,
};
use crate::failure::Failure;

/// Bytes of one message. Source: OpenSSH ssh-agent.c, AGENT_MAX_LEN.
const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// Connections at once. Source: docs/builds.md, MAX_AGENT_CONNECTIONS.
const MAX_CONNECTIONS: usize = 64;
/// Bytes of known hosts. Source: docs/builds.md, MAX_KNOWN_HOSTS_BYTES.
const MAX_KNOWN_HOSTS_BYTES: usize = 256 * 1024;
/// SSH_AGENTC_REQUEST_IDENTITIES and SSH_AGENTC_SIGN_REQUEST.
const ALLOWED: [u8; 2] = [11, 13];
/// SSH_AGENT_FAILURE.
const REFUSAL: [u8; 1] = [5];
/// Messages that wait for the engine.
const QUEUE: usize = 8;
/// What an agent of our own is the companion of: it ends as soon as we have closed our side, or have ended in whatever
/// way, and takes the agent and its folder (`$0`) with it.
const COMPANION: &str = r#"trap '' INT; cat >/dev/null; kill "$SSH_AGENT_PID"; rm -rf -- "$0""#;
/// How long an agent of our own may take to listen.
const START: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// Agents that are served until this is dropped.
pub struct Serving {
    session_id: String,
    task: Option<JoinHandle<()>>,
    /// Agents of our own, which end with it.
    _own: Vec<OwnAgent>,
}

impl Serving {
    /// For `BuildImageRequest.agent_session_id`; empty where nothing is served.
    pub fn session_id(&self) -> String {
        self.session_id.clone()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// One `--ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    id: String,
    /// A socket, or private keys; none: the socket that SSH_AUTH_SOCK names.
    paths: Vec<PathBuf>,
}

impl Offered {
    /// The agent of SSH_AUTH_SOCK as `default`.
    pub fn of_environment() -> Self {
        Self { id: "default".to_owned(), paths: Vec::new() }
    }
}

/// `default`, `ID=SOCKET` or `ID=KEY[,KEY]`.
///
/// # Errors
/// There is no id.
pub fn parse(text: &str) -> Result<Offered, String> {
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    if id.is_empty() {
        return Err("write default, ID=SOCKET or ID=KEY".to_owned());
    }
    let paths = paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    Ok(Offered { id: id.to_owned(), paths })
}

/// The host keys that git over ssh may trust: those of the named file, else of `~/.ssh/known_hosts` where it is there.
///
/// # Errors
/// A file that cannot be read, or is too long.
pub fn known_hosts(named: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let own = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".ssh/known_hosts"));
    let Some(path) = named.map(Path::to_owned).or(own.filter(|path| path.is_file())) else {
        return Ok(Vec::new());
    };
    let mut data = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_KNOWN_HOSTS_BYTES as u64 + 1).read_to_end(&mut data))
        .map_err(|error| Failure::file("read", &path, &error))?;
    if data.len() > MAX_KNOWN_HOSTS_BYTES {
        return Err(Failure::usage(
            format!("{} has more than {MAX_KNOWN_HOSTS_BYTES} bytes", path.display()),
            "name a file with the hosts of this build by --ssh-known-hosts",
        ));
    }
    Ok(data)
}

/// Serves the agents, for as long as the answer lives.
///
/// # Errors
/// An agent that is not there, a key that no agent takes, what the engine answers.
pub async fn serve(channel: Channel, offered: &[Offered]) -> Result<Serving, Failure> {
    let mut own = Vec::new();
    let mut sockets = BTreeMap::new();
    for one in offered {
        let socket = match one.paths.as_slice() {
            [] => from_environment(&one.id)?,
            [path] if is_socket(path)? => path.clone(),
            keys => {
                let agent = OwnAgent::start(keys).await?;
                let socket = agent.socket();
                own.push(agent);
                socket
            }
        };
        if sockets.insert(one.id.clone(), socket).is_some() {
            return Err(Failure::usage(format!("--ssh names {} twice", one.id), "give each id once"));
        }
    }
    if sockets.is_empty() {
        return Ok(Serving { session_id: String::new(), task: None, _own: own });
    }
    let (said, queue) = mpsc::channel(QUEUE);
    let offer = BuildAgentOffer { ids: sockets.keys().cloned().collect() };
    // The queue is empty and holds several.
    let _ = said.try_send(ServeBuildAgentsRequest { part: Some(Said::Offer(offer)) });
    let answered = BuildServiceClient::new(channel).serve_build_agents(ReceiverStream::new(queue)).await?;
    let mut heard = answered.into_inner();
    let Some(Heard::Ready(ready)) = heard.message().await?.and_then(|message| message.part) else {
        return Err(Failure::cut_off("session of agents"));
    };
    let task = tokio::spawn(hear(heard, sockets, said));
    Ok(Serving { session_id: ready.session_id, task: Some(task), _own: own })
}

fn from_environment(id: &str) -> Result<PathBuf, Failure> {
    std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from).ok_or_else(|| {
        Failure::usage(
            format!("--ssh {id} needs an agent, and SSH_AUTH_SOCK is not set"),
            format!("start one (eval \"$(ssh-agent)\"; ssh-add), or write --ssh {id}=SOCKET"),
        )
    })
}

fn is_socket(path: &Path) -> Result<bool, Failure> {
    let found = std::fs::metadata(path).map_err(|error| Failure::file("read", path, &error))?;
    Ok(found.file_type().is_socket())
}

type Asked = mpsc::Sender<Vec<u8>>;

/// Gives what is asked to a task for each connection, until the stream has ended; the build tells why it did.
async fn hear(
    mut heard: Streaming<ServeBuildAgentsResponse>,
    sockets: BTreeMap<String, PathBuf>,
    said: mpsc::Sender<ServeBuildAgentsRequest>,
) {
    let mut talks = tokio::task::JoinSet::new();
    let mut asked: HashMap<u64, Asked> = HashMap::new();
    while let Ok(Some(message)) = heard.message().await {
        while talks.try_join_next().is_some() {}
        match message.part {
            Some(Heard::End(end)) => {
                asked.remove(&end.connection);
            }
            Some(Heard::Ask(ask)) => {
                let is_new = !asked.contains_key(&ask.connection);
                let socket = sockets.get(&ask.id).filter(|_| !is_new || asked.len() < MAX_CONNECTIONS);
                let Some(socket) = socket else {
                    let _ = said.send(ended(ask.connection)).await;
                    continue;
                };
                let talk = asked.entry(ask.connection).or_insert_with(|| {
                    let (sender, requests) = mpsc::channel(1);
                    talks.spawn(talk(ask.connection, socket.clone(), requests, said.clone()));
                    sender
                });
                // One that has ended has said so. An engine that asks more before it has its answer breaks the rule,
                // and has no agents any more.
                if let Err(mpsc::error::TrySendError::Full(_)) = talk.try_send(ask.data) {
                    return;
                }
            }
            _ => {}
        }
    }
}

fn ended(connection: u64) -> ServeBuildAgentsRequest {
    ServeBuildAgentsRequest { part: Some(Said::End(BuildAgentEnd { connection })) }
}

/// Answers one connection until it ends; an agent that fails answers nothing, as one that is not there.
async fn talk(
    connection: u64,
    socket: PathBuf,
    mut requests: mpsc::Receiver<Vec<u8>>,
    said: mpsc::Sender<ServeBuildAgentsRequest>,
) {
    let mut agent = None;
    while let Some(request) = requests.recv().await {
        let is_allowed = request.first().is_some_and(|kind| ALLOWED.contains(kind));
        let data = if is_allowed && request.len() <= MAX_MESSAGE_BYTES {
            let Ok(data) = answer(&mut agent, &socket, &request).await else {
                let _ = said.send(ended(connection)).await;
                return;
            };
            data
        } else {
            REFUSAL.to_vec()
        };
        let answer = BuildAgentMessage { connection, data, ..Default::default() };
        if said.send(ServeBuildAgentsRequest { part: Some(Said::Answer(answer)) }).await.is_err() {
            return;
        }
    }
}

/// One request and its answer, both whole messages.
async fn answer(
    agent: &mut Option<UnixStream>,
    socket: &Path,
    request: &[u8],
) -> Result<Vec<u8>, std::io::Error> {
    let stream = match agent {
        Some(stream) => stream,
        None => agent.insert(UnixStream::connect(socket).await?),
    };
    let length = u32::try_from(request.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), request].concat()).await?;
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length == 0 || length > MAX_MESSAGE_BYTES {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut data = vec![0; length];
    stream.read_exact(&mut data).await?;
    Ok(data)
}

/// An `ssh-agent` of this host that has certain keys, in a private folder; it ends when this is dropped, and also where
/// a signal ends this program.
struct OwnAgent {
    folder: PathBuf,
    /// Its closed input ends the companion.
    _companion: Child,
}

impl OwnAgent {
    async fn start(keys: &[PathBuf]) -> Result<Self, Failure> {
        let folder = private_folder()?;
        let started = Command::new("ssh-agent")
            .arg("-a")
            .arg(folder.join("agent"))
            .args(["sh", "-c", COMPANION])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        let companion = match started {
            Ok(companion) => companion,
            Err(error) => {
                let _ = std::fs::remove_dir_all(&folder);
                return Err(not_startable("ssh-agent", &error));
            }
        };
        let agent = Self { folder, _companion: companion };
        let end = tokio::time::Instant::now() + START;
        while !agent.socket().exists() {
            if tokio::time::Instant::now() > end {
                return Err(Failure::new(
                    format!("ssh-agent has not listened for {} s", START.as_secs()),
                    "start an agent (eval \"$(ssh-agent)\"; ssh-add KEY), and name its socket in place of the key",
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
        // It may ask for a passphrase on the terminal.
        let added = Command::new("ssh-add")
            .arg("-q")
            .arg("--")
            .args(keys)
            .env("SSH_AUTH_SOCK", agent.socket())
            .status()
            .await
            .map_err(|error| not_startable("ssh-add", &error))?;
        if added.success() {
            return Ok(agent);
        }
        let shown: Vec<_> = keys.iter().map(|key| key.display().to_string()).collect();
        Err(Failure::usage(
            format!("ssh-add does not take {}", shown.join(",")),
            "name the socket of an agent, or private keys that only you can read",
        ))
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("agent")
    }
}

impl Drop for OwnAgent {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn not_startable(program: &str, error: &std::io::Error) -> Failure {
    Failure::new(
        format!("{program} cannot be started: {error}"),
        "install openssh-client, or name the socket of an agent in place of a key",
    )
}

/// A new folder that only we can enter; short, since a socket's address has 108 bytes.
fn private_folder() -> Result<PathBuf, Failure> {
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    for number in 0..1_000 {
        let folder = base.join(format!("fluyt-agent-{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => {
                return made.map(|()| folder.clone()).map_err(|error| Failure::file("make", &folder, &error));
            }
        }
    }
    Err(Failure::new(format!("{} has too many folders of agents", base.display()), "remove fluyt-agent-*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_named_by_id_socket_and_keys() {
        let parsed = |text| parse(text).map(|found| (found.id, found.paths));
        assert_eq!(parsed("default").unwrap(), ("default".to_owned(), vec![]));
        assert_eq!(parsed("default=").unwrap(), ("default".to_owned(), vec![]));
        assert_eq!(parsed("k=/a,/b").unwrap(), ("k".to_owned(), vec!["/a".into(), "/b".into()]));
        assert!(parse("=/a").is_err());
        assert!(parse("").is_err());
    }

    #[tokio::test]
    async fn an_agent_is_asked_whole_messages_and_must_answer_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let agent = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 5];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(&[0, 0, 0, 2, 12, 9]).await.unwrap();
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(&[0xff; 8]).await.unwrap();
            request
        });
        let mut stream = None;
        assert_eq!(answer(&mut stream, &path, &[11]).await.unwrap(), [12, 9]);
        let refused = answer(&mut stream, &path, &[11]).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData);
        assert_eq!(agent.await.unwrap(), [0, 0, 0, 1, 11]);
    }

    #[tokio::test]
    async fn what_changes_an_agent_is_refused_here() {
        let (asked, requests) = mpsc::channel(QUEUE);
        let (said, mut answers) = mpsc::channel(QUEUE);
        for request in [vec![19], vec![22, 0], vec![], vec![13; MAX_MESSAGE_BYTES + 1]] {
            asked.send(request).await.unwrap();
        }
        drop(asked);
        talk(1, "/absent".into(), requests, said).await;
        let mut count = 0;
        while let Some(ServeBuildAgentsRequest { part }) = answers.recv().await {
            let Some(Said::Answer(answer)) = part else { panic!("{part:?}") };
            assert_eq!((answer.connection, answer.data), (1, REFUSAL.to_vec()));
            count += 1;
        }
        assert_eq!(count, 4);
    }
}
