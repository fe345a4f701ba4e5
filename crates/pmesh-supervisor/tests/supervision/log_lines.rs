//! What the server's own log says.

use std::{
    cell::RefCell,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use pmesh_supervisor::{Exit, rollout::Unity, testing::Fault};

use crate::world::{SEC, World, command, service_name};

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
        assert!(stop.await.unwrap().was_up);
        world.end().await;
    }
    let mut messages = messages.0.lock().clone();
    messages.retain(|(_, message)| message.contains("SIGKILL") || message.contains("killed"));
    let over = (Level::WARN, "it did not end within stop_timeout 10s, killed".to_owned());
    assert_eq!(messages, [over, (Level::INFO, "no grace is left to it: SIGKILL".to_owned())]);
}

/// A line of the log: the spans that it is in, its own fields, and what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Line {
    level: Option<Level>,
    spans: Vec<String>,
    fields: Vec<String>,
    message: String,
}

/// The lines of a test, which has its thread to itself, with their spans.
#[derive(Clone, Default)]
struct Spoken {
    lines: Arc<Mutex<Vec<Line>>>,
    spans: Arc<Mutex<Vec<String>>>,
    last_span: Arc<AtomicU64>,
}

thread_local! {
    /// The spans that the thread is in.
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Subscriber for Spoken {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("pmesh_supervisor") && *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line { level: Some(*event.metadata().level()), ..Line::default() };
        event.record(&mut line);
        let spans = self.spans.lock();
        let inside = INSIDE.with_borrow(Clone::clone);
        line.spans = inside.into_iter().map(|id| spans[usize::try_from(id).unwrap() - 1].clone()).collect();
        self.lines.lock().push(line);
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut fields = Line::default();
        attributes.record(&mut fields);
        let mut spans = self.spans.lock();
        spans.push(format!("{} {}", attributes.metadata().name(), fields.fields.join(" ")));
        span::Id::from_u64(self.last_span.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, id: &span::Id) {
        INSIDE.with_borrow_mut(|inside| inside.push(id.into_u64()));
    }

    fn exit(&self, _: &span::Id) {
        INSIDE.with_borrow_mut(|inside| _ = inside.pop());
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.fields.push(format!("{}={value:?}", field.name()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_line_is_inside_the_spans_of_its_service_and_instance_and_repeats_neither() {
    let spoken = Spoken::default();
    let _second = Dispatch::new(Spoken::default());
    let _here = tracing::subscriber::set_default(spoken.clone());
    let world = World::new();
    let web = world.app("web").with(|app| {
        app.instances = 2;
        app.shutdown = vec![command("flush")];
        app.build = vec![command("make")];
    });
    world.spawner.exit_at_start("make", Exit::Code(1));
    world.spawner.exit_at_start("flush", Exit::Code(1));
    world.start(&[("web", &web)]).await;
    world.spawner.exit_at_start("make", Exit::Code(0));
    world.roll_out(Unity::Each, &[("web", &web)]).await;
    world.spawner.crash(world.spawner.launches().len() - 1, Exit::Code(1));
    world.pass(SEC).await;
    world.prober.fail(&service_name("web"));
    world.pass(60 * SEC).await;
    world.prober.pass(&service_name("web"));
    world.service("web").fail(Fault::Step { event: "probed", times: 1 }).await;
    world.pass(60 * SEC).await;
    world.service("web").fail(Fault::Task).await;
    world.pass(SEC).await;
    world.spawner.ignore_terminate(true);
    world.service("web").stop().await;
    world.end().await;

    let lines = spoken.lines.lock().clone();
    assert!(lines.len() > 20, "{lines:#?}");
    for line in &lines {
        if line.message == "the task of a driver ended early" {
            continue; // Nobody knows whose it was; the next line tells.
        }
        assert_eq!(line.spans.first().map(String::as_str), Some("service service=web"), "{line:?}");
        let repeats = |field: &String| field.starts_with("service=") || field.starts_with("instance=");
        assert!(!line.fields.iter().any(repeats), "{line:?}");
    }
    for (message, instance) in [
        ("it starts", "instance number=1"),
        ("it is ready", "instance number=2"),
        ("it ended by itself", "instance number=2"),
        ("it is unhealthy", "instance number=1"),
        ("it did not end within stop_timeout 10s, killed", "instance number=1"),
    ] {
        let said = |line: &Line| line.message == message && line.spans[1..] == [instance.to_owned()];
        assert!(lines.iter().any(said), "{message}: {lines:#?}");
    }
    for (message, field) in [
        ("a step of the service panicked; the event is dropped", "panics=1"),
        ("the driver ended early; it is started again from what is written of it", "bytes="),
    ] {
        let said = lines.iter().filter(|line| line.message == message).collect::<Vec<_>>();
        let [line] = said[..] else { panic!("{message}: {said:?}") };
        assert_eq!(line.level, Some(Level::ERROR));
        assert!(line.fields.iter().any(|it| it.starts_with(field)), "{line:?}");
    }
}
