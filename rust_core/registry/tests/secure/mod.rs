//! A registry by HTTP/2 over TLS whose certificate only its own file vouches for, and a proxy that tunnels to it.
#![allow(missing_docs, dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use http::{Request, Response};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

/// What one request of HTTP/2 said, the body aside.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub authorization: Option<String>,
    /// Which connection brought it, from 0.
    pub connection: usize,
}

pub struct SecureServer {
    pub address: SocketAddr,
    /// The certificate, which is its own authority.
    pub certificate: PathBuf,
    log: Arc<Mutex<Vec<Seen>>>,
}

impl SecureServer {
    /// A server that speaks HTTP/2 and nothing else, for `registry.test` and 127.0.0.1.
    pub fn start(
        dir: &Path,
        answer: impl Fn(&Request<h2::RecvStream>) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let (certificate, key) = make_certificate(dir);
        let chain = CertificateDer::from_pem_file(&certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&key).expect("its key");
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("settings of TLS");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("its address");
        let log: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (shared, answer) = (Arc::clone(&log), Arc::new(answer));
        // Ends with the test's process: a test has no need to stop a listener.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.expect("a runtime");
            let acceptor = TlsAcceptor::from(Arc::new(config));
            for (number, stream) in listener.incoming().flatten().enumerate() {
                stream.set_nonblocking(true).expect("a socket that does not block");
                let (acceptor, shared, answer) = (acceptor.clone(), Arc::clone(&shared), Arc::clone(&answer));
                runtime.spawn(async move {
                    let stream = tokio::net::TcpStream::from_std(stream).expect("a socket");
                    // A client that does not trust it goes away, which is what a test may want.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let authorization = request.headers().get("authorization");
                        shared.lock().expect("the log").push(Seen {
                            path: request.uri().path().to_owned(),
                            authorization: authorization.map(|value| value.to_str().unwrap_or("").to_owned()),
                            connection: number,
                        });
                        let (head, body) = answer(&request).into_parts();
                        let stream = respond.send_response(Response::from_parts(head, ()), false);
                        if let Ok(mut stream) = stream {
                            let _ = stream.send_data(body, true);
                        }
                    }
                });
            }
        });
        Self { address, certificate, log }
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.log.lock().expect("the log").clone()
    }
}

fn make_certificate(dir: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=registry.test"])
        .args(["-addext", "subjectAltName=DNS:registry.test,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (certificate, key)
}

/// A proxy that answers CONNECT by a tunnel to one address, and keeps all that it could read.
pub struct Tunnel {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Tunnel {
    /// With `status` 200 it tunnels to `to`; any other refuses.
    pub fn start(to: SocketAddr, status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("its address");
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (shared_heads, shared_bytes) = (Arc::clone(&heads), Arc::clone(&bytes));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (heads, bytes) = (Arc::clone(&shared_heads), Arc::clone(&shared_bytes));
                // A client or server that goes away ends its tunnel alone.
                thread::spawn(move || tunnel(stream, to, status, &heads, &bytes));
            }
        });
        Self { address, heads, bytes }
    }

    /// Request line and fields of each CONNECT.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("the heads").clone()
    }

    /// All bytes that clients sent through tunnels.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().expect("the bytes").clone()
    }
}

fn tunnel(
    mut client: TcpStream,
    to: SocketAddr,
    status: u16,
    heads: &Mutex<Vec<String>>,
    bytes: &Mutex<Vec<u8>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    heads.lock().expect("the heads").push(head);
    write!(client, "HTTP/1.1 {status} X\r\n\r\n")?;
    if status != 200 {
        return Ok(());
    }
    let mut server = TcpStream::connect(to)?;
    let mut back = server.try_clone()?;
    thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut client);
        let _ = client.shutdown(Shutdown::Both);
    });
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = reader.read(&mut buffer)?;
        if length == 0 {
            return server.shutdown(Shutdown::Write);
        }
        bytes.lock().expect("the bytes").extend_from_slice(&buffer[..length]);
        server.write_all(&buffer[..length])?;
    }
}
