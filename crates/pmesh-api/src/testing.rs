//! Asking an [`Api`] without a connection, for the tests of what is built on it.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;

use crate::{Api, ApiBody, Listener};

/// An [`Api`] and a caller on the same machine, over TCP unless a test says otherwise.
#[derive(Clone, Debug)]
pub struct TestApi(pub Api);

/// What it answered.
#[derive(Clone, Debug)]
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
    /// A listener on the loopback interface, as the API has by default.
    pub fn loopback() -> Listener {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 9870));
        Listener::Tcp { local, peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)) }
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
