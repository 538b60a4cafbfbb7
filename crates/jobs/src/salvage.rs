//! The log of an attempt whose shim died before it had brought all of it into the bucket of logs: `serve` does that from
//! the spool, into the same objects.

use audit::{Actor, Entry};
use bytes::Bytes;
use model::{BucketName, Job, SandboxId};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    Error, Inner,
    record::LOG_KEY,
    shim::{log_key, platform_log_key, send_part},
    spool::{Reader, read_used},
    surroundings::Beside as _,
    used::object_of,
};

/// Uploads what is not there yet; nothing where all of it is. Nobody may write to the spool any more. What to record of it
/// in the transaction of the attempt's end, which is the mark that it is done: until then it is done again, and finds in the
/// bucket what a `serve` that was killed had brought there. `None` where nothing was written.
pub(crate) async fn upload(jobs: &Inner, job: &Job, id: SandboxId) -> Result<Option<Entry>, Error> {
    let parts = &jobs.parts;
    let place = db::jobs::log_place(&parts.db, id).await?.filter(|place| place.spooled);
    let Some(place) = place else { return Ok(None) };
    let key = parts.keys.unwrap(&job.project, LOG_KEY, &place.wrapped_key)?;
    let dir = jobs.spool(place.sandbox);
    let reader = Reader::open(&dir, &key);
    let (written, said) = {
        let reader = reader.clone();
        tokio::task::spawn_blocking(move || Ok::<_, crate::spool::Error>((reader.parts()?, reader.platform()?)))
            .await??
    };
    parts.surroundings.ensure_log_bucket(&job.project).await.beside(DOING)?;
    let (mut files, mut bytes, mut uploaded) = (0_u64, 0_u64, 0_u64);
    for part in written {
        let name = log_key(id.job, &part);
        (files, bytes) = (files + 1, bytes + part.bytes);
        if size_of(jobs, job, &name).await? == Some(part.bytes) {
            continue;
        }
        let (pieces, body) = mpsc::channel(PIECES);
        let (reader, length) = (reader.clone(), part.bytes);
        let reading = tokio::task::spawn_blocking(move || send_part(&reader, &part, &pieces));
        parts.surroundings.write_log(&job.project, &name, length, body).await.beside(DOING)?;
        reading.await?;
        uploaded += 1;
    }
    let name = platform_log_key(id);
    let length = said.len() as u64;
    if length > 0 {
        uploaded += u64::from(write_whole(jobs, job, &name, said).await?);
        (files, bytes) = (files + 1, bytes + length);
    }
    let used = tokio::task::spawn_blocking(move || read_used(&dir, &key)).await?.unwrap_or_else(|cause| {
        tracing::warn!(%id, %cause, "what an attempt used is lost with its shim");
        None
    });
    if let Some(used) = used.as_ref().and_then(|used| serde_json::to_vec(used).ok()) {
        (files, bytes) = (files + 1, bytes + used.len() as u64);
        uploaded += u64::from(write_whole(jobs, job, &object_of(id), used).await?);
    }
    if uploaded > 0 {
        tracing::warn!(%id, uploaded, files, bytes, "the log of an attempt was uploaded from what its shim left");
    }
    let mut entry = Entry::new(Actor::system(), "job.log.uploaded", format!("project/{}/job/{}", job.project, job.id));
    entry.result = "ok".to_owned();
    entry.detail = json!({ "attempt": id.attempt.0, "files": files, "bytes": bytes });
    Ok((files > 0).then_some(entry))
}

/// Writes an object unless it is there; whether it was not.
async fn write_whole(jobs: &Inner, job: &Job, name: &str, content: Vec<u8>) -> Result<bool, Error> {
    let length = content.len() as u64;
    if size_of(jobs, job, name).await? == Some(length) {
        return Ok(false);
    }
    let (pieces, body) = mpsc::channel(PIECES);
    // A channel that was just made has room.
    let _ = pieces.try_send(Ok(Bytes::from(content)));
    drop(pieces);
    jobs.parts.surroundings.write_log(&job.project, name, length, body).await.beside(DOING)?;
    Ok(true)
}

async fn size_of(jobs: &Inner, job: &Job, name: &str) -> Result<Option<u64>, Error> {
    jobs.parts.surroundings.object_size(&job.project, &BucketName::logs(), name).await.beside(DOING)
}

const DOING: &str = "uploading the log of an attempt";
const PIECES: usize = 2;
