//! The API of a node in somebody else's hyper server; the services are real. From the workspace's folder:
//!
//! ```text
//! cargo run -p pmesh-api --example embed -- examples/hello
//! ```
//!
//! Ctrl-C ends it, with its services. There is no front here: the instances listen on ports of their own, which
//! `/service/metrics` names.

use std::{env, error::Error, path::Path};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use pmesh_api::{
    Api, ApiSettings,
    node::{Node, NodeParts},
};
use tokio::{net::TcpListener, signal::ctrl_c};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let project = env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let logs = tempfile::tempdir()?;
    let (node, driver) = Node::new(NodeParts::open(Path::new(&project), logs.path())?);
    let driving = tokio::spawn(driver);
    tokio::select! {
        Err(error) = serve(Api::new(node.clone(), ApiSettings::default())) => return Err(error.into()),
        stopped = ctrl_c() => stopped?,
        () = node.ending() => {}
    }
    node.shut_down();
    node.close();
    Ok(driving.await?)
}

async fn serve(api: Api) -> Result<(), std::io::Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("curl http://{}/service/health", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        let service = api.service(api.tcp_connection(stream.local_addr()?, peer).await);
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
