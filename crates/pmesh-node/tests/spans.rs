//! What the log says of operations.

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use pmesh_node::{Rebuild, Request, Scope, testing::TestNode};
use pmesh_supervisor::Exit;
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// A line of the log: the spans that it is in, and its own fields.
#[derive(Clone, Debug, Default)]
struct Line {
    spans: Vec<String>,
    fields: Vec<String>,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.push(format!("{}={value:?}", field.name()));
    }
}

/// The lines of this crate in a test that has its thread to itself.
#[derive(Clone, Default)]
struct Lines {
    said: Arc<Mutex<Vec<Line>>>,
    spans: Arc<Mutex<Vec<String>>>,
    inside: Arc<Mutex<Vec<u64>>>,
    last_span: Arc<AtomicU64>,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("pmesh_node") && *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let spans = self.spans.lock().unwrap();
        let name = |&id: &u64| spans[usize::try_from(id).unwrap() - 1].clone();
        line.spans = self.inside.lock().unwrap().iter().map(name).collect();
        self.said.lock().unwrap().push(line);
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut line = Line::default();
        attributes.record(&mut line);
        let span = format!("{} {}", attributes.metadata().name(), line.fields.join(" "));
        self.spans.lock().unwrap().push(span);
        span::Id::from_u64(self.last_span.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, id: &span::Id) {
        self.inside.lock().unwrap().push(id.into_u64());
    }

    fn exit(&self, _: &span::Id) {
        self.inside.lock().unwrap().pop();
    }
}

const JOB: &str = "services:\n  job: !App\n    run: work\n    background: true\n";

#[tokio::test(start_paused = true)]
async fn every_line_of_an_operation_is_inside_its_span_and_does_not_repeat_it() {
    let lines = Lines::default();
    // While there is one subscriber only, tracing asks that of the thread which comes first to a line
    // whether anybody wants it, and other tests' threads have none.
    let _second = Dispatch::new(Lines::default());
    let _here = tracing::subscriber::set_default(lines.clone());
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), JOB).await;
    node.spawner.exit_at_start("broken", Exit::Code(1));
    node.vcs.push_files("b2", [("pm3.yml", JOB.replace("work", "broken"))]);
    let mut spans = vec![format!("operation id={} kind=\"start\"", node.operations()[0].id)];
    for (request, kind) in [
        (Request::Update(Rebuild::Changed), "update"),
        (Request::Restart(Scope::All, Rebuild::Changed), "restart"),
        (Request::Stop(Scope::All), "stop"),
    ] {
        let id = node.submit(request).unwrap();
        node.operation_ended(id).await.unwrap();
        spans.push(format!("operation id={id} kind=\"{kind}\""));
    }
    node.close();
    let shutdown = node.shut_down();
    node.operation_ended(shutdown).await.unwrap();
    spans.push(format!("operation id={shutdown} kind=\"shutdown\""));

    let lines = lines.said.lock().unwrap().clone();
    for line in &lines {
        assert!(line.spans.len() == 1 && spans.contains(&line.spans[0]), "{line:?}");
        let repeats = |field: &String| field.starts_with("operation=") || field.starts_with("kind=");
        assert!(!line.fields.iter().any(repeats), "{line:?}");
    }
    for span in spans {
        assert!(lines.iter().any(|line| line.spans[0] == span), "{span}: {lines:#?}");
    }
}
