//! Names of containers, answered on sockets that stand in their network namespaces; every other question goes to the
//! name servers that the container is to have.
//!
//! One thread serves all containers. What it is asked comes from whatever runs in them: each message, connection and
//! rate has a bound (`limits`), what cannot be read is passed over or refused, and nothing is kept of a question once it
//! was answered. It makes no namespace, and who has which name is decided elsewhere.
//!
//! Source: RFC 1034, 1035; RFC 7766 (TCP); RFC 6891 (EDNS); RFC 5452 (answers that are believed).

mod answer;
mod error;
mod limits;
mod names;
mod serve;
mod table;
mod upstream;

pub use error::ResolverError;
pub use limits::{
    MAX_CONNECTIONS, MAX_DATAGRAM_BYTES, MAX_FORWARDED, MAX_FORWARDED_OF_ALL, MAX_QUERIES_PER_SECOND,
    MAX_SERVERS,
};
pub use serve::{Listening, Resolver, ADDRESS};
pub use table::Client;
