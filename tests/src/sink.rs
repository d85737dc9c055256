//! A webhook receiver in this process: it records every request and answers as it is told to.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::body::Bytes;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use axum::{Router, serve};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::eventually::{SOON, eventually};
use crate::wall_clock;

/// What the receiver does with a request, after recording it.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Answers with this status.
    Status(u16),
    /// Answers with this status and one header.
    StatusWithHeader(u16, &'static str, String),
    /// Answers with this status and text.
    Text(u16, &'static str),
    /// Answers with this status, after a while.
    Late(Duration, u16),
    /// Never answers.
    Hang,
    /// Breaks the connection without an answer.
    Reset,
}

/// One request that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// When its body was complete.
    pub at: Instant,
    /// The same on the wall clock, in microseconds since the Unix epoch.
    pub wall: i64,
    /// What the receiver did with it.
    pub answer: Answer,
    /// The method.
    pub method: String,
    /// The path and query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; null if it is none.
    pub json: Value,
}

impl Received {
    /// A header's text; empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A text of the body; empty if absent.
    pub fn text(&self, key: &str) -> &str {
        self.json.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

/// The receiver. Dropping it closes its port.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    received: Mutex<Vec<Received>>,
    next: Mutex<VecDeque<Answer>>,
    otherwise: Mutex<Answer>,
}

impl Sink {
    /// Starts a receiver that answers 200 to everything.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            next: Mutex::default(),
            otherwise: Mutex::new(Answer::Status(200)),
        });
        let server = serving(listener, Arc::clone(&shared));
        Ok(Self { address, shared, server })
    }

    /// Closes its port: new connections are refused until [`Sink::back`].
    pub async fn away(&mut self) {
        self.server.abort();
        // It ends as aborted, and the port is free then.
        let _ = (&mut self.server).await;
    }

    /// Listens on the same port again.
    pub async fn back(&mut self) -> Result<()> {
        let address = self.address;
        let bound = || async move { Ok(TcpListener::bind(address).await?) };
        let listener = eventually("the receiver's port is free", SOON, bound, |_| true).await?;
        self.server = serving(listener, Arc::clone(&self.shared));
        Ok(())
    }

    /// The URL of a path on this receiver.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{}", self.address, path.trim_start_matches('/'))
    }

    /// Everything that has arrived so far, in order.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// How many requests have arrived so far.
    pub fn count(&self) -> usize {
        lock(&self.shared.received).len()
    }

    /// What has arrived about one alert, in order.
    pub fn about(&self, alert: &str) -> Vec<Received> {
        self.received().into_iter().filter(|request| request.text("alert_name") == alert).collect()
    }

    /// From now on, answers every request like this.
    pub fn answer(&self, answer: Answer) {
        *lock(&self.shared.otherwise) = answer;
    }

    /// Answers one coming request like this, before those of [`Sink::answer`]; several calls queue up.
    pub fn answer_once(&self, answer: Answer) {
        lock(&self.shared.next).push_back(answer);
    }
}

#[expect(clippy::disallowed_methods, reason = "the server's task is held, and aborted on drop")]
fn serving(listener: TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
    let service = Router::new().fallback(receive).with_state(shared).into_make_service_with_connect_info::<Breaker>();
    tokio::spawn(async move {
        // axum's accept loop ends only with the task.
        let _ = serve(Breakable { listener }, service).await;
    })
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(breaker): ConnectInfo<Breaker>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let queued = lock(&shared.next).pop_front();
    let answer = queued.unwrap_or_else(|| lock(&shared.otherwise).clone());
    lock(&shared.received).push(Received {
        at: Instant::now(),
        wall: wall_clock::now(),
        answer: answer.clone(),
        method: method.to_string(),
        path: uri.to_string(),
        headers,
        json: serde_json::from_slice(&body).unwrap_or_default(),
    });
    match answer {
        Answer::Status(code) => status(code).into_response(),
        Answer::StatusWithHeader(code, name, value) => (status(code), [(name, value)]).into_response(),
        Answer::Text(code, text) => (status(code), text).into_response(),
        Answer::Late(delay, code) => {
            tokio::time::sleep(delay).await;
            status(code).into_response()
        }
        Answer::Hang => std::future::pending().await,
        Answer::Reset => {
            breaker.0.store(true, Ordering::SeqCst);
            StatusCode::OK.into_response()
        }
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Set by a handler to make its connection fail instead of sending the answer.
#[derive(Clone, Debug, Default)]
struct Breaker(Arc<AtomicBool>);

impl Connected<IncomingStream<'_, Breakable>> for Breaker {
    fn connect_info(stream: IncomingStream<'_, Breakable>) -> Self {
        stream.remote_addr().clone()
    }
}

/// A listener whose connections break when their [`Breaker`] is set.
struct Breakable {
    listener: TcpListener,
}

impl Listener for Breakable {
    type Io = Connection;
    type Addr = Breaker;

    async fn accept(&mut self) -> (Connection, Breaker) {
        let (stream, _) = Listener::accept(&mut self.listener).await;
        let breaker = Breaker::default();
        (Connection { stream, breaker: breaker.clone() }, breaker)
    }

    fn local_addr(&self) -> io::Result<Breaker> {
        Ok(Breaker::default())
    }
}

struct Connection {
    stream: TcpStream,
    breaker: Breaker,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.breaker.0.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Result<reqwest::Client> {
        // The second test of a process finds it installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(reqwest::Client::builder().timeout(Duration::from_millis(500)).build()?)
    }

    async fn post(sink: &Sink) -> reqwest::Result<u16> {
        let request = client().unwrap().post(sink.url("hook")).header("Idempotency-Key", "k");
        Ok(request.body(r#"{"alert_name": "a"}"#).send().await?.status().as_u16())
    }

    #[tokio::test]
    async fn it_records_what_arrives_and_answers_as_told() -> Result<()> {
        let sink = Sink::start().await?;
        assert_eq!(post(&sink).await?, 200);
        sink.answer(Answer::Status(410));
        sink.answer_once(Answer::Status(503));
        assert_eq!(post(&sink).await?, 503);
        assert_eq!(post(&sink).await?, 410);
        let received = sink.about("a");
        assert_eq!(received.len(), 3);
        assert_eq!((received[0].header("idempotency-key"), received[0].path.as_str()), ("k", "/hook"));
        assert!(sink.about("b").is_empty());
        Ok(())
    }

    #[tokio::test]
    async fn it_can_break_a_connection_and_never_answer_yet_both_are_recorded() -> Result<()> {
        let sink = Sink::start().await?;
        sink.answer(Answer::Reset);
        assert!(!post(&sink).await.unwrap_err().is_timeout());
        sink.answer(Answer::Hang);
        assert!(post(&sink).await.unwrap_err().is_timeout());
        assert_eq!(sink.received().len(), 2);
        Ok(())
    }
}
