//! One request and its answer on a connection to an upstream.
//!
//! No task stands between a client's connection and the upstream's: whoever waits for the answer also
//! sends the rest of the request, and dropping it closes the connection.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    answer_head::{self, AnswerHead, BodyEnd},
    bad_answer::BadAnswer,
    chunked::{BodyPiece, Chunked, NotChunked},
    discard,
    live_upstream::OpenConnection,
    patience::{NextTurn, Patience, TurnLimits},
    request_body::RequestBody,
    upload::{Upload, UploadError},
};

/// What a connection reads at once at first, and at most, in bytes.
const FIRST_READ: usize = 8 << 10;
const LARGEST_READ: usize = 64 << 10;
/// How long an upstream that has answered may take none of the rest of a request.
const STALL: Duration = Duration::from_secs(30);
/// With less room than this the buffer is made larger, or anew.
const LEAST_READ: usize = 1 << 10;

/// A connection to an upstream and what is under way on it.
pub(crate) struct UpstreamConnection {
    stream: TcpStream,
    /// What was read and not taken.
    buffer: BytesMut,
    read_size: usize,
    /// Rings some time before, or at, the last deadline; set anew only where it rang too early.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Whether an answer came over it before.
    is_reused: bool,
    upload: Upload,
    /// What is left of a body that the upstream did not take.
    abandoned: Option<RequestBody>,
    download: Download,
    patience: Patience,
    open: OpenConnection,
}

/// An answer on its way from an upstream.
#[derive(Debug)]
struct Download {
    rest: BodyLeft,
    /// Whether a byte of it came.
    has_begun: bool,
    /// Whether the upstream has said that it wants the body (100).
    is_wanted: bool,
    /// Whether the connection may be used again behind it.
    is_kept: bool,
}

/// What is left of an answer's body.
#[derive(Debug)]
enum BodyLeft {
    Nothing,
    Length(u64),
    Chunked(Chunked),
    Close,
}

/// What may follow an answer on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterAnswer {
    Request,
    /// The rest of the request, and another one behind it.
    Upload,
    Nothing,
}

/// No answer came.
#[derive(Debug)]
pub(crate) struct AskError {
    pub(crate) why: AskFailure,
    /// What has not left of the request.
    pub(crate) left: Box<Upload>,
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskFailure {
    /// Nothing of the request has left.
    Unsent,
    /// The same, because no descriptor of our own was left to connect with.
    NoDescriptor,
    /// It has left, and no answer came that can be passed on.
    Sent {
        why: BadAnswer,
        /// An answer came over the connection before.
        is_stale: bool,
        /// A byte of this one came.
        has_begun: bool,
    },
    /// The upstream took nothing, or said nothing, for too long.
    TooSlow,
    /// The client broke off, or what it sent is no body.
    BrokenBody,
    /// The client sent nothing of its body for too long.
    BodyRests,
}

impl AskFailure {
    /// What was wrong with what came.
    pub(crate) fn bad_answer(self) -> Option<BadAnswer> {
        match self {
            Self::Sent { why, .. } => Some(why),
            Self::Unsent | Self::NoDescriptor | Self::TooSlow | Self::BrokenBody | Self::BodyRests => None,
        }
    }
}

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("{0}")]
    Upstream(BadAnswer),
    /// Of the request, which was not whole yet.
    #[error("the client sent nothing of its request for too long")]
    ClientRests,
}

impl UpstreamConnection {
    pub(crate) fn new(stream: TcpStream, open: OpenConnection) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            read_size: FIRST_READ,
            alarm: None,
            is_reused: false,
            upload: Upload::none(),
            abandoned: None,
            download: Download { rest: BodyLeft::Nothing, has_begun: false, is_wanted: false, is_kept: true },
            patience: Patience::new(TurnLimits { upstream: STALL, client: STALL }),
            open,
        }
    }

    /// Whether an answer came over it before.
    pub(crate) fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Whether an idle connection is still open, as far as this thread was told; asks the system only where
    /// it was told of something.
    pub(crate) fn is_open(&self) -> bool {
        // Bytes that nobody asked for are no better than an end.
        let read = self.stream.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same, and asks the system in any case: for requests that cannot be sent twice.
    pub(crate) fn is_open_now(&self) -> bool {
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(&self.stream, &mut [0_u8], flags), Err(rustix::io::Errno::WOULDBLOCK))
    }

    /// Sends a request and returns the head of its answer; the body follows by [`UpstreamConnection::poll_body`].
    ///
    /// `limits` say how long the upstream may take: to take more of the request where some is there for it, and
    /// to begin the answer once the whole request has left; and how long the client may send nothing of its
    /// body. Not cancel-safe: dropped, the connection is of no more use.
    pub(crate) async fn ask(
        &mut self,
        upload: Upload,
        to_head: bool,
        limits: TurnLimits,
    ) -> Result<AnswerHead, AskError> {
        self.upload = upload;
        self.download =
            Download { rest: BodyLeft::Nothing, has_begun: false, is_wanted: false, is_kept: true };
        self.patience = Patience::new(limits);
        std::future::poll_fn(|cx| self.poll_head(cx, to_head)).await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, to_head: bool) -> Poll<Result<AnswerHead, AskError>> {
        loop {
            self.send_more(cx)?;
            if let Some(head) = self.read_head(cx, to_head).map_err(|why| self.sent(why))? {
                return Poll::Ready(Ok(self.begun(head)));
            }
            let turn = self.upload.turn();
            if turn != NextTurn::Expected || !self.download.is_wanted {
                ready!(self.poll_patience(cx));
            }
            match turn {
                NextTurn::Upstream => return Poll::Ready(Err(self.failed(AskFailure::TooSlow))),
                NextTurn::Client => return Poll::Ready(Err(self.failed(AskFailure::BodyRests))),
                // It wants the body, or says nothing about it and gets it unasked.
                NextTurn::Expected => self.upload.ask_no_longer(),
            }
        }
    }

    /// Sends what there is of the request.
    fn send_more(&mut self, cx: &mut Context<'_>) -> Result<(), AskError> {
        match self.upload.poll(&mut self.stream, cx) {
            Poll::Ready(Err(UploadError::Client)) => return Err(self.failed(AskFailure::BrokenBody)),
            Poll::Ready(Err(UploadError::Upstream(error))) => {
                if self.upload.writes() == 0 {
                    return Err(self.failed(AskFailure::Unsent));
                }
                tracing::debug!(%error, "an upstream took no more of a request");
                // It may have answered all the same.
                self.give_up_upload();
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        Ok(())
    }

    /// Reads the head of the answer as far as it has come.
    fn read_head(&mut self, cx: &mut Context<'_>, to_head: bool) -> Result<Option<AnswerHead>, BadAnswer> {
        loop {
            match ready_or_pending(self.poll_read(cx)) {
                Some(Ok(0)) => return Err(self.cut()),
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(%error, "an upstream broke off");
                    return Err(self.cut());
                }
                None => return Ok(None),
            }
            let is_wanted = &mut self.download.is_wanted;
            let on_interim = |status| *is_wanted |= status == StatusCode::CONTINUE;
            if let Some(head) = answer_head::take(&mut self.buffer, to_head, on_interim)? {
                return Ok(Some(head));
            }
        }
    }

    /// Ready when whoever's turn it is has let its time pass.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.patience.deadline(self.upload.turn(), self.upload.writes(), Instant::now);
        self.poll_alarm(cx, deadline)
    }

    fn begun(&mut self, head: AnswerHead) -> AnswerHead {
        self.is_reused = true;
        // The answer is a no. What would come now, the upstream would take for the next request; or it would be
        // sent in vain (RFC 9110, section 10.1.1; RFC 9112, section 9.6).
        let is_error = head.status.is_client_error() || head.status.is_server_error();
        if self.upload.asks_first() || (is_error && !head.is_kept && !self.upload.is_over()) {
            self.give_up_upload();
        }
        self.download.is_kept &= head.is_kept;
        self.download.rest = match head.body {
            BodyEnd::Empty => BodyLeft::Nothing,
            BodyEnd::Length(length) => BodyLeft::Length(length),
            BodyEnd::Chunked => BodyLeft::Chunked(Chunked::new()),
            BodyEnd::Close => BodyLeft::Close,
        };
        head
    }

    fn cut(&self) -> BadAnswer {
        if self.download.has_begun { BadAnswer::HeadCut } else { BadAnswer::Nothing }
    }

    fn sent(&mut self, why: BadAnswer) -> AskError {
        let (is_stale, has_begun) = (self.is_reused, self.download.has_begun);
        self.failed(AskFailure::Sent { why, is_stale, has_begun })
    }

    /// No answer comes; what is left is given back, where somebody may want it.
    fn failed(&mut self, why: AskFailure) -> AskError {
        let upload = std::mem::replace(&mut self.upload, Upload::none());
        let left = match why {
            AskFailure::Unsent | AskFailure::NoDescriptor => upload,
            AskFailure::Sent { .. } | AskFailure::TooSlow => {
                Upload::rest_of(upload.into_body().or_else(|| self.abandoned.take()))
            }
            AskFailure::BrokenBody | AskFailure::BodyRests => Upload::none(),
        };
        AskError { why, left: Box::new(left) }
    }

    /// Nobody takes the rest of the request; the connection is of no use behind the answer.
    fn give_up_upload(&mut self) {
        self.abandoned = self.upload.take_body();
        self.upload = Upload::none();
        self.download.is_kept = false;
    }

    /// Whether so much of the request is still to come that its client does better to stop, or more than the
    /// upstream may take.
    pub(crate) fn is_answered_early(&self) -> bool {
        let left = self.upload.body();
        left.is_some_and(|body| !self.download.is_kept || discard::is_too_much(body))
    }

    /// What is left of a request's body that the upstream did not take.
    pub(crate) fn take_abandoned(&mut self) -> Option<RequestBody> {
        self.abandoned.take()
    }

    /// The body as far as it came with the head, if that is all of it.
    pub(crate) fn take_whole_body(&mut self) -> Option<Bytes> {
        let BodyLeft::Length(length) = self.download.rest else { return None };
        let length = usize::try_from(length).ok().filter(|length| *length <= self.buffer.len())?;
        self.download.rest = BodyLeft::Nothing;
        Some(self.buffer.split_to(length).freeze())
    }

    /// The next piece of the answer's body; sends what is left of the request meanwhile.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if !self.upload.is_over()
            && let Poll::Ready(Err(_)) = self.upload.poll(&mut self.stream, cx)
        {
            // The answer has begun; what becomes of it does not hang on the rest of the request, which a client may
            // send to its end before it reads.
            self.give_up_upload();
            if let Some(left) = self.take_abandoned() {
                discard::discard_late(left);
            }
        }
        loop {
            match self.take_piece() {
                Ok(BodyPiece::Data(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(BodyPiece::End) => return Poll::Ready(None),
                Ok(BodyPiece::NeedsMore) => {}
                Err(NotChunked) => return Poll::Ready(Some(Err(BodyError::Upstream(BadAnswer::Chunk)))),
            }
            match ready!(self.poll_more(cx)) {
                Ok(0) if matches!(self.download.rest, BodyLeft::Close) => {
                    self.download.rest = BodyLeft::Nothing;
                }
                Ok(0) => return Poll::Ready(Some(Err(BodyError::Upstream(BadAnswer::BodyCut)))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// Reads more of the answer. A client that rests meanwhile with a request that is not whole ends it.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        match self.poll_read(cx) {
            Poll::Ready(read) => {
                self.patience.restart();
                Poll::Ready(read.map_err(|error| {
                    tracing::debug!(%error, "an upstream broke off");
                    BodyError::Upstream(BadAnswer::BodyCut)
                }))
            }
            Poll::Pending if self.upload.turn() == NextTurn::Client => {
                ready!(self.poll_patience(cx));
                Poll::Ready(Err(BodyError::ClientRests))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn take_piece(&mut self) -> Result<BodyPiece, NotChunked> {
        match &mut self.download.rest {
            BodyLeft::Nothing => Ok(BodyPiece::End),
            BodyLeft::Chunked(chunked) => {
                let taken = chunked.take(&mut self.buffer);
                if chunked.is_over() {
                    self.download.rest = BodyLeft::Nothing;
                }
                taken
            }
            BodyLeft::Length(_) | BodyLeft::Close if self.buffer.is_empty() => Ok(BodyPiece::NeedsMore),
            BodyLeft::Close => Ok(BodyPiece::Data(self.buffer.split().freeze())),
            BodyLeft::Length(left) => {
                let size =
                    usize::try_from(*left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
                *left -= size as u64;
                if *left == 0 {
                    self.download.rest = BodyLeft::Nothing;
                }
                Ok(BodyPiece::Data(self.buffer.split_to(size).freeze()))
            }
        }
    }

    /// Whether another request may follow the answer, as far as its head says.
    pub(crate) fn may_be_kept(&self) -> bool {
        self.download.is_kept
    }

    /// Whether the whole answer was taken.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.download.rest, BodyLeft::Nothing)
    }

    /// What is left of the body, where that is known.
    pub(crate) fn body_left(&self) -> Option<u64> {
        match self.download.rest {
            BodyLeft::Nothing => Some(0),
            BodyLeft::Length(left) => Some(left),
            BodyLeft::Chunked(_) | BodyLeft::Close => None,
        }
    }

    /// Sends what is left of a request that was answered. Whether another one may follow then; where none may,
    /// [`take_abandoned`](Self::take_abandoned) has what is left.
    pub(crate) async fn finish_upload(&mut self) -> bool {
        self.patience.restart_with(STALL);
        let sent = std::future::poll_fn(|cx| {
            if let Poll::Ready(sent) = self.upload.poll(&mut self.stream, cx) {
                return Poll::Ready(sent.is_ok());
            }
            self.poll_patience(cx).map(|()| false)
        });
        if !sent.await {
            self.give_up_upload();
        }
        self.after_answer() == AfterAnswer::Request
    }

    /// What may follow an answer that was taken whole.
    pub(crate) fn after_answer(&mut self) -> AfterAnswer {
        // Whoever answers without being asked answers the next request: nothing may stand in the buffer.
        if !self.download.is_kept || !self.is_answered() || !self.buffer.is_empty() {
            if self.upload.body().is_some() {
                self.give_up_upload();
            }
            return AfterAnswer::Nothing;
        }
        if !self.upload.is_over() {
            return AfterAnswer::Upload;
        }
        if self.read_size > FIRST_READ {
            (self.buffer, self.read_size) = (BytesMut::new(), FIRST_READ);
        }
        AfterAnswer::Request
    }

    /// The stream, and what was read from it, of a connection that speaks something else from here on.
    pub(crate) fn into_tunnel(self) -> (TcpStream, Bytes, OpenConnection) {
        (self.stream, self.buffer.freeze(), self.open)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() - self.buffer.len() < LEAST_READ {
            self.buffer.reserve(self.read_size);
        }
        let room = self.buffer.capacity() - self.buffer.len();
        let count = ready!(pin!(self.stream.read_buf(&mut self.buffer)).poll(cx))?;
        if count == room {
            self.read_size = (self.read_size * 2).min(LARGEST_READ);
        }
        self.download.has_begun |= count > 0;
        Poll::Ready(Ok(count))
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if alarm.deadline() > deadline {
            alarm.as_mut().reset(deadline);
        }
        while alarm.as_mut().poll(cx).is_ready() {
            if alarm.deadline() >= deadline {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

fn ready_or_pending<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    use super::*;
    use crate::{
        budget::DescriptorBudget,
        live_upstream::{InFlight, LiveUpstream},
        spec::{DestinationKey, Upstream, UpstreamAddress},
    };

    /// A connection to an upstream, and the upstream's end of it.
    async fn connected() -> (UpstreamConnection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = Upstream { id: 1, address: UpstreamAddress::Socket(address) };
        let in_flight = InFlight::begin(LiveUpstream::new(DestinationKey::new("web"), upstream));
        let open = in_flight.connecting(DescriptorBudget::unlimited().take_anyway(1));
        let stream = TcpStream::connect(address).await.unwrap();
        let (upstream_end, _) = listener.accept().await.unwrap();
        (UpstreamConnection::new(stream, open), upstream_end)
    }

    #[tokio::test]
    async fn an_upstream_that_has_answered_and_takes_no_more_of_the_request_is_waited_for_half_a_minute() {
        let (mut connection, mut upstream) = connected().await;
        upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        tokio::time::pause();
        // More than the system holds for an upstream that reads nothing.
        let body = RequestBody::new(Full::from(vec![0; 32 << 20]));
        let upload = Upload::new(Bytes::from_static(b"POST / HTTP/1.1\r\n\r\n"), Some(body), false, false);
        let hour = Duration::from_hours(1);
        connection.ask(upload, false, TurnLimits { upstream: hour, client: hour }).await.unwrap();
        assert_eq!(connection.after_answer(), AfterAnswer::Upload);
        let since = Instant::now();
        assert!(!connection.finish_upload().await);
        assert_eq!(since.elapsed().as_secs(), 30);
    }
}
