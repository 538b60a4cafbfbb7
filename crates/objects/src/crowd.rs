//! Bounds how much is under way at once, so that one who calls too often waits and nobody else does: each way in has
//! places of its own, for calls and for answers that are still being read.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use model::SandboxId;
use s3s::{Body, S3Result, s3_error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Via, access::BoxError};

/// The places of all ways in.
#[derive(Debug)]
pub struct Crowd {
    public: Arc<Places>,
    sandboxes: Mutex<HashMap<SandboxId, Weak<Places>>>,
}

/// The places of one way in.
#[derive(Debug)]
pub struct Places {
    calls: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

impl Crowd {
    /// With all places free.
    pub fn new() -> Crowd {
        Crowd { public: Arc::new(Places::new(PUBLIC_CALLS, PUBLIC_ANSWERS)), sandboxes: Mutex::default() }
    }

    /// The places of a way in. Those of a sandbox last as long as somebody holds them.
    pub fn places(&self, via: Via) -> Arc<Places> {
        let Via::Sandbox(id) = via else { return Arc::clone(&self.public) };
        let mut sandboxes = self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = sandboxes.get(&id).and_then(Weak::upgrade) {
            return places;
        }
        sandboxes.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Places::new(SANDBOX_CALLS, SANDBOX_ANSWERS));
        sandboxes.insert(id, Arc::downgrade(&places));
        places
    }
}

impl Places {
    fn new(calls: usize, answers: usize) -> Places {
        Places { calls: Arc::new(Semaphore::new(calls)), answers: Arc::new(Semaphore::new(answers)) }
    }

    /// A place for a call; its body is not read before.
    pub async fn call(&self) -> S3Result<OwnedSemaphorePermit> {
        place(&self.calls).await
    }

    /// The same body, in a place until it has been read, if it is one that comes from the disk.
    pub async fn answer(&self, body: Body) -> S3Result<Body> {
        if body.bytes().is_some() || body.is_end_stream() {
            return Ok(body);
        }
        let place = place(&self.answers).await?;
        Ok(Body::http_body_unsync(Placed { body, _place: place }))
    }
}

async fn place(places: &Arc<Semaphore>) -> S3Result<OwnedSemaphorePermit> {
    match tokio::time::timeout(PATIENCE, Arc::clone(places).acquire_owned()).await {
        Ok(Ok(place)) => Ok(place),
        Ok(Err(_)) | Err(_) => Err(s3_error!(SlowDown, "too many calls are under way")),
    }
}

struct Placed {
    body: Body,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Placed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A call needs at most about 5 MiB, an answer half a MiB.
const PUBLIC_CALLS: usize = 96;
const PUBLIC_ANSWERS: usize = 512;
const SANDBOX_CALLS: usize = 32;
const SANDBOX_ANSWERS: usize = 256;
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use model::{AttemptNo, JobId};

    use super::*;

    #[tokio::test]
    async fn one_who_fills_all_places_waits_and_nobody_else_does() {
        let sandbox =
            |number| Via::Sandbox(SandboxId { job: JobId(uuid::Uuid::from_u128(number)), attempt: AttemptNo(1) });
        let crowd = Crowd::new();
        let mut taken = Vec::new();
        let ours = crowd.places(sandbox(1));
        for _ in 0..SANDBOX_CALLS {
            taken.push(ours.call().await.expect("a place"));
        }
        let next = crowd.places(sandbox(1));
        let mut waiting = std::pin::pin!(next.call());
        assert!(tokio::time::timeout(Duration::from_millis(50), waiting.as_mut()).await.is_err());
        assert!(crowd.places(sandbox(2)).call().await.is_ok());
        assert!(crowd.places(Via::Public).call().await.is_ok());
        taken.pop();
        assert!(waiting.await.is_ok());
    }
}
