//! The connection to a daemon: a unix socket or TCP, opened when the first call is made.

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::failure::Failure;

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_HOST: &str = "unix:///run/fluyt/fluytd.sock";

/// A channel to `host`, `unix:///path` or `tcp://host:port`. Nothing is connected yet.
///
/// # Errors
/// An address of another form.
pub fn channel(host: &str) -> Result<Channel, Failure> {
    if let Some(path) = host.strip_prefix("unix://") {
        let path = path.to_owned();
        // The URI is only the `:authority` of requests on a unix socket.
        let endpoint = Endpoint::from_static("http://localhost");
        return Ok(endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        })));
    }
    if let Some(address) = host.strip_prefix("tcp://") {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| {
            Failure::usage(format!("{host} is not an address: {error}"), "write tcp://host:port")
        })?;
        return Ok(endpoint.connect_lazy());
    }
    Err(Failure::usage(
        format!("{host} is not an address of a daemon"),
        "write unix:///path/to/fluytd.sock or tcp://host:port in --host or FLUYT_HOST",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_says_how_to_connect() {
        assert!(channel("unix:///run/x.sock").is_ok());
        assert!(channel("tcp://127.0.0.1:7000").is_ok());
        assert!(channel("/run/x.sock").is_err());
        assert!(channel("tcp://a b").is_err());
    }
}
