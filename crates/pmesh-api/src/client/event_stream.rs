//! Server-sent events, as a client reads them (HTML standard, 9.2.6).

use std::{collections::VecDeque, fmt};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerEvent {
    /// What kind it is; `message` where it does not say.
    pub name: String,
    /// What it says.
    pub data: String,
    /// The id of the last event that had one: what a client that comes again gives back.
    pub id: Option<String>,
}

/// Events as they come.
pub struct EventStream {
    body: Incoming,
    /// None when it has ended.
    connection: Option<BoxFuture<'static, ()>>,
    parser: EventParser,
    events: VecDeque<ServerEvent>,
}

impl EventStream {
    pub(super) fn of(body: Incoming, connection: BoxFuture<'static, ()>) -> Self {
        Self { body, connection: Some(connection), parser: EventParser::default(), events: VecDeque::new() }
    }

    /// The next event; none when the server has ended the stream or the connection is lost. Cancel-safe.
    pub async fn next(&mut self) -> Option<ServerEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let bytes = self.bytes().await?;
            let Self { parser, events, .. } = self;
            parser.read(&bytes, &mut |event| events.push_back(event)).ok()?;
        }
    }

    /// The last id that came with a whole event, also with one that says nothing.
    pub fn last_id(&self) -> Option<&str> {
        self.parser.last_id.as_deref()
    }

    async fn bytes(&mut self) -> Option<Bytes> {
        loop {
            let Self { body, connection, .. } = self;
            let moves = async {
                match connection {
                    Some(connection) => connection.await,
                    None => std::future::pending().await,
                }
            };
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = moves => {
                    *connection = None;
                    continue;
                }
            };
            if let Ok(data) = frame?.ok()?.into_data() {
                return Some(data);
            }
        }
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

/// The text of events becomes events. A plain value.
#[derive(Debug, Default)]
struct EventParser {
    /// A line that has not ended.
    line: Vec<u8>,
    /// Whether the last line ended with a carriage return, whose line feed may come.
    after_return: bool,
    name: String,
    data: Option<String>,
    id: Option<String>,
    last_id: Option<String>,
}

/// An event is larger than any of the API.
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

impl EventParser {
    /// The most that one event may have, in bytes.
    const MAX_LEN: usize = 16 << 20;

    fn read(&mut self, bytes: &[u8], found: &mut impl FnMut(ServerEvent)) -> Result<(), TooLong> {
        for &byte in bytes {
            let follows_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    self.line(&String::from_utf8_lossy(&line), found);
                }
                byte => self.line.push(byte),
            }
        }
        let len = self.line.len() + self.data.as_ref().map_or(0, String::len);
        if len > Self::MAX_LEN { Err(TooLong) } else { Ok(()) }
    }

    fn line(&mut self, line: &str, found: &mut impl FnMut(ServerEvent)) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                self.last_id.clone_from(&self.id);
                let name = std::mem::take(&mut self.name);
                if let Some(data) = self.data.take() {
                    let name = if name.is_empty() { "message".to_owned() } else { name };
                    found(ServerEvent { name, data, id: self.id.clone() });
                }
            }
            "event" => value.clone_into(&mut self.name),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => data.extend(["\n", value]),
                None => self.data = Some(value.to_owned()),
            },
            // A comment, or a field of a newer server.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str, id: Option<&str>) -> ServerEvent {
        ServerEvent { name: name.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) }
    }

    #[test]
    fn events_are_read_whatever_pieces_they_come_in() {
        let text = "retry: 1000\n\n:\n\nid: 7\ndata: {\"a\": 1}\n\nevent: gap\r\ndata:x\r\ndata: y\r\n\r\nid\rdata\r\rdata: lost";
        let wanted = [
            event("message", "{\"a\": 1}", Some("7")),
            event("gap", "x\ny", Some("7")),
            event("message", "", Some("")),
        ];
        for size in 1..text.len() {
            let (mut parser, mut events) = (EventParser::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                parser.read(piece, &mut |event| events.push(event)).unwrap();
            }
            assert_eq!(events, wanted, "{size}");
        }
    }

    #[test]
    fn the_id_of_an_event_that_is_cut_off_does_not_count() {
        let mut parser = EventParser::default();
        parser.read(b"id: 1\n\nid: 2\ndata: x\n", &mut |_| ()).unwrap();
        assert_eq!(parser.last_id.as_deref(), Some("1"));
        parser.read(b"\n", &mut |_| ()).unwrap();
        assert_eq!(parser.last_id.as_deref(), Some("2"));
    }

    #[test]
    fn an_event_without_an_end_is_not_kept_for_ever() {
        let mut parser = EventParser::default();
        let piece = vec![b'x'; 1 << 20];
        let read = (0..17).map(|_| parser.read(&piece, &mut |_| ()).is_ok());
        assert_eq!(read.collect::<Vec<_>>(), [&[true; 16][..], &[false]].concat());
    }
}
