//! A connection over HTTP/1.1: one request, one response, the end. Nothing here blocks.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use event_manager::EventSet;

use crate::runtime::listener::Stream;

/// The most bytes of a request line with its headers.
const HEAD_MAX: usize = 8 << 10;
/// The most headers.
const HEADERS_MAX: usize = 64;
/// How long a connection may take in all.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5_000 });
/// The most reads or writes before other connections get their turn.
const TURN: usize = 16;

/// A connection.
pub(super) struct Connection {
    pub(super) stream: Stream,
    state: State,
    /// When the connection is dropped.
    pub(super) deadline: Instant,
}

enum State {
    /// The request so far.
    Receiving(Vec<u8>),
    /// The response, of which the first `sent` bytes are sent.
    Sending { response: Vec<u8>, sent: usize },
    /// The response is sent. What still arrives is dropped: a close with unread input would cut the response off.
    Draining,
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    HeadTooLarge,
}

impl Status {
    const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
        }
    }

    /// What to do, for a person.
    const fn hint(self) -> &'static str {
        match self {
            Self::Ok => "",
            Self::BadRequest => "this is not an HTTP request\n",
            Self::NotFound => "there is only /metrics\n",
            Self::MethodNotAllowed => "there are only GET and HEAD\n",
            Self::HeadTooLarge => "a request has at most 8 KiB and 64 headers\n",
        }
    }
}

/// A parsed request.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    status: Status,
    /// Whether the response has a body.
    has_body: bool,
}

impl Connection {
    /// A connection that has just begun.
    pub(super) fn new(stream: Stream) -> Self {
        let deadline = Instant::now() + PATIENCE;
        Self { stream, state: State::Receiving(Vec::new()), deadline }
    }

    /// Goes on as far as that works without blocking; `metrics` writes the body. Returns the events to wait for.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub(super) fn handle(
        &mut self,
        content_type: &str,
        mut metrics: impl FnMut() -> String,
    ) -> io::Result<EventSet> {
        for _ in 0..TURN {
            let moved = match &mut self.state {
                State::Receiving(head) => {
                    let mut bytes = [0; 4096];
                    let room = bytes.len().min((HEAD_MAX + 1).saturating_sub(head.len()));
                    let read = self.stream.read(bytes.get_mut(..room).unwrap_or_default());
                    read.inspect(|count| {
                        head.extend_from_slice(bytes.get(..*count).unwrap_or_default());
                    })
                }
                State::Sending { response, sent } => {
                    let rest = response.get(*sent..).unwrap_or_default();
                    self.stream.write(rest).inspect(|count| *sent += *count)
                }
                State::Draining => self.stream.read(&mut [0; 4096]),
            };
            match moved {
                // The other side sends no more, or takes no more.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => self.advance(content_type, &mut metrics)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(match self.state {
            State::Receiving(_) | State::Draining => EventSet::IN,
            State::Sending { .. } => EventSet::OUT,
        })
    }

    /// Enters the next state if the current one is done.
    fn advance(
        &mut self,
        content_type: &str,
        metrics: &mut impl FnMut() -> String,
    ) -> io::Result<()> {
        match &self.state {
            State::Receiving(head) => {
                let Some(Asked { status, has_body }) = parse(head) else { return Ok(()) };
                let (kind, body) = match status {
                    Status::Ok => (content_type, metrics()),
                    other => ("text/plain; charset=utf-8", other.hint().to_owned()),
                };
                let allow =
                    if status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
                let mut response = format!(
                    "HTTP/1.1 {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
                    status.line(),
                    body.len()
                )
                .into_bytes();
                if has_body {
                    response.extend(body.into_bytes());
                }
                self.state = State::Sending { response, sent: 0 };
            }
            State::Sending { response, sent } if *sent == response.len() => {
                self.stream.end_output()?;
                self.state = State::Draining;
            }
            State::Sending { .. } | State::Draining => {}
        }
        Ok(())
    }
}

/// Parses a request; none if it is not complete.
fn parse(head: &[u8]) -> Option<Asked> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let refused = |status| Some(Asked { status, has_body: true });
    match request.parse(head) {
        Ok(httparse::Status::Partial) if head.len() > HEAD_MAX => refused(Status::HeadTooLarge),
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(len)) if len > HEAD_MAX => refused(Status::HeadTooLarge),
        Err(httparse::Error::TooManyHeaders) => refused(Status::HeadTooLarge),
        Err(_) => refused(Status::BadRequest),
        Ok(httparse::Status::Complete(_)) => {
            let path = request.path.unwrap_or_default();
            let path = path.split_once('?').map_or(path, |(path, _query)| path);
            let is_head = request.method == Some("HEAD");
            let status = match (request.method, path) {
                (Some("GET" | "HEAD"), "/metrics") => Status::Ok,
                (Some("GET" | "HEAD"), _) => Status::NotFound,
                _ => Status::MethodNotAllowed,
            };
            Some(Asked { status, has_body: !is_head })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &str) -> Option<Status> {
        parse(head.as_bytes()).map(|asked| asked.status)
    }

    #[test]
    fn a_request_is_parsed_when_its_head_is_complete_and_not_before() {
        let request = "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
        for end in 0..request.len() {
            assert_eq!(status(&request[..end]), None, "{end}");
        }
        assert_eq!(status(request), Some(Status::Ok));
        assert_eq!(status(&format!("{request}what follows")), Some(Status::Ok));
        assert_eq!(status("GET /metrics?a=b HTTP/1.0\r\n\r\n"), Some(Status::Ok));
        let head = parse(b"HEAD /metrics HTTP/1.1\r\n\r\n");
        assert_eq!(head, Some(Asked { status: Status::Ok, has_body: false }));
    }

    #[test]
    fn what_is_no_request_for_metrics_is_refused() {
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), Some(Status::NotFound));
        assert_eq!(status("GET /metrics/ HTTP/1.1\r\n\r\n"), Some(Status::NotFound));
        assert_eq!(status("POST /metrics HTTP/1.1\r\n\r\n"), Some(Status::MethodNotAllowed));
        assert_eq!(status("\u{16}\u{3}\u{1}"), Some(Status::BadRequest), "the begin of TLS");
        assert_eq!(status("GET /metrics\r\n\r\n"), Some(Status::BadRequest));
        assert_eq!(status("GET /metrics HTTP/3.0\r\n\r\n"), Some(Status::BadRequest));
        let many = "a: b\r\n".repeat(HEADERS_MAX + 1);
        let head = format!("GET /metrics HTTP/1.1\r\n{many}\r\n");
        assert_eq!(status(&head), Some(Status::HeadTooLarge));
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(HEAD_MAX));
        assert_eq!(status(&long), Some(Status::HeadTooLarge));
        assert_eq!(status(&long[..HEAD_MAX]), None);
    }
}
