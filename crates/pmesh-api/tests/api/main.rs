//! The API from outside: a node on fakes, asked as a caller would.

mod conventions;
mod document;
mod serving;

use pmesh_api::{Api, ApiSettings, testing::TestApi};

struct N(pmesh_node::Node);
impl std::ops::Deref for N {
    type Target = pmesh_node::Node;
    fn deref(&self) -> &pmesh_node::Node {
        &self.0
    }
}
async fn node() -> N {
    N(pmesh_node::Node::stub())
}

fn api_of(node: &N) -> Api {
    Api::new((**node).clone(), ApiSettings::default())
}

fn test_api(node: &N) -> TestApi {
    TestApi(api_of(node))
}
