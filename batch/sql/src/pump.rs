//! Keeps what is computed within its limits, whatever its reader does.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::error::SqlError;

/// Pieces that wait for a reader.
const WAITING_MAX: usize = 2;

/// Where an answer ends, also when there is more of it.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    /// What `deadline` came of, for people.
    pub(crate) time: Duration,
    pub(crate) deadline: Instant,
    /// `None`: as many rows as there are.
    pub(crate) rows: Option<u64>,
    /// Who asked does not want it any more.
    pub(crate) cancel: CancellationToken,
}

impl Bound {
    pub(crate) fn new(time: Duration, rows: Option<u64>) -> Self {
        Bound { time, deadline: Instant::now() + time, rows, cancel: CancellationToken::new() }
    }
}

/// The pieces of an answer, computed in a task of their own: the memory of an answer that nobody fetches is free again when
/// its time is over, and that of one whose reader is gone at once. `held` is kept as long as it takes any.
pub(crate) fn pump<T, E, H>(
    mut pieces: BoxStream<'static, Result<T, E>>,
    rows_of: fn(&T) -> usize,
    bound: Bound,
    held: H,
) -> BoxStream<'static, Result<T, E>>
where
    T: Send + 'static,
    E: From<SqlError> + Send + 'static,
    H: Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let task = tokio::spawn(async move {
        let all = async {
            let mut rows = 0;
            while let Some(piece) = pieces.next().await {
                rows += piece.as_ref().map_or(0, rows_of) as u64;
                if let Some(most) = bound.rows.filter(|most| rows > *most) {
                    return Some(SqlError::Rows(most));
                }
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
            None
        };
        let broken_off = tokio::select! {
            broken_off = all => broken_off,
            () = tokio::time::sleep_until(bound.deadline) => Some(SqlError::Time(bound.time)),
            () = bound.cancel.cancelled() => Some(SqlError::Cancelled),
        };
        drop((pieces, held));
        if let Some(error) = broken_off {
            // Nobody may be listening any more.
            let _ = sender.send(Err(error.into())).await;
        }
    });
    let task = AbortOnDropHandle::new(task);
    let pieces = futures::stream::unfold((receiver, Some(task)), |(mut receiver, mut task)| async move {
        let piece = match receiver.recv().await {
            Some(piece) => piece,
            // It has ended. If it broke down, what has come is not all.
            None => match task.take()?.await {
                Err(error) if error.is_panic() => Err(SqlError::Broken.into()),
                _ => return None,
            },
        };
        Some((piece, (receiver, task)))
    });
    pieces.boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn numbers(count: usize) -> BoxStream<'static, Result<usize, SqlError>> {
        futures::stream::iter(0..count).map(Ok).boxed()
    }

    #[tokio::test]
    async fn an_answer_ends_where_it_must() {
        let bound = |rows| Bound::new(Duration::from_secs(60), Some(rows));
        let all: Vec<_> = pump(numbers(10), |_| 1, bound(10), ()).collect().await;
        assert!(all.len() == 10 && all.iter().all(Result::is_ok));
        let cut: Vec<_> = pump(numbers(11), |_| 1, bound(10), ()).collect().await;
        assert!(matches!(cut.last(), Some(Err(SqlError::Rows(10)))) && cut.len() == 11, "{cut:?}");
    }

    #[tokio::test]
    async fn a_computation_that_breaks_down_is_no_end_of_the_answer() {
        let pieces = futures::stream::iter(0..3).map(|n| if n < 2 { Ok(n) } else { panic!("this is a test") });
        let all: Vec<Result<i32, SqlError>> =
            pump(pieces.boxed(), |_| 1, Bound::new(Duration::from_secs(60), None), ()).collect().await;
        assert!(all.len() == 3 && matches!(all[2], Err(SqlError::Broken)), "{all:?}");
    }

    async fn until_given_back(held: &Arc<()>) {
        let given_back = async {
            while Arc::strong_count(held) > 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), given_back).await.expect("it is still held");
    }

    #[tokio::test]
    async fn an_answer_that_nobody_fetches_holds_nothing_when_its_time_is_over() {
        let held = Arc::new(());
        let slow = pump(numbers(1000), |_| 1, Bound::new(Duration::from_secs(1), None), held.clone());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(Arc::strong_count(&held), 2, "it may still be fetched");
        until_given_back(&held).await;
        let fetched: Vec<_> = slow.collect().await;
        assert!(matches!(fetched.last(), Some(Err(SqlError::Time(_)))), "{fetched:?}");
        drop(pump(numbers(1000), |_| 1, Bound::new(Duration::from_secs(3600), None), held.clone()));
        until_given_back(&held).await;
        let bound = Bound::new(Duration::from_secs(3600), None);
        let taken_back = pump(numbers(1000), |_| 1, bound.clone(), held.clone());
        bound.cancel.cancel();
        let fetched: Vec<_> = taken_back.collect().await;
        assert!(matches!(fetched.last(), Some(Err(SqlError::Cancelled))), "{fetched:?}");
    }
}
