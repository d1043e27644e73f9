//! Work that is begun where it is made, before it becomes a task.
//!
//! A hit is answered at the first poll of its stream. As a task it would be queued, scheduled, polled and joined for that
//! one poll, each time through what other threads could share. Who calls it: `tcp` for the streams of HTTP/2 and `quic` for
//! those of HTTP/3. Deliberately not here: whose tasks they become.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// What one poll has made of a future.
pub(super) enum Begun<F: Future> {
    Done(F::Output),
    /// It has to be polled again, which nobody will say: whoever runs it polls it as if it were new.
    Unfinished(Pin<Box<F>>),
}

/// Polls `future` once.
pub(super) fn begin<F: Future>(future: F) -> Begun<F> {
    // One that is not done moves on to a task, so it cannot be on the stack.
    let mut future = Box::pin(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(output) => Begun::Done(output),
        Poll::Pending => Begun::Unfinished(future),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn what_waits_for_nothing_is_done_at_once() {
        assert!(matches!(begin(async { 7 }), Begun::Done(7)));
    }

    #[tokio::test]
    async fn what_waits_goes_on_where_it_was_and_is_woken_there() {
        let (answer, answered) = oneshot::channel();
        let mut polls = 0;
        let begun = begin(async move {
            polls += 1;
            (answered.await, polls)
        });
        let Begun::Unfinished(unfinished) = begun else {
            panic!("there is no answer yet");
        };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(unfinished);
        tokio::task::yield_now().await;
        answer.send(7).unwrap();
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), (Ok(7), 1));
    }
}
