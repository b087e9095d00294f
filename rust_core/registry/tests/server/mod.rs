//! A small HTTP/1.1 server on loopback whose answers a test writes, faults included.
#![allow(missing_docs, dead_code)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn range_start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What is done after the head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Whole,
    /// The connection is closed after so many bytes of the body.
    Cut(usize),
    /// Nothing more is sent after so many bytes, and the connection stays open.
    Stall(usize),
    /// One byte at a time, with this pause after each.
    Drip(Duration),
}

/// How many bytes of a request's body are read before its connection is closed; `None` for all.
pub type Limit = dyn Fn(&Request) -> Option<usize> + Send + Sync;

#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub ending: Ending,
    /// Replaces the true Content-Length; `Some(None)` sends a chunked body.
    pub length: Option<Option<usize>>,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), ending: Ending::Whole, length: None }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn with_body(mut self, body: &str) -> Self {
        self.body = body.as_bytes().to_vec();
        self
    }

    pub fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    pub fn length(mut self, length: Option<usize>) -> Self {
        self.length = Some(length);
        self
    }

    /// 206 with the part of `body` that was asked for, or 200 with all of it.
    pub fn ranged(request: &Request, body: &[u8]) -> Self {
        match request.range_start() {
            Some(start) => Self::new(206, &body[start..])
                .with("Content-Range", format!("bytes {start}-{}/{}", body.len() - 1, body.len())),
            None => Self::new(200, body),
        }
    }
}

pub struct Server {
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers each request by `answer`, which also gets the number of earlier requests for the same target.
    pub fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_reading(|_| None, answer)
    }

    /// As `start`; a request that `limit` cuts short is answered for the log alone.
    pub fn start_reading(
        limit: impl Fn(&Request) -> Option<usize> + Send + Sync + 'static,
        answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("its address");
        let log: Arc<Mutex<Vec<Request>>> = Arc::default();
        let shared = Arc::clone(&log);
        let (limit, answer) = (Arc::new(limit), Arc::new(answer));
        // Ends with the test's process: a test has no need to stop a listener.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, limit, answer) = (Arc::clone(&shared), Arc::clone(&limit), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &shared, &*limit, &*answer));
            }
        });
        Self { address, log }
    }

    pub fn registry(&self) -> String {
        self.address.to_string()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().expect("the log").clone()
    }
}

fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<Request>>,
    limit: &Limit,
    answer: &(dyn Fn(&Request, usize) -> Reply + Send + Sync),
) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.trim_end().split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let mut request = Request { method, target, headers, body: Vec::new(), at: Instant::now() };
    let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let cut = limit(&request).filter(|cut| *cut < length);
    request.body = vec![0; cut.unwrap_or(length)];
    if reader.read_exact(&mut request.body).is_err() {
        return;
    }
    let earlier = {
        let mut log = log.lock().expect("the log");
        let earlier = log.iter().filter(|other| other.target == request.target).count();
        log.push(request.clone());
        earlier
    };
    let reply = answer(&request, earlier);
    if cut.is_none() {
        // A client that went away is what many tests are about.
        let _ = send(stream, &reply, request.method == "HEAD");
    }
}

fn send(mut stream: TcpStream, reply: &Reply, is_head: bool) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut body = reply.body.clone();
    match reply.length {
        None => head += &format!("Content-Length: {}\r\n", body.len()),
        Some(Some(length)) => head += &format!("Content-Length: {length}\r\n"),
        Some(None) => {
            head += "Transfer-Encoding: chunked\r\n";
            let mut chunked = Vec::new();
            for piece in body.chunks(8192) {
                chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                chunked.extend_from_slice(piece);
                chunked.extend_from_slice(b"\r\n");
            }
            chunked.extend_from_slice(b"0\r\n\r\n");
            body = chunked;
        }
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    match reply.ending {
        _ if is_head => {}
        Ending::Drip(pause) => {
            for byte in &body {
                stream.write_all(&[*byte])?;
                thread::sleep(pause);
            }
        }
        Ending::Whole => stream.write_all(&body)?,
        Ending::Cut(after) => stream.write_all(&body[..after])?,
        Ending::Stall(after) => {
            stream.write_all(&body[..after])?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            // Until the client gives up and closes.
            let _ = stream.read(&mut [0; 1]);
        }
    }
    stream.flush()
}
