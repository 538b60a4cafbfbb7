//! What the fuzz targets call: parsers of this room that meet bytes which nobody has vouched for.

use std::{collections::BTreeMap, path::PathBuf, sync::OnceLock};

use futures::StreamExt as _;
use http::{Request, header};
use s3s::Body;

use crate::{
    actions,
    chunks::{Chunks, Signers},
    form::Form,
    guard,
    log::{Log, NOWHERE, Position, Reader},
    logged, post_policy, presigned,
    region::{Credential, Signer},
    segments,
};

/// A request, from its head to the parts of its body that are parsed before its signature is known to be right.
pub fn request(bytes: &[u8]) {
    let head_ends = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(head_ends);
    let body = body.get(4..).unwrap_or_default().to_vec();
    let Ok(head) = std::str::from_utf8(head) else { return };
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().splitn(2, ' ');
    let mut builder = Request::builder().method(first.next().unwrap_or("GET")).uri(first.next().unwrap_or("/"));
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        builder = builder.header(name.trim(), value.trim());
    }
    let Ok(request) = builder.body(Body::from(body.clone())) else { return };
    let uri = request.uri().clone();
    let mut headers = request.headers().clone();
    let _ = presigned::check(&uri, &headers);
    presigned::hoist(&uri, &mut headers);
    for operation in ["PutObject", "GetObject", "ListObjectsV2", "DeleteObjects", "PutBucketPolicy"] {
        let _ = actions::actions(operation, &uri, &headers);
        let _ = actions::foreign_parameter(operation, &uri);
    }
    let Ok(request) = guard::checked(request) else { return };
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    runtime.block_on(async {
        for signers in [None, signers(false), signers(true)] {
            let mut read = 0;
            let mut chunks = Chunks { signers, with_trailer: body.len() % 2 == 0 }.filter(Body::from(body.clone()));
            while let Some(Ok(bytes)) = chunks.next().await {
                read += bytes.len();
            }
            // A long chunk that is cut has more heads.
            assert!(read <= body.len() + body.len() / 1024, "chunks are no longer than what came");
        }
        let Ok(mut form) = Form::new(kind.as_deref().unwrap_or_default(), Body::from(body.clone())) else { return };
        let mut fields = BTreeMap::new();
        while let Ok(Some(field)) = form.next().await {
            if field.name == "file" {
                let _ = form.data().collect::<Vec<_>>().await;
                break;
            }
            let Ok(text) = form.text().await else { break };
            if let Ok(policy) = post_policy::Policy::parse(&text) {
                let _ = policy.check(&fields, jiff::Timestamp::now());
            }
            fields.insert(field.name.clone(), text);
        }
    });
}

/// Signers of the key in the examples of AWS.
fn signers(again: bool) -> Option<Signers> {
    let credential = Credential::parse("AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request")?;
    let signer = || Signer::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", &credential, "20130524T000000Z");
    let seed = || "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9".to_owned();
    Some(Signers { old: signer(), new: signer(), old_previous: seed(), new_previous: seed(), again })
}

/// A log of batches that are cut from the input, of which a part is changed or cut off: what is read are the first of
/// those that were written, and nothing else.
pub fn log(bytes: &[u8]) {
    let Some(([count, at_high, at_low, mask], rest)) = bytes.split_first_chunk::<4>() else { return };
    let directory = directory();
    for id in segments::ids(directory).unwrap_or_default() {
        let _ = std::fs::remove_file(segments::path(directory, id));
    }
    let start = Position { segment: NOWHERE, offset: 0, sequence: 1 };
    let mut log = Log::new(directory, 7, start, 0, 4096);
    let written: Vec<&[u8]> = rest.chunks(usize::from(*count).max(1)).take(64).collect();
    for notes in &written {
        if log.begin().and_then(|()| log.append(notes)).is_err() {
            return;
        }
    }
    let mut files = segments::ids(directory).unwrap_or_default();
    files.sort_unstable();
    let at = usize::from(u16::from_be_bytes([*at_high, *at_low]));
    if let Some(id) = files.get(at % files.len().max(1)) {
        let path = segments::path(directory, *id);
        let mut stored = std::fs::read(&path).unwrap_or_default();
        match (*mask, stored.len()) {
            (_, 0) => {}
            (0, length) => stored.truncate(at % length),
            (mask, length) => stored[at % length] ^= mask,
        }
        let _ = std::fs::write(&path, &stored);
    }
    let Ok(mut reader) = Reader::new(directory, 7, start) else { return };
    let mut read = 0;
    while let Ok(Some(batch)) = reader.next() {
        assert_eq!(Some(&batch.notes()), written.get(read), "a batch that was not written");
        for note in logged::notes(batch.notes()) {
            if note.is_err() {
                break;
            }
        }
        read += 1;
    }
}

fn directory() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("casemate-fuzz-{}", std::process::id()));
        let _ = std::fs::create_dir_all(&path);
        path
    })
}
