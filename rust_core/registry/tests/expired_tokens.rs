//! Tokens that expire while a blob is on its way up or down.

mod common;
mod server;
mod uploads;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use common::{blob, digest, noise};
use errors::Catalogued;
use registry::UploadProgress;
use server::{Ending, Reply, Request, Server};
use uploads::{chunked, push_with, registry_that};

/// Tokens that are numbered as they are given, and 401 for all but the newest.
#[derive(Clone, Default)]
struct Tokens {
    given: Arc<AtomicUsize>,
    spent: Arc<AtomicUsize>,
}

impl Tokens {
    /// From now on the newest token is refused.
    fn expire(&self) {
        self.spent.store(self.given.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// A token, or a refusal; `None` where the request carries a token that counts.
    fn guard(&self, request: &Request, scope: &str) -> Option<Reply> {
        if request.target.starts_with("/token") {
            let number = self.given.fetch_add(1, Ordering::SeqCst) + 1;
            return Some(Reply::new(200, format!(r#"{{"token":"T{number}","expires_in":300}}"#)));
        }
        let newest = self.given.load(Ordering::SeqCst);
        let is_good = newest > self.spent.load(Ordering::SeqCst)
            && request.header("authorization") == Some(&*format!("Bearer T{newest}"));
        if is_good {
            return None;
        }
        let host = request.header("host").unwrap_or_default();
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="s",scope="{scope}""#);
        Some(Reply::new(401, "").with("WWW-Authenticate", challenge))
    }
}

fn tokens_asked_for(server: &Server) -> Vec<String> {
    let targets = server.requests().into_iter().map(|request| request.target);
    targets.filter(|target| target.starts_with("/token")).collect()
}

#[test]
fn a_token_that_expires_between_two_chunks_is_replaced_and_the_chunk_sent_again() {
    let data = noise(10_000);
    let tokens = Tokens::default();
    let (guard, expired) = (tokens.clone(), AtomicUsize::new(0));
    let (server, store) = registry_that(move |request, store, _| {
        let is_third = request.method == "PATCH" && store.upload.len() == 6_000;
        if is_third && expired.swap(1, Ordering::SeqCst) == 0 {
            guard.expire();
        }
        guard.guard(request, "repository:a/b:pull,push")
    });
    push_with(&chunked(3_000), &server, &data, None, &UploadProgress::default()).expect("pushed");
    assert!(store.lock().expect("the store").blobs[&digest(&data)] == data);
    let scope = "/token?service=s&scope=repository%3Aa%2Fb%3Apull%2Cpush";
    assert_eq!(tokens_asked_for(&server), [scope, scope]);
    let chunks: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|request| request.method == "PATCH")
        .map(|request| request.header("content-range").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(chunks, ["0-2999", "3000-5999", "6000-8999", "6000-8999", "9000-9999"]);
    assert_eq!(server.requests().iter().filter(|request| request.method == "POST").count(), 1);
}

#[test]
fn a_token_that_expires_before_the_last_request_of_a_push_does_not_cost_the_upload() {
    let data = noise(10_000);
    let tokens = Tokens::default();
    let (guard, expired) = (tokens.clone(), AtomicUsize::new(0));
    let (server, store) = registry_that(move |request, _, _| {
        if request.method == "PUT" && expired.swap(1, Ordering::SeqCst) == 0 {
            guard.expire();
        }
        guard.guard(request, "repository:a/b:pull,push")
    });
    push_with(&chunked(5_000), &server, &data, None, &UploadProgress::default()).expect("pushed");
    assert!(store.lock().expect("the store").blobs[&digest(&data)] == data);
    assert_eq!(tokens_asked_for(&server).len(), 2);
    assert_eq!(server.requests().iter().filter(|request| request.method == "PATCH").count(), 2);
}

#[test]
fn a_registry_that_takes_no_token_in_the_middle_of_a_push_is_not_asked_for_ever() {
    let data = noise(10_000);
    let tokens = Tokens::default();
    let (server, store) = registry_that(move |request, store, _| {
        if request.method == "PATCH" && store.upload.len() == 6_000 {
            tokens.expire();
        }
        tokens.guard(request, "repository:a/b:pull,push")
    });
    let error = push_with(&chunked(3_000), &server, &data, None, &UploadProgress::default());
    assert_eq!(error.expect_err("refused").reason(), "REGISTRY_ACCESS_DENIED");
    assert!(store.lock().expect("the store").blobs.is_empty());
    assert_eq!(tokens_asked_for(&server).len(), 2);
}

#[test]
fn a_token_that_expires_while_a_blob_breaks_off_is_replaced_and_the_blob_goes_on() {
    let data = noise(100_000);
    let (served, tokens) = (data.clone(), Tokens::default());
    let server = Server::start(move |request, _| {
        if let Some(reply) = tokens.guard(request, "repository:a/b:pull") {
            return reply;
        }
        let reply = Reply::ranged(request, &served);
        match request.range_start() {
            None => {
                tokens.expire();
                reply.ending(Ending::Cut(40_000))
            }
            Some(_) => reply,
        }
    });
    assert!(blob(&server.registry(), &data).expect("the blob").0 == data);
    let scope = "/token?service=s&scope=repository%3Aa%2Fb%3Apull";
    assert_eq!(tokens_asked_for(&server), [scope, scope]);
    let starts: Vec<_> = server.requests().iter().filter_map(Request::range_start).collect();
    assert_eq!(starts, [40_000, 40_000]);
}
