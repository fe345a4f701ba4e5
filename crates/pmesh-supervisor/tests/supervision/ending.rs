//! The server is about to end.

use pmesh_supervisor::{Exit, rollout::Unity};

use crate::world::{SEC, World};

#[tokio::test(start_paused = true)]
async fn nothing_is_started_any_more_not_even_of_a_service_that_comes_then() {
    let world = World::new();
    let (web, api) = (world.app("web"), world.app("api"));
    world.up(&[("web", &web)]).await;
    world.supervisor.begin_end().await;
    world.roll_out(Unity::Together, &[("web", &web), ("api", &api)]).await;
    assert_eq!((world.programs(), world.serving("web")), (vec!["web".to_owned()], vec![0]));
    world.spawner.crash(0, Exit::Code(1));
    world.pass(100 * SEC).await;
    assert_eq!((world.programs(), world.serving("web")), (vec!["web".to_owned()], vec![]));
    world.end().await;
}
