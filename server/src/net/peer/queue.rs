//! The frames that wait for a lane: a bounded queue whose content belongs to one connection.
//! Producers push without waiting; the connection's `Outflow` is the stream that gRPC drains, so that frames which wait together leave in
//! one write. A new connection begins with an empty queue.
//! Invariant: a frame leaves on the connection that was open when it was pushed, in the order of pushing, or not at all.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use prost::Message;
use raftlog::message::Frame;
use tokio_stream::Stream;

use super::FRAME_BYTES_MAX;
use super::outbound::Dropped;

/// What a queue holds at most. A frame larger than `bytes` is taken into an empty queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    pub frames: usize,
    pub bytes: usize,
}

#[derive(Default)]
struct State {
    /// Number of the connection that the queue serves or will serve next.
    connection: u64,
    open: bool,
    frames: VecDeque<(usize, Frame)>,
    bytes: usize,
    waker: Option<Waker>,
}

/// The queue of one lane.
pub(super) struct Queue {
    limits: QueueLimits,
    /// A mutex because any thread of the node pushes and a network thread drains; held for a few lines.
    state: Mutex<State>,
}

impl Queue {
    pub(super) fn new(limits: QueueLimits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    pub(super) fn push(&self, frame: Frame) -> Result<(), Dropped> {
        let bytes = frame.encoded_len();
        if bytes > FRAME_BYTES_MAX {
            return Err(Dropped::TooLarge);
        }
        let mut state = self.lock();
        if !state.open {
            return Err(Dropped::NotConnected);
        }
        let has_room = state.frames.len() < self.limits.frames && state.bytes + bytes <= self.limits.bytes;
        if !state.frames.is_empty() && !has_room {
            return Err(Dropped::Full);
        }
        state.bytes += bytes;
        state.frames.push_back((bytes, frame));
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// The frames of the next connection; nothing comes before `open`.
    pub(super) fn next_connection(self: &Arc<Self>) -> Outflow {
        let connection = self.end_connection();
        Outflow { queue: self.clone(), connection }
    }

    /// Frames are taken from now on.
    pub(super) fn open(&self) {
        self.lock().open = true;
    }

    /// Frames are dropped from now on, the waiting ones, too.
    pub(super) fn close(&self) {
        self.end_connection();
    }

    fn end_connection(&self) -> u64 {
        let mut state = self.lock();
        let waker = state.waker.take();
        *state = State { connection: state.connection + 1, ..State::default() };
        let connection = state.connection;
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        connection
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The frames of one connection; ends when the queue belongs to another.
pub(super) struct Outflow {
    queue: Arc<Queue>,
    connection: u64,
}

impl Stream for Outflow {
    type Item = Frame;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let mut state = self.queue.lock();
        if state.connection != self.connection {
            return Poll::Ready(None);
        }
        match state.frames.pop_front() {
            Some((bytes, frame)) => {
                state.bytes -= bytes;
                Poll::Ready(Some(frame))
            }
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raftlog::message::Body;

    use super::*;

    fn frame(bytes: usize) -> Frame {
        Frame { group: 1, wall_ms: 0, body: Some(Body::Raft(Bytes::from(vec![7; bytes]))) }
    }

    fn drain(outflow: &mut Outflow) -> (usize, bool) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut count = 0;
        loop {
            match Pin::new(&mut *outflow).poll_next(&mut cx) {
                Poll::Ready(Some(_)) => count += 1,
                Poll::Ready(None) => return (count, true),
                Poll::Pending => return (count, false),
            }
        }
    }

    #[test]
    fn a_queue_is_bounded_by_number_and_bytes() {
        let queue = Queue::new(QueueLimits { frames: 3, bytes: 100 });
        assert_eq!(queue.push(frame(1)), Err(Dropped::NotConnected));
        let mut outflow = queue.next_connection();
        assert_eq!(queue.push(frame(1)), Err(Dropped::NotConnected));
        queue.open();
        let pushed = |sizes: &[usize]| sizes.iter().map(|bytes| queue.push(frame(*bytes)).is_ok()).collect::<Vec<_>>();
        assert_eq!(pushed(&[1, 1, 1, 1]), [true, true, true, false]);
        assert_eq!(drain(&mut outflow), (3, false));
        assert_eq!(pushed(&[80, 80, 1]), [true, false, true]);
        assert_eq!(drain(&mut outflow), (2, false));
        assert_eq!(pushed(&[500, 1]), [true, false], "one larger than the queue travels alone");
        assert_eq!(drain(&mut outflow), (1, false));
    }

    #[test]
    fn a_frame_belongs_to_one_connection() {
        let queue = Queue::new(QueueLimits { frames: 3, bytes: 100 });
        let mut first = queue.next_connection();
        queue.open();
        assert_eq!(queue.push(frame(1)), Ok(()));
        queue.close();
        assert_eq!(drain(&mut first), (0, true));
        let mut second = queue.next_connection();
        queue.open();
        assert_eq!(drain(&mut second), (0, false));
        assert_eq!(queue.push(frame(1)), Ok(()));
        assert_eq!(drain(&mut first), (0, true));
        assert_eq!(drain(&mut second), (1, false));
    }
}
