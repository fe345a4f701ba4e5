//! `/logs` and what is below it.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use http::{HeaderName, HeaderValue, header};
use pmesh_node::LogsOf;
use pmesh_supervisor::{BadLogCursor, FollowStart, LineEnd, LogLine, LogQuery, ServiceName};
use serde::{Serialize, Serializer};

use super::{Call, JsonStyle, Reply, log_events::LogEvents, service::unknown};
use crate::{
    body::ApiBody,
    error::{ApiError, Code},
    sources::Sources,
    wire::LogEntry,
};

/// How many lines are answered with where nobody says how many.
const LINES: usize = 200;

/// An answer with more text is written while it is read.
const SHORT_LEN: usize = 256 * 1024;

/// What all services have written last.
pub(crate) async fn of_all(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    logs(sources, call, LogsOf::All).await
}

/// What one service has written last, or some whose names have commas between them.
pub(crate) async fn of_some(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let services = named(&sources, &call).await?;
    logs(sources, call, LogsOf::Some(services)).await
}

async fn logs(sources: Sources, call: Call, of: LogsOf) -> Result<Reply, ApiError> {
    let parameters = &call.parameters;
    let follows = parameters.follow.unwrap_or(call.accepts_events && parameters.raw != Some(true));
    let since = parameters.since.map(|since| since.at(SystemTime::now()));
    let instance = parameters.instance.and_then(|number| number.try_into().ok());
    let query = LogQuery::last(parameters.lines.unwrap_or(LINES)).with(|query| {
        (query.since, query.instance) = (since, instance);
    });
    if !follows {
        let lines = sources.node.log_lines(&of, query).await?;
        return answer(&sources, &call, lines);
    }
    if parameters.raw == Some(true) {
        let message = "parameters follow and raw exclude each other: events are text";
        return Err(ApiError::new(Code::BadParameter, message));
    }
    let start =
        match (&call.last_event_id, since, parameters.lines) {
            (Some(id), ..) => FollowStart::Behind(id.parse().map_err(|bad: BadLogCursor| {
                ApiError::new(Code::BadRequest, format!("Last-Event-ID: {bad}"))
            })?),
            (None, Some(since), None) => FollowStart::Since(since),
            (None, ..) => FollowStart::Last(query),
        };
    let events = LogEvents::follow(&sources, of, start, instance).await?;
    Ok(Reply::ok(ApiBody::streamed(events.stream()))
        .with_header(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))
        // Proxies of nginx's kind hold answers back otherwise.
        .with_header(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")))
}

/// The services that the path names. Of one that the manifest has lost there may be a log.
async fn named(sources: &Sources, call: &Call) -> Result<Vec<ServiceName>, ApiError> {
    let mut services: Vec<ServiceName> = Vec::new();
    for text in call.open.as_deref().unwrap_or_default().split(',') {
        let name = text.parse().map_err(|_| unknown(sources, text))?;
        if !sources.node.has_log(&name).await? {
            return Err(unknown(sources, text));
        }
        if !services.contains(&name) {
            services.push(name);
        }
    }
    Ok(services)
}

fn answer(sources: &Sources, call: &Call, lines: Vec<LogLine>) -> Result<Reply, ApiError> {
    let is_raw = call.parameters.raw == Some(true);
    let is_short = lines.iter().map(|line| line.text.len()).sum::<usize>() <= SHORT_LEN;
    let answer = LogAnswer { lines, style: (!is_raw).then_some(call.style) };
    let body = if is_short {
        let mut text = Vec::new();
        answer.write(&mut text).expect("the types of `wire` are JSON, and a vector takes all");
        ApiBody::whole(text.into())
    } else {
        let body = ApiBody::written(sources.node.answer_threads(), move |writer| answer.write(writer));
        body.map_err(|unanswered| ApiError::from(&unanswered))?
    };
    let reply = Reply::ok(body);
    Ok(if is_raw {
        reply.with_header(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))
    } else {
        reply
    })
}

/// Lines, and how they are written: as JSON, or as the bytes that they were.
struct LogAnswer {
    lines: Vec<LogLine>,
    style: Option<JsonStyle>,
}

impl LogAnswer {
    fn write(&self, mut writer: impl Write) -> io::Result<()> {
        if let Some(style) = self.style {
            return style.write_to(writer, &Entries(&self.lines));
        }
        for line in &self.lines {
            writer.write_all(&line.text)?;
            if line.end == LineEnd::Newline {
                writer.write_all(b"\n")?;
            }
        }
        Ok(())
    }
}

/// Lines as the list of `/logs`, of which one entry is in memory at a time.
struct Entries<'a>(&'a [LogLine]);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(LogEntry::from))
    }
}
