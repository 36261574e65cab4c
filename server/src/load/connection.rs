//! One connection: sends a pipeline when it is due, reads its replies, and opens another connection when it breaks.
//! Pipelines that came due while it waited go out together, as they would from a client that many use at once: if each waited for the one
//! before, a server would have to catch up with one command per connection at a time.
//! A pipeline that was cut off is not sent again: nobody knows what became of it, so its commands without a reply count as unanswered.
//! Sending and receiving go on side by side, since a server may stop reading while nobody reads what it answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use resp::{Protocol, ReplyKind, ReplyReader, encode_command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::sync::Notify;

use super::tally::SharedTally;
use super::timing::{Budget, Schedule, Timing};
use super::workload::Generator;
use crate::config::Secret;

/// How long a connection may take to come about, and to be let in.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Pause before another try to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of commands beyond which no further pipeline joins those that go out.
const TOGETHER_BYTES_MAX: usize = 64 << 10;
/// Longest reply that is taken, in bytes; the longest value of Redis, and some.
const REPLY_BYTES_MAX: usize = (512 << 20) + 1024;

/// When a connection sends.
#[derive(Debug)]
pub(super) enum Pace {
    /// When it was answered.
    Closed,
    /// When it is due.
    Open {
        schedule: Schedule,
        /// Wakes it when it may be due.
        wake: Arc<Notify>,
    },
}

impl Pace {
    /// When the connection's pipeline of a turn was due, if it is late.
    fn late(&self, connection: u32, turn: u64) -> Option<Instant> {
        match self {
            Pace::Closed => None,
            Pace::Open { schedule, .. } => Some(schedule.due(connection, turn)).filter(|due| *due <= Instant::now()),
        }
    }
}

/// A pipeline that is sent.
#[derive(Clone, Copy, Debug)]
struct Pipeline {
    commands: u64,
    /// From when its latency counts.
    since: Instant,
}

/// Where a connection leads, and who asks.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) addresses: Arc<[SocketAddr]>,
    /// The position of the address in use; counts on when nobody answers there.
    pub(super) place: usize,
    pub(super) password: Option<Secret>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    number: u32,
    route: Route,
    pipeline: u32,
    generator: Generator,
    stream: TcpStream,
    reader: ReplyReader,
    /// The commands being sent.
    batch: BytesMut,
}

impl Route {
    /// The address in use.
    pub(super) fn address(&self) -> SocketAddr {
        self.addresses[self.place % self.addresses.len()]
    }

    /// Opens a connection.
    /// # Errors
    /// Nobody listens, the password is refused, or it takes too long.
    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        let opened = tokio::time::timeout(CONNECT_PATIENCE, self.open()).await;
        opened.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }

    async fn open(&self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address()).await?;
        stream.set_nodelay(true)?;
        if let Some(password) = &self.password {
            let mut auth = BytesMut::new();
            encode_command(&["AUTH", password.expose()], &mut auth);
            stream.write_all(&auth).await?;
            let mut reader = reply_reader();
            let kind = loop {
                match reader.skip_reply().map_err(io::Error::other)? {
                    Some(kind) => break kind,
                    None => read_some(&mut stream.split().0, &mut reader).await?,
                }
            };
            if let ReplyKind::Error(text) = kind {
                return Err(io::Error::other(text));
            }
        }
        Ok(stream)
    }
}

impl Connection {
    pub(super) fn new(number: u32, route: Route, pipeline: u32, generator: Generator, stream: TcpStream) -> Connection {
        Connection { number, route, pipeline, generator, stream, reader: reply_reader(), batch: BytesMut::new() }
    }

    /// Puts its part of the load on the server, until nothing is due any more.
    pub(super) async fn run(mut self, timing: Timing, pace: Pace, budget: Arc<Budget>, tally: SharedTally) {
        let mut turn = 0;
        while let Some(since) = self.wait_for(turn, &timing, &pace).await {
            let counted = since >= timing.counted_from;
            self.batch.clear();
            let mut pipelines = Vec::new();
            let mut next = Some(since);
            while let Some(since) = next {
                let numbers = if counted { budget.take(self.pipeline) } else { 0..u64::from(self.pipeline) };
                if numbers.is_empty() {
                    break;
                }
                pipelines.push(Pipeline { commands: numbers.end - numbers.start, since });
                self.generator.append(numbers, &mut self.batch);
                turn += 1;
                let joins = |due: &Instant| !timing.is_over(*due) && (*due >= timing.counted_from) == counted;
                next = pace.late(self.number, turn).filter(joins).filter(|_| self.batch.len() < TOGETHER_BYTES_MAX);
            }
            if pipelines.is_empty() {
                return;
            }
            if let Err(problem) = self.exchange(&pipelines, counted, &tally).await {
                tally.lock().broken.count(&reason(&problem));
                if !self.reconnect(&timing, &tally).await {
                    return;
                }
            }
        }
    }

    /// Waits until the pipeline of a turn is to be sent. The moment from which its latency counts; `None` when the run is over.
    async fn wait_for(&self, turn: u64, timing: &Timing, pace: &Pace) -> Option<Instant> {
        let since = match pace {
            Pace::Closed => Instant::now(),
            Pace::Open { schedule, .. } => schedule.due(self.number, turn),
        };
        if timing.is_over(since) {
            return None;
        }
        if let Pace::Open { wake, .. } = pace {
            while Instant::now() < since {
                wake.notified().await;
            }
        }
        Some(since)
    }

    /// Sends the batch, which is these pipelines, and reads their replies.
    async fn exchange(&mut self, pipelines: &[Pipeline], counted: bool, tally: &SharedTally) -> io::Result<()> {
        if counted {
            tally.lock().sent += pipelines.iter().map(|pipeline| pipeline.commands).sum::<u64>();
        }
        let (mut receiving, mut sending) = self.stream.split();
        let reader = &mut self.reader;
        let received = async {
            for pipeline in pipelines {
                receive(&mut receiving, reader, *pipeline, counted, tally).await?;
            }
            Ok(())
        };
        tokio::try_join!(sending.write_all(&self.batch), received)?;
        Ok(())
    }

    /// Opens another connection, to the next address if nobody answers at this one. Returns whether it did before the run was over.
    async fn reconnect(&mut self, timing: &Timing, tally: &SharedTally) -> bool {
        loop {
            if timing.is_over(Instant::now()) {
                return false;
            }
            match self.route.connect().await {
                Ok(stream) => {
                    (self.stream, self.reader) = (stream, reply_reader());
                    return true;
                }
                Err(problem) => tally.lock().refused.count(&reason(&problem)),
            }
            self.route.place += 1;
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
}

fn reply_reader() -> ReplyReader {
    ReplyReader::new(Protocol::Resp2, REPLY_BYTES_MAX)
}

/// Reads the replies to a pipeline and counts them.
async fn receive(
    stream: &mut ReadHalf<'_>,
    reader: &mut ReplyReader,
    pipeline: Pipeline,
    counted: bool,
    tally: &SharedTally,
) -> io::Result<()> {
    let mut missing = pipeline.commands;
    loop {
        let (mut succeeded, mut nulls) = (0, 0);
        let now = Instant::now();
        {
            let mut tally = tally.lock();
            while missing > 0 {
                let Some(kind) = reader.skip_reply().map_err(io::Error::other)? else { break };
                missing -= 1;
                match kind {
                    ReplyKind::Value => succeeded += 1,
                    ReplyKind::Null => (succeeded, nulls) = (succeeded + 1, nulls + 1),
                    ReplyKind::Error(text) if counted => tally.errors.count(&text),
                    ReplyKind::Error(_) => {}
                }
                tally.last_reply = Some(now);
            }
            if counted {
                tally.succeed(succeeded, nulls, now.saturating_duration_since(pipeline.since));
            } else {
                tally.warmup += succeeded;
            }
        }
        if missing == 0 {
            return Ok(());
        }
        read_some(stream, reader).await?;
    }
}

/// The system's errors by their kind, without a number; ours and the server's in full.
fn reason(problem: &io::Error) -> String {
    if problem.raw_os_error().is_some() { problem.kind().to_string() } else { problem.to_string() }
}

async fn read_some(stream: &mut ReadHalf<'_>, reader: &mut ReplyReader) -> io::Result<()> {
    match stream.read_buf(reader.buffer_mut()).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
        _ => Ok(()),
    }
}
