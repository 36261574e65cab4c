//! The memory that all requests over HTTP hold together: bodies as they arrive, what is read for them, and answers until they are taken.
//! Over RESP each client has bounds of its own (`client-query-buffer-limit`, `client-output-buffer-limit`). Here one bound stands over all,
//! since a value can be six times as long in JSON, and twice as long in a body. A request that does not get its share within
//! `request-timeout` is refused. What is small is not counted, so that it never waits for what is large.
//! Invariant: a share is given back when it is dropped, and the bytes of an answer carry it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;
use crate::error::RequestError;

/// Bytes that all requests may hold together. The largest need of one, a value of 64 MiB of zero bytes as JSON, fits.
const TOTAL_BYTES: usize = 512 << 20;
/// Bytes of each request that are not counted.
const FREE_BYTES: usize = 64 << 10;
/// Bytes are counted in units of so many, since permits of a semaphore are counted in 32 bits.
const UNIT_BYTES: usize = 1 << 10;
/// The units of `TOTAL_BYTES`.
const UNITS: usize = TOTAL_BYTES / UNIT_BYTES;
const _: () = assert!(UNITS <= u32::MAX as usize);

/// What there is for all requests.
pub(super) struct Budget {
    units: Arc<Semaphore>,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { units: Arc::new(Semaphore::new(UNITS)) }
    }

    /// The share of a request, empty yet, which waits for so long when it grows.
    pub(super) fn share(&self, patience: Duration) -> Share {
        Share { units: Arc::clone(&self.units), held: None, patience }
    }
}

/// What one request holds.
pub(super) struct Share {
    units: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    patience: Duration,
}

impl Share {
    /// Holds so many bytes from now on. What would need more than there is for all waits until it is alone.
    /// # Errors
    /// `overloaded`: others hold too much, and have not given it back in time. The share is as before.
    pub(super) async fn hold(&mut self, bytes: usize) -> Result<(), ApiError> {
        let wanted = bytes.saturating_sub(FREE_BYTES).div_ceil(UNIT_BYTES).min(UNITS);
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if wanted <= held {
            drop(self.held.as_mut().and_then(|permit| permit.split(held - wanted)));
            return Ok(());
        }
        let more = u32::try_from(wanted - held).expect("all units are fewer");
        let acquired = tokio::time::timeout(self.patience, Arc::clone(&self.units).acquire_many_owned(more)).await;
        let permit = acquired.map_err(|_| RequestError::TryAgain("requests over HTTP hold all the memory they may".into()))?;
        let permit = permit.expect("the semaphore is never closed");
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        Ok(())
    }

    /// Bytes with which this share goes, when the last of them is sent.
    pub(super) fn carried_by(self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(Carrier { bytes, _share: self })
    }
}

struct Carrier<T> {
    bytes: T,
    _share: Share,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Carrier<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3600);

    fn free(budget: &Budget) -> usize {
        budget.units.available_permits() * UNIT_BYTES
    }

    #[tokio::test]
    async fn a_share_grows_shrinks_and_goes_with_the_answer() {
        let budget = Budget::new();
        let mut share = budget.share(PATIENCE);
        share.hold(FREE_BYTES).await.expect("what is small is free");
        assert_eq!(free(&budget), TOTAL_BYTES);
        share.hold(FREE_BYTES + (1 << 20)).await.expect("there is room");
        share.hold(FREE_BYTES + (3 << 20)).await.expect("there is room");
        assert_eq!(free(&budget), TOTAL_BYTES - (3 << 20));
        share.hold(FREE_BYTES + (2 << 20)).await.expect("less is always there");
        assert_eq!(free(&budget), TOTAL_BYTES - (2 << 20));
        let mut answer = share.carried_by(b"answer".to_vec());
        let first = answer.split_to(2);
        drop(answer);
        assert_eq!((&first[..], free(&budget)), (&b"an"[..], TOTAL_BYTES - (2 << 20)));
        drop(first);
        assert_eq!(free(&budget), TOTAL_BYTES);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_what_is_too_large_goes_alone() {
        let budget = Budget::new();
        let mut large = budget.share(PATIENCE);
        large.hold(10 * TOTAL_BYTES).await.expect("it is alone");
        assert_eq!(free(&budget), 0);
        let mut other = budget.share(Duration::ZERO);
        other.hold(FREE_BYTES).await.expect("what is small is free");
        let refusal = other.hold(FREE_BYTES + 1).await.expect_err("nothing is left");
        assert!(refusal.message().ends_with("not executed"), "{}", refusal.message());
        drop(large);
        other.hold(FREE_BYTES + 1).await.expect("there is room again");
    }
}
