//! One request to an instance, to see whether it answers.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::ExternalAddress;

/// How much of an answer is read, and for how long after its first byte. Reading on lets the app send its
/// whole answer and close the connection itself; what comes later meets a closed connection.
const READ_BYTES: usize = 64 << 10;
const READ_TIME: Duration = Duration::from_millis(250);

/// The length of `HTTP/1.1 200`.
const STATUS_LINE: usize = 12;

/// What an instance sent in reply to its first request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FirstAnswer {
    /// The status of the answer; `None` if it is no answer of HTTP/1.
    pub status: Option<u16>,
}

/// Sends `GET /` and reads the reply, up to the limits above.
///
/// # Errors
///
/// Those of the connection; `UnexpectedEof` if it was closed without a byte.
pub(crate) async fn first_answer(
    mut stream: TcpStream,
    address: &ExternalAddress,
) -> io::Result<FirstAnswer> {
    // The request needs `Host` (RFC 9112, 3.2), and says that no other follows.
    let request =
        format!("GET / HTTP/1.1\r\nHost: {address}\r\nUser-Agent: pmesh-probe\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    read_answer(&mut stream).await
}

async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<FirstAnswer> {
    let mut buffer = [0; 4096];
    let mut begin = Vec::with_capacity(STATUS_LINE);
    let mut take = |bytes: &[u8]| begin.extend(bytes.iter().take(STATUS_LINE - begin.len()));
    let mut length = stream.read(&mut buffer).await?;
    if length == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the connection was closed without an answer",
        ));
    }
    take(&buffer[..length]);
    let until = Instant::now() + READ_TIME;
    // It has answered: an error while the rest is read is no failure.
    while length < READ_BYTES
        && let Ok(Ok(more @ 1..)) = timeout_at(until, stream.read(&mut buffer)).await
    {
        take(&buffer[..more]);
        length += more;
    }
    Ok(FirstAnswer { status: status(&begin) })
}

/// The status of an answer that begins with these bytes.
fn status(begin: &[u8]) -> Option<u16> {
    let begin = begin.strip_prefix(b"HTTP/1.")?;
    let digits = begin.get(2..5)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{FirstAnswer, read_answer};

    #[tokio::test(start_paused = true)]
    async fn any_byte_is_an_answer_and_a_status_is_told_where_there_is_one() {
        for (answer, status) in [
            (&b"HTTP/1.1 503 Service Unavailable\r\n\r\n"[..], Some(503)),
            (b"HTTP/1.0 200", Some(200)),
            (b"HTTP/1.1 2", None),
            (b"SSH-2.0", None),
            (b"\x15\x03", None),
        ] {
            assert_eq!(read_answer(&mut &answer[..]).await.unwrap(), FirstAnswer { status }, "{answer:?}");
        }
        assert_eq!(read_answer(&mut &b""[..]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
