//! The life of one connection: bytes in, commands executed strictly in order, replies out in the same order.
//! A turn reads what has arrived, executes every complete request, and writes all replies with one call. Commands for the group are
//! collected into runs; one run is with the node at a time, and while it is, the socket is read on up to `client-query-buffer-limit`, so
//! that a client that sends a long pipeline before it reads never blocks on us, and so that "already received" covers the whole pipeline.
//! Invariants: replies leave in the order of the requests; a command is executed only when every reply before it is in the output buffer.
//! A client that does not read its replies stops its own execution above `OUTPUT_PAUSE_BYTES`, and is disconnected when more than
//! `client-output-buffer-limit` waits and it takes nothing for `OUTPUT_STALL`.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use resp::{Authentication, Limits, ProtocolError, Reply, RequestReader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep_until;

use super::Services;
use super::answers::{ARGUMENTS_MAX, Sender, Step};
use super::registry::{Client, Signal};
use super::run::{Aftermath, Path, Pending, Run};
use super::session::Session;
use crate::command::node_command::Switch;
use crate::command::{CommandSpec, NodeCommand};
use crate::config::{ReadonlyReads, RuntimeValues};
use crate::error::RequestError;
use crate::metrics::Metric;
use crate::node::{Consistency, Replies, Request};

/// Replies that may wait for the client before the next command is executed, in bytes.
const OUTPUT_PAUSE_BYTES: usize = 1 << 20;

/// Replies that may wait for a client that has yet to authenticate, in bytes, as in Redis.
const UNAUTHENTICATED_OUTPUT_BYTES_MAX: usize = 1024;

/// How long a client with too much output may take none of it.
const OUTPUT_STALL: Duration = Duration::from_secs(1);

/// How long the last replies may take none of their way.
const LAST_OUTPUT_STALL: Duration = Duration::from_secs(5);

/// How long to wait for the client's own end after ours. Closing with unread bytes would reset the connection, and the client might lose
/// replies that it has not read.
const LINGER: Duration = Duration::from_secs(1);

/// Capacity of an output buffer that is kept between turns, in bytes: thousands of idle clients must be cheap.
const OUTPUT_KEPT_BYTES: usize = 4 * 1024;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// At once: the client is gone, was killed, or has nothing to be told.
    Now,
    /// When the replies so far are written.
    AfterReplies,
}

/// What happened on the socket, or to the work that was waited for.
pub(super) enum Event<T> {
    /// The work is done.
    Done(T),
    /// Bytes arrived, or the client's end of them.
    Read,
    /// Something was asked from outside.
    Asked,
    /// All output, or a part of it, was taken.
    Written,
}

/// A connection.
pub(super) struct Connection {
    stream: TcpStream,
    reader: RequestReader,
    /// Replies not yet written.
    output: BytesMut,
    /// When the client last took output, or there was none.
    output_taken_at: Instant,
    run: Run,
    pub(super) session: Session,
    pub(super) client: Arc<Client>,
    pub(super) services: Arc<Services>,
    pub(super) values: Arc<RuntimeValues>,
    /// Generation of `values`.
    generation: u64,
    limits: Limits,
    last_command: Option<&'static CommandSpec>,
    /// When the last bytes arrived.
    active_ms: u64,
    /// Whether the client has sent all it will.
    ended: bool,
    /// Whether the node shuts down: nothing more is read.
    draining: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, client: Arc<Client>, services: Arc<Services>) -> Self {
        let generation = services.config.runtime.generation();
        let values = services.config.runtime.values();
        let session = Session::new(values.requirepass.as_ref().map(|password| password.expose()));
        let mut connection = Self {
            stream,
            reader: RequestReader::new(),
            output: BytesMut::new(),
            output_taken_at: Instant::now(),
            run: Run::default(),
            session,
            active_ms: services.registry.now_ms(),
            client,
            limits: limits(&values, Authentication::Done),
            services,
            values,
            generation,
            last_command: None,
            ended: false,
            draining: false,
        };
        connection.adopt_limits();
        connection
    }

    /// Serves the client until one side ends it.
    pub(super) async fn serve(mut self) {
        let close = loop {
            if let Err(close) = self.turn().await {
                break close;
            }
        };
        match close {
            Close::Now => {}
            Close::AfterReplies => self.finish().await,
        }
    }

    async fn turn(&mut self) -> Result<(), Close> {
        self.adopt_runtime();
        let had_input = self.reader.buffered() > 0;
        self.client.set_busy(true);
        self.execute_received().await?;
        self.client.set_busy(false);
        self.write_output()?;
        self.show();
        if self.ended || self.draining {
            // A client that is told nothing needs no careful goodbye.
            return Err(if had_input || !self.output.is_empty() { Close::AfterReplies } else { Close::Now });
        }
        loop {
            match self.event(pin!(pending::<Infallible>())).await? {
                Event::Done(never) => match never {},
                Event::Written => {}
                Event::Read | Event::Asked => return Ok(()),
            }
        }
    }

    /// Executes every complete request that has arrived, those that arrive meanwhile included.
    async fn execute_received(&mut self) -> Result<(), Close> {
        loop {
            if self.output.len() > self.output_pause_bytes() {
                self.wait_for_room().await?;
            }
            match self.reader.next(&self.limits) {
                Ok(Some(args)) => self.execute(args).await?,
                Ok(None) if self.run.is_empty() => return Ok(()),
                Ok(None) => {
                    if let Aftermath::FailReceived(error) = self.finish_run().await? {
                        self.fail_received(&error)?;
                    }
                }
                Err(error) => {
                    // What comes before it is answered first, whatever the answer is.
                    self.finish_run().await?;
                    return Err(self.reject_bytes(error));
                }
            }
        }
    }

    async fn execute(&mut self, args: Vec<Bytes>) -> Result<(), Close> {
        let sender = if self.session.must_authenticate(self.password()) { Sender::Unknown } else { Sender::Known };
        let step = match self.services.check(&args, sender) {
            Ok(step) => step,
            Err(_) if http::is_request(&args) => {
                if self.services.http_logged.is_due() {
                    tracing::warn!(client = self.client.id, "possible cross-protocol attack: a client speaks HTTP; it is disconnected");
                }
                self.finish_run().await?;
                return Err(Close::AfterReplies);
            }
            Err(refusal) => {
                self.answer(refusal);
                return Ok(());
            }
        };
        let (spec, writes) = match &step {
            Step::Group(spec) => (*spec, if spec.is_write() { Switch::On } else { Switch::Off }),
            Step::Node(spec, _) => (*spec, Switch::Off),
        };
        self.last_command = Some(spec);
        if self.services.registry.is_paused(writes) {
            if let Aftermath::FailReceived(error) = self.finish_run().await? {
                return self.fail(&error);
            }
            self.wait_for_pause(writes).await?;
        }
        match step {
            Step::Group(spec) => self.join_run(Request { spec, args, db: self.session.db }).await,
            Step::Node(spec, command) => {
                if let Aftermath::FailReceived(error) = self.finish_run().await? {
                    return self.fail(&error);
                }
                self.execute_here(spec, command).await
            }
        }
    }

    async fn join_run(&mut self, request: Request) -> Result<(), Close> {
        if !self.run.accepts(&request, self.services.run_limits)
            && let Aftermath::FailReceived(error) = self.finish_run().await?
        {
            return self.fail(&error);
        }
        self.run.push(request);
        Ok(())
    }

    async fn execute_here(&mut self, spec: &'static CommandSpec, command: NodeCommand) -> Result<(), Close> {
        let began = Instant::now();
        let reply = self.carry_out(command).await?;
        let (metrics, took) = (&self.services.metrics, began.elapsed());
        metrics.executed(spec, 1, took, Some(took));
        metrics.add(Metric::TotalCommandsProcessed, 1);
        if let Some(reply) = reply {
            if matches!(reply, Reply::Error(_)) {
                metrics.failed(spec);
            }
            self.send(&reply);
        }
        if self.session.closing { Err(Close::AfterReplies) } else { Ok(()) }
    }

    /// Has the node execute the run, and answers its commands.
    async fn finish_run(&mut self) -> Result<Aftermath, Close> {
        if self.run.is_empty() {
            return Ok(Aftermath::GoOn);
        }
        let (requests, path, waiting) = self.run.take();
        let services = Arc::clone(&self.services);
        let began = Instant::now();
        let result = match path {
            _ if requests.is_empty() => Ok(vec![]),
            Path::Write => {
                services.metrics.add(Metric::WriteRuns, 1);
                self.attend(pin!(services.node.write(requests))).await?
            }
            Path::Read => return self.finish_reads(requests, waiting).await,
        };
        let took = began.elapsed();
        services.note_slow(&waiting, took, &self.values, || self.client.named_address());
        Ok(waiting.resolve(result, took, &services.metrics, |reply| self.send(reply)))
    }

    /// Has the node evaluate reads, and answers them piece by piece: large replies are on their way before the next are read.
    async fn finish_reads(&mut self, mut requests: Vec<Request>, mut waiting: Pending) -> Result<Aftermath, Close> {
        let services = Arc::clone(&self.services);
        services.metrics.add(Metric::ReadRuns, 1);
        loop {
            let began = Instant::now();
            let result = self.attend(pin!(services.node.read(requests, self.consistency()))).await?;
            let took = began.elapsed();
            services.note_slow(&waiting, took, &self.values, || self.client.named_address());
            let (result, rest) = match result {
                Ok(Replies { replies, rest }) => (Ok(replies), rest),
                Err(error) => (Err(error), Vec::new()),
            };
            if rest.is_empty() {
                return Ok(waiting.resolve(result, took, &services.metrics, |reply| self.send(reply)));
            }
            let part = waiting.split_first(result.as_ref().map_or(0, Vec::len));
            part.resolve(result, took, &services.metrics, |reply| self.send(reply));
            requests = rest;
            if self.output.len() > self.output_pause_bytes() {
                self.wait_for_room().await?;
            }
        }
    }

    /// Answers the command in hand, and every later one that has been received, with the error of a run that was not executed.
    fn fail(&mut self, error: &RequestError) -> Result<(), Close> {
        self.services.metrics.add(Metric::NotExecutedReplies, 1);
        self.send(&Reply::from(error.clone()));
        self.fail_received(error)
    }

    /// Answers every command that has been received, in our buffer or the kernel's, with the error of a run that was not executed.
    fn fail_received(&mut self, error: &RequestError) -> Result<(), Close> {
        while self.may_read() && self.read_some()? {}
        let reply = Reply::from(error.clone());
        loop {
            match self.reader.next(&self.limits) {
                Ok(Some(_)) => {
                    self.services.metrics.add(Metric::NotExecutedReplies, 1);
                    self.send(&reply);
                }
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.reject_bytes(error)),
            }
        }
    }

    /// Answers bytes that are no request.
    fn reject_bytes(&mut self, error: ProtocolError) -> Close {
        tracing::debug!(client = self.client.id, %error, "closing a client");
        self.services.metrics.add(Metric::ProtocolErrors, 1);
        self.send(&Reply::Error(format!("ERR {error}").into()));
        Close::AfterReplies
    }

    /// A command that needs no execution: its reply takes its place in the order.
    fn answer(&mut self, reply: Reply) {
        if self.run.is_empty() {
            self.send(&reply);
        } else {
            self.run.push_answered(reply);
        }
    }

    /// Puts a reply into the output.
    fn send(&mut self, reply: &Reply) {
        if let Reply::Error(text) = reply {
            self.services.metrics.error_reply(text);
        }
        if self.session.takes_reply() {
            reply.encode(self.session.protocol, &mut self.output);
        }
    }

    fn consistency(&self) -> Consistency {
        match self.values.readonly_reads {
            ReadonlyReads::Local if self.session.readonly => Consistency::Local,
            ReadonlyReads::Local | ReadonlyReads::Linearizable => Consistency::Linearizable,
        }
    }

    /// The password that clients must give.
    pub(super) fn password(&self) -> Option<&str> {
        self.values.requirepass.as_ref().map(|password| password.expose())
    }

    /// Follows CONFIG SET.
    pub(super) fn adopt_runtime(&mut self) {
        let generation = self.services.config.runtime.generation();
        if generation != self.generation {
            self.generation = generation;
            self.values = self.services.config.runtime.values();
            self.adopt_limits();
        }
    }

    /// To be called when authentication or the configuration changed.
    pub(super) fn adopt_limits(&mut self) {
        let pending = self.session.must_authenticate(self.password());
        self.limits = limits(&self.values, if pending { Authentication::Pending } else { Authentication::Done });
    }

    fn output_bytes_max(&self) -> usize {
        match self.limits.authentication {
            Authentication::Pending => UNAUTHENTICATED_OUTPUT_BYTES_MAX,
            Authentication::Done => self.values.client_output_buffer_limit,
        }
    }

    fn output_pause_bytes(&self) -> usize {
        OUTPUT_PAUSE_BYTES.min(self.output_bytes_max())
    }

    /// Shows the connection's state in CLIENT LIST.
    pub(super) fn show(&self) {
        let mut view = self.client.view();
        view.db = self.session.db;
        view.protocol = self.session.protocol;
        view.readonly = self.session.readonly;
        view.closing = self.session.closing;
        view.command = self.last_command;
        view.query_bytes = self.reader.buffered();
        view.output_bytes = self.output.len();
        view.active_ms = self.active_ms;
    }
}

/// The socket.
impl Connection {
    /// Waits for work while it serves the socket.
    pub(super) async fn attend<T>(&mut self, mut work: Pin<&mut impl Future<Output = T>>) -> Result<T, Close> {
        loop {
            if let Event::Done(value) = self.event(work.as_mut()).await? {
                return Ok(value);
            }
        }
    }

    /// Waits for work that is for this client alone and may take long: a client that is gone ends it, a shutdown ends the wait.
    pub(super) async fn attend_while_here<T>(&mut self, mut work: Pin<&mut impl Future<Output = T>>) -> Result<Option<T>, Close> {
        self.client.set_blocked(true);
        let value = loop {
            match self.event(work.as_mut()).await? {
                Event::Done(value) => break Some(value),
                _ if self.ended => return Err(Close::Now),
                _ if self.draining => break None,
                Event::Read | Event::Asked | Event::Written => {}
            }
        };
        self.client.set_blocked(false);
        Ok(value)
    }

    async fn wait_for_pause(&mut self, writes: Switch) -> Result<(), Close> {
        let services = Arc::clone(&self.services);
        // What was read is answered, so a shutdown ends the pause.
        self.attend_while_here(pin!(services.registry.pause_over(writes))).await.map(|_| ())
    }

    /// Waits until the client has taken enough of its replies.
    async fn wait_for_room(&mut self) -> Result<(), Close> {
        self.write_output()?;
        while self.output.len() > self.output_pause_bytes() {
            match self.event(pin!(pending::<Infallible>())).await? {
                Event::Done(never) => match never {},
                Event::Read | Event::Asked | Event::Written => {}
            }
        }
        Ok(())
    }

    /// The next thing that happens.
    async fn event<T>(&mut self, mut work: Pin<&mut impl Future<Output = T>>) -> Result<Event<T>, Close> {
        loop {
            let over_limit = self.output.len() > self.output_bytes_max();
            let (may_read, may_write) = (self.may_read(), !self.output.is_empty());
            // Read through the halves' `AsyncRead`: it knows that a short read has emptied the socket, so that no second call has to find out.
            let (mut input, output) = self.stream.split();
            tokio::select! {
                biased;
                value = work.as_mut() => return Ok(Event::Done(value)),
                () = self.client.signalled() => match self.client.asked() {
                    Some(Signal::Kill) => return Err(Close::Now),
                    Some(Signal::Drain) => {
                        self.draining = true;
                        return Ok(Event::Asked);
                    }
                    None => {}
                },
                read = input.read_buf(self.reader.buffer_mut()), if may_read => {
                    self.take_read(read)?;
                    return Ok(Event::Read);
                }
                ready = output.writable(), if may_write => {
                    ready.map_err(|_| Close::Now)?;
                    self.write_output()?;
                    return Ok(Event::Written);
                }
                () = sleep_until((self.output_taken_at + OUTPUT_STALL).into()), if over_limit => {
                    self.services.metrics.add(Metric::ClientOutputBufferLimitDisconnections, 1);
                    tracing::warn!(client = self.client.id, bytes = self.output.len(), "closing a client that does not read its replies");
                    return Err(Close::Now);
                }
            }
        }
    }

    /// Whether the client has sent all it will.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    fn may_read(&self) -> bool {
        !self.ended && !self.draining && self.reader.buffered() < self.values.client_query_buffer_limit
    }

    /// Reads once. False if there was nothing to read.
    fn read_some(&mut self) -> Result<bool, Close> {
        match self.stream.try_read_buf(self.reader.buffer_mut()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            read => self.take_read(read).map(|()| true),
        }
    }

    /// Takes notice of what was read into the buffer.
    fn take_read(&mut self, read: io::Result<usize>) -> Result<(), Close> {
        match read {
            Ok(0) => self.ended = true,
            Ok(bytes) => {
                self.active_ms = self.services.registry.now_ms();
                self.services.metrics.add(Metric::TotalNetInputBytes, bytes as u64);
                self.services.metrics.add(Metric::TotalReadsProcessed, 1);
            }
            Err(error) => {
                tracing::debug!(client = self.client.id, %error, "cannot read from a client");
                return Err(Close::Now);
            }
        }
        Ok(())
    }

    /// Writes what the socket takes, with one call.
    fn write_output(&mut self) -> Result<(), Close> {
        if self.output.is_empty() {
            return Ok(());
        }
        match self.stream.try_write(&self.output) {
            Ok(bytes) => {
                self.services.metrics.add(Metric::TotalNetOutputBytes, bytes as u64);
                self.services.metrics.add(Metric::TotalWritesProcessed, 1);
                self.output_taken_at = Instant::now();
                if bytes < self.output.len() {
                    self.output.advance(bytes);
                } else if self.output.capacity() > OUTPUT_KEPT_BYTES {
                    self.output = BytesMut::new();
                } else {
                    self.output.clear();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::debug!(client = self.client.id, %error, "cannot write to a client");
                return Err(Close::Now);
            }
        }
        Ok(())
    }

    /// Writes the last replies, then waits for the client's end, both for a limited time.
    async fn finish(mut self) {
        self.output_taken_at = Instant::now();
        while !self.output.is_empty() {
            tokio::select! {
                () = self.client.signalled() => if self.client.asked() == Some(Signal::Kill) { return },
                ready = self.stream.writable() => if ready.is_err() || self.write_output().is_err() { return },
                () = sleep_until((self.output_taken_at + LAST_OUTPUT_STALL).into()) => return,
            }
        }
        if self.stream.shutdown().await.is_err() || self.ended {
            return;
        }
        let deadline = Instant::now() + LINGER;
        let mut discarded = [0; 4096];
        loop {
            tokio::select! {
                ready = self.stream.readable() => {
                    let read = ready.and_then(|()| self.stream.try_read(&mut discarded));
                    if read.is_ok_and(|bytes| bytes == 0) || self.client.asked() == Some(Signal::Kill) {
                        return;
                    }
                }
                () = sleep_until(deadline.into()) => return,
            }
        }
    }
}

fn limits(values: &RuntimeValues, authentication: Authentication) -> Limits {
    Limits {
        bulk_bytes_max: values.proto_max_bulk_len,
        arguments_max: ARGUMENTS_MAX,
        request_bytes_max: values.client_query_buffer_limit,
        authentication,
    }
}

/// HTTP on the port for clients: a browser was made to send commands in the body of a request. Redis closes at `POST` and `Host:`; the other
/// verbs are closed only where they cannot be meant as commands.
mod http {
    use bytes::Bytes;

    /// Whether a request that is no valid command looks like a line of HTTP.
    pub(super) fn is_request(args: &[Bytes]) -> bool {
        let versioned = args.len() >= 3 && args.last().is_some_and(|last| last.len() > 5 && last[..5].eq_ignore_ascii_case(b"http/"));
        let path = args.get(1).is_some_and(|path| path.starts_with(b"/") || path.starts_with(b"http"));
        match args[0].to_ascii_lowercase().as_slice() {
            b"post" | b"host:" => true,
            b"put" | b"head" | b"delete" | b"options" | b"connect" | b"patch" | b"trace" => versioned || path,
            b"get" => versioned,
            _ => false,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn http_is_told_from_commands() {
            for (line, expected) in [
                ("POST / HTTP/1.1", true),
                ("post", true),
                ("Host: localhost:6379", true),
                ("GET / HTTP/1.1", true),
                ("GET /key", false),
                ("GET key more", false),
                ("GET a HTTP/", false),
                ("PUT /v1/key HTTP/1.1", true),
                ("HEAD /", true),
                ("OPTIONS * HTTP/1.1", true),
                ("CONNECT host:443 HTTP/1.1", true),
                ("DELETE key", false),
                ("SET / HTTP/1.1", false),
            ] {
                let args: Vec<_> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
                assert_eq!(is_request(&args), expected, "{line}");
            }
        }
    }
}
