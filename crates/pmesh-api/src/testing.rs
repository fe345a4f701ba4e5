//! Asking an [`Api`] without a connection, for the tests of what is built on it.

use std::{
    future::ready,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use pmesh_sessions::{Descent, PeerOwner, PeerSocket};
use serde_json::Value;

use crate::{Api, ApiBody, ApiSettings, Callers, Listener};

/// Callers of this process's user, of whom it is known whether the server has started them.
#[derive(Clone, Copy, Debug)]
pub struct FakeCallers(pub Descent);

impl FakeCallers {
    /// The socket that all of them seem to have.
    fn socket() -> PeerOwner {
        PeerOwner::Socket(PeerSocket { user: rustix::process::geteuid().as_raw(), inode: 1 })
    }
}

impl Callers for FakeCallers {
    fn owner(&self, _local: SocketAddr, _peer: SocketAddr) -> BoxFuture<'_, PeerOwner> {
        Box::pin(ready(Self::socket()))
    }

    fn exact(&self, owner: PeerOwner, _local: SocketAddr, _peer: SocketAddr) -> BoxFuture<'_, PeerOwner> {
        Box::pin(ready(owner))
    }

    fn descent(&self, _: Listener) -> BoxFuture<'_, Descent> {
        Box::pin(ready(self.0))
    }
}

/// An [`Api`] and a caller on the same machine, over TCP unless a test says otherwise.
#[derive(Clone, Debug)]
pub struct TestApi(pub Api);

/// What it answered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TestAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; null if it is none.
    pub json: Value,
}

impl TestAnswer {
    /// The `code` of an error; empty if it is none.
    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }
}

impl TestApi {
    /// The default settings, for callers of this user that the server has not started.
    pub fn settings() -> ApiSettings {
        ApiSettings { callers: Some(Arc::new(FakeCallers(Descent::Stranger))), ..ApiSettings::default() }
    }

    /// A listener on the loopback interface, as the API has by default, and a caller of this process's user.
    pub fn loopback() -> Listener {
        Listener::Tcp {
            local: SocketAddr::from((Ipv4Addr::LOCALHOST, 9870)),
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)),
            owner: FakeCallers::socket(),
        }
    }

    /// Sends `GET path`.
    pub async fn get(&self, path: &str) -> TestAnswer {
        self.send(Method::GET, path, &[], "").await
    }

    /// Sends `POST path` without a body.
    pub async fn post(&self, path: &str) -> TestAnswer {
        self.send(Method::POST, path, &[], "").await
    }

    /// Sends any request to this machine.
    ///
    /// # Panics
    ///
    /// If the path or a header is none.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> TestAnswer {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:9870");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let request = request.body(body).expect("a test sends a request that can be sent");
        Self::read(self.0.handle(request, Self::loopback()).await).await
    }

    /// Reads an answer.
    ///
    /// # Panics
    ///
    /// If the body is cut, or no text.
    pub async fn read(response: Response<ApiBody>) -> TestAnswer {
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("the body is whole");
        let text = String::from_utf8(body.to_bytes().into()).expect("bodies are JSON, which is text");
        let json = serde_json::from_str(&text).unwrap_or_default();
        TestAnswer { status: head.status, headers: head.headers, text, json }
    }
}
