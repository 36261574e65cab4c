//! Work whose time grows with its bytes: JSON that is parsed or written.
//! A megabyte takes some milliseconds, during which a network thread would serve nobody else: what is large goes to the blocking pool.

use super::error::ApiError;
use crate::error::RequestError;

/// Up to so many bytes the work takes less time than the way to another thread is worth.
const HERE_BYTES_MAX: usize = 64 << 10;

/// Does work on so many bytes, off the network threads if they are many.
pub(super) async fn work_on<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if bytes <= HERE_BYTES_MAX {
        return work();
    }
    // The pool takes no more work only while the process stops.
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(RequestError::TryAgain("the node is stopping".into()).into()))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn what_is_large_is_done_elsewhere() {
        let here = thread::current().id();
        let done_at = |bytes| work_on(bytes, || Ok(thread::current().id()));
        assert_eq!(done_at(HERE_BYTES_MAX).await.expect("it is done"), here);
        assert_ne!(done_at(HERE_BYTES_MAX + 1).await.expect("it is done"), here);
    }
}
