//! What the server's own log says.

use std::{fmt::Debug, sync::Arc};

use parking_lot::Mutex;
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::world::{SEC, World};

/// The messages of a test, which has its thread to itself.
#[derive(Clone, Default)]
struct Messages(Arc<Mutex<Vec<(Level, String)>>>);

impl Subscriber for Messages {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().push((*event.metadata().level(), message.0));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_because_grace_is_over_and_one_that_leaves_none_are_told_apart() {
    let messages = Messages::default();
    // While there is one subscriber only, tracing asks that of the thread which comes first to a line
    // whether anybody wants it, and other tests' threads have none.
    let _second = Dispatch::new(Messages::default());
    let _here = tracing::subscriber::set_default(messages.clone());
    for hurried in [false, true] {
        let world = World::new();
        world.up(&[("web", &world.app("web"))]).await;
        world.spawner.ignore_terminate(true);
        let service = world.service("web");
        let stop = tokio::spawn(async move { service.stop().await });
        world.pass(SEC).await;
        if hurried {
            world.service("web").kill().await;
        }
        assert!(stop.await.unwrap());
        world.end().await;
    }
    let mut messages = messages.0.lock().clone();
    messages.retain(|(_, message)| message.contains("SIGKILL"));
    let over = (Level::WARN, "its grace is over: SIGKILL".to_owned());
    assert_eq!(messages, [over, (Level::INFO, "no grace is left to it: SIGKILL".to_owned())]);
}
