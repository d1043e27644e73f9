//! Bodies of the origin: whole, growing, and going wrong on purpose.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};

use super::control::{Control, ENDING_GRACE, Ending};
use super::fault::BodyPlan;

/// The body of one of the origin's responses.
pub struct OriginBody {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, BodyFault>> + Send>>,
    /// Bytes that are still promised; `None` while the body grows.
    left: Option<u64>,
    is_empty: bool,
}

/// A body that ends before its time, on purpose or because its broadcast began again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body ends before its last byte")]
pub struct BodyFault;

impl std::fmt::Debug for OriginBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OriginBody")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl OriginBody {
    /// Returns a body without bytes.
    pub(crate) fn empty() -> Self {
        Self {
            stream: Box::pin(stream::empty()),
            left: Some(0),
            is_empty: true,
        }
    }

    /// Returns a body of bytes that are all there.
    pub(crate) fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return Self::empty();
        }
        Self {
            left: Some(bytes.len() as u64),
            stream: Box::pin(stream::iter([Ok(bytes)])),
            is_empty: false,
        }
    }

    /// Returns a body that grows with `stream`; its length is `len` where that is known.
    pub(crate) fn growing(
        stream: impl Stream<Item = Result<Bytes, BodyFault>> + Send + 'static,
        len: Option<u64>,
    ) -> Self {
        Self {
            stream: Box::pin(stream),
            left: len,
            is_empty: false,
        }
    }

    /// Returns the length of the body, where it is known.
    pub(crate) fn len_if_known(&self) -> Option<u64> {
        self.left
    }

    /// Lets the body go wrong as `plan` says.
    pub(crate) fn spoiled(self, plan: BodyPlan, control: Control, version: http::Version) -> Self {
        if plan == BodyPlan::default() {
            return self;
        }
        let (left, is_empty) = (self.left, self.is_empty);
        let spoiling = Spoiling {
            inner: self.stream,
            chunk: Bytes::new(),
            sent: 0,
            promised: left,
            plan,
            control,
            version,
        };
        Self {
            stream: Box::pin(stream::unfold(spoiling, Spoiling::next)),
            left,
            is_empty,
        }
    }
}

/// A body on its way to going wrong.
struct Spoiling {
    inner: Pin<Box<dyn Stream<Item = Result<Bytes, BodyFault>> + Send>>,
    chunk: Bytes,
    sent: u64,
    promised: Option<u64>,
    plan: BodyPlan,
    control: Control,
    version: http::Version,
}

impl Spoiling {
    async fn next(mut self) -> Option<(Result<Bytes, BodyFault>, Self)> {
        if self.plan.reset_at.is_some_and(|at| self.sent >= at) {
            self.control.end(Ending::Reset);
            return std::future::pending().await;
        }
        if self.plan.truncate_at.is_some_and(|at| self.sent >= at) {
            return self.truncate().await;
        }
        while self.chunk.is_empty() {
            match self.inner.next().await? {
                Ok(chunk) => self.chunk = chunk,
                Err(fault) => return Some((Err(fault), self)),
            }
        }
        let stop = [self.plan.reset_at, self.plan.truncate_at]
            .into_iter()
            .flatten()
            .map(|at| at - self.sent)
            .fold(self.chunk.len() as u64, u64::min);
        let mut take = usize::try_from(stop).unwrap_or(self.chunk.len());
        if let Some((step, every)) = self.plan.dribble {
            take = take.min(step);
            if self.sent > 0 {
                tokio::time::sleep(every).await;
            }
        }
        let piece = self.chunk.split_to(take);
        self.sent += piece.len() as u64;
        Some((Ok(piece), self))
    }

    /// Ends the body as if this were all.
    async fn truncate(self) -> Option<(Result<Bytes, BodyFault>, Self)> {
        match (self.version, self.promised) {
            // END_STREAM before the promised length: only the length gives it away.
            (http::Version::HTTP_2, Some(_)) => None,
            // Without a length an early END_STREAM would be a whole body: the stream is reset. A
            // reset discards what waits to be written, so that goes out first.
            (http::Version::HTTP_2, None) => {
                tokio::time::sleep(ENDING_GRACE).await;
                Some((Err(BodyFault), self))
            }
            (_, _) => {
                self.control.end(Ending::Close);
                std::future::pending().await
            }
        }
    }
}

impl http_body::Body for OriginBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyFault>>> {
        let body = self.get_mut();
        body.stream.poll_next_unpin(cx).map(|next| {
            next.map(|chunk| {
                let chunk = chunk?;
                if let Some(left) = &mut body.left {
                    *left = left.saturating_sub(chunk.len() as u64);
                }
                Ok(http_body::Frame::data(chunk))
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.left
            .map_or_else(http_body::SizeHint::new, http_body::SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt as _;

    use super::*;

    fn spoiled(plan: BodyPlan, version: http::Version) -> (OriginBody, Control) {
        let control = Control::new();
        let body = OriginBody::full(Bytes::from_static(b"0123456789"));
        (body.spoiled(plan, control.clone(), version), control)
    }

    async fn frame(body: &mut OriginBody) -> Option<Result<Bytes, BodyFault>> {
        let frame = body.frame().await?;
        Some(frame.map(|f| f.into_data().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_body_gives_its_bytes_and_then_asks_for_the_reset() {
        let plan = BodyPlan {
            reset_at: Some(4),
            ..BodyPlan::default()
        };
        let (mut body, control) = spoiled(plan, http::Version::HTTP_11);
        assert_eq!(frame(&mut body).await.unwrap().unwrap(), "0123");
        tokio::select! {
            _ = frame(&mut body) => panic!("the body must not end"),
            ending = control.ended() => assert_eq!(ending, Ending::Reset),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_truncated_body_promises_more_than_it_gives() {
        let plan = BodyPlan {
            truncate_at: Some(4),
            ..BodyPlan::default()
        };
        let (mut body, _control) = spoiled(plan, http::Version::HTTP_2);
        assert_eq!(body.len_if_known(), Some(10));
        assert_eq!(frame(&mut body).await.unwrap().unwrap(), "0123");
        assert_eq!(frame(&mut body).await, None);
        let (mut body, control) = spoiled(plan, http::Version::HTTP_11);
        assert_eq!(frame(&mut body).await.unwrap().unwrap(), "0123");
        tokio::select! {
            _ = frame(&mut body) => panic!("the connection is closed instead"),
            ending = control.ended() => assert_eq!(ending, Ending::Close),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dribbled_body_comes_in_steps() {
        let plan = BodyPlan {
            dribble: Some((4, Duration::from_millis(100))),
            ..BodyPlan::default()
        };
        let (mut body, _control) = spoiled(plan, http::Version::HTTP_11);
        let started = tokio::time::Instant::now();
        let mut seen = Vec::new();
        while let Some(piece) = frame(&mut body).await {
            seen.push((started.elapsed().as_millis(), piece.unwrap().len()));
        }
        assert_eq!(seen, [(0, 4), (100, 4), (200, 2)]);
    }
}
