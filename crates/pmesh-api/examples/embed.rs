//! The API in somebody else's hyper server: `cargo run -p pmesh-api --example embed --features testing`.
//!
//! The node is one of the fakes, so nothing is started; what a real one needs is in `pmesh-server`.

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use pmesh_api::{Api, ApiSettings, Listener};
use pmesh_node::testing::TestNode;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let node = TestNode::start(folder.path(), "services: { web: !App { run: web } }").await;
    let api = Api::new(node.handle(), ApiSettings::default());
    let listener = TcpListener::bind("127.0.0.1:9871").await?;
    println!("curl http://{}/service/health", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        let (api, local) = (api.clone(), stream.local_addr()?);
        let service = service_fn(move |request| {
            let api = api.clone();
            async move {
                Ok::<_, std::convert::Infallible>(api.handle(request, Listener::Tcp { local, peer }).await)
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
