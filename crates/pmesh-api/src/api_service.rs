//! The API as a service of hyper, for connections that somebody else accepts.

use std::{convert::Infallible, fmt};

use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use hyper::{body::Body, service::Service};

use crate::{Api, ApiBody, Listener};

/// Answers the requests of one connection, in somebody else's hyper server: `api.service(listener)`.
#[derive(Clone, Debug)]
pub struct ApiService {
    api: Api,
    listener: Listener,
}

impl Api {
    /// What answers the requests of a connection that came in at `listener`, as [`handle`](Self::handle) does.
    pub fn service(&self, listener: Listener) -> ApiService {
        ApiService { api: self.clone(), listener }
    }
}

impl<B> Service<Request<B>> for ApiService
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: fmt::Display + Send,
{
    type Response = Response<ApiBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let Self { api, listener } = self.clone();
        async move { Ok(api.handle(request, listener).await) }.boxed()
    }
}
