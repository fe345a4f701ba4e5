//! Logs as server-sent events (HTML standard, 9.2).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http::{HeaderValue, header};
use pmesh_node::{LogsOf, Node};
use pmesh_supervisor::{FollowStart, LogCursor, LogEvent, LogFollow, LogReadError};
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, TryAcquireError},
    time::{Instant, sleep_until},
};

use super::JsonStyle;
use crate::{
    error::{ApiError, Code},
    sources::Sources,
    wire::LogEntry,
};

/// How many may follow logs at a time, at all listeners together.
pub(crate) const FOLLOWERS: usize = 64;

/// How long nothing comes at most: then a comment does, so that who is gone is noticed, and nobody between takes the connection
/// for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// After how long a client that has lost the connection comes again, in milliseconds.
const RETRY: u32 = 1000;

/// Somebody who follows logs. What is not read is not fetched: between two pieces of it nothing happens.
pub(crate) struct LogEvents {
    node: Node,
    of: LogsOf,
    follow: LogFollow,
    cursor: LogCursor,
    /// The last change of the node that was looked at.
    change: u64,
    /// Which logs there are.
    logs: Vec<(pmesh_supervisor::ServiceName, String)>,
    state: State,
    _place: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Open,
    Failed,
}

impl LogEvents {
    /// Begins to follow.
    pub(crate) async fn follow(
        sources: &Sources,
        of: LogsOf,
        start: FollowStart,
        instance: Option<u32>,
    ) -> Result<Self, ApiError> {
        let place = Arc::clone(&sources.followers).try_acquire_owned().map_err(|_: TryAcquireError| {
            ApiError::new(Code::Busy, format!("{FOLLOWERS} follow logs already; try again later"))
                .with_header(header::RETRY_AFTER, HeaderValue::from_static("5"))
        })?;
        let node = sources.node.clone();
        let change = node.view().change;
        let logs = node.logs(&of);
        let (follow, cursor) = node.follow_logs(&of, start, instance).await?;
        Ok(Self { node, of, follow, cursor, change, logs, state: State::New, _place: place })
    }

    /// The events, to the end of the server.
    pub(crate) fn stream(self) -> impl Stream<Item = Bytes> {
        stream::unfold(self, async |mut events| events.next().await.map(|piece| (piece, events)))
    }

    async fn next(&mut self) -> Option<Bytes> {
        match self.state {
            State::New => {
                self.state = State::Open;
                // Who loses the connection before the first line comes knows from where to go on, too.
                return Some(format!("retry: {RETRY}\nid: {}\n\n", self.cursor).into());
            }
            State::Open => {}
            State::Failed => return None,
        }
        let heartbeat = Instant::now() + HEARTBEAT;
        loop {
            let Self { node, follow, change, .. } = self;
            tokio::select! {
                events = follow.next() => return Some(self.told(events)),
                _ = node.changes_after(*change) => self.look_at_services(),
                () = node.ending() => return None,
                () = sleep_until(heartbeat) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }

    /// A service may have come or gone.
    fn look_at_services(&mut self) {
        self.change = self.node.view().change;
        let logs = self.node.logs(&self.of);
        if logs != self.logs {
            self.cursor.retain(&logs);
            self.follow.set_logs(logs.clone());
            self.logs = logs;
        }
    }

    fn told(&mut self, events: Result<Vec<LogEvent>, LogReadError>) -> Bytes {
        let mut text = String::new();
        match events {
            Ok(events) => {
                for event in events {
                    self.cursor.pass(&event);
                    match &event.line {
                        Some(line) => {
                            let entry = JsonStyle::Compact.write(&LogEntry::from(line));
                            let entry = String::from_utf8_lossy(&entry);
                            text.push_str(&format!("id: {}\ndata: {}\n\n", self.cursor, entry.trim_end()));
                        }
                        None => text.push_str(&named_event(
                            "gap",
                            &json!({"service": event.service.as_str(), "gap": true}),
                        )),
                    }
                }
            }
            Err(error) => {
                self.state = State::Failed;
                text = named_event("failure", &ApiError::from(error).body());
            }
        }
        text.into()
    }
}

fn named_event(name: &str, body: &Value) -> String {
    let body = JsonStyle::Compact.write(body);
    format!("event: {name}\ndata: {}\n\n", String::from_utf8_lossy(&body).trim_end())
}
