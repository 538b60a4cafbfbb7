//! Moves files to and from buckets by presigned URLs: the API says where, the object gate moves the bytes.

use std::{
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::{
    address::Address,
    client::{self, Client, encode},
    output,
};
use crate::failure::{Doing, Failure};

/// Path of a bucket in the API.
pub async fn bucket_path(client: &Client, bucket: &str) -> Result<String, Failure> {
    Ok(format!("{}/{}", buckets_path(client).await?, encode(bucket)))
}

/// Path of the buckets in the API.
pub async fn buckets_path(client: &Client) -> Result<String, Failure> {
    Ok(format!("/cloud/project/{}/region/{}/storage", encode(client.project()?), encode(&client.region().await?)))
}

/// Sends a file; returns its size.
pub async fn upload(client: &Client, file: &Path, target: &Address) -> Result<u64, Failure> {
    let what = format!("cannot upload {} to {target}", file.display());
    let opened = tokio::fs::File::open(file).await.doing(&what)?;
    let meta = opened.metadata().await.doing(&what)?;
    if !meta.is_file() {
        return Err(Failure::new(what).cause("it is not a file").help("an S3 client moves whole directories"));
    }
    if meta.len() > LARGEST_PUT {
        return Err(Failure::new(what)
            .cause("it is larger than 5 GiB, the bound of one write")
            .help("an S3 client writes it in parts"));
    }
    let url = presign(client, target, "PUT", &what).await?;
    let bar = progress(meta.len(), &format!("{} -> {target}", file.display()));
    let counted = bar.clone();
    let stream = ReaderStream::with_capacity(opened, CHUNK)
        .inspect(move |chunk| counted.inc(chunk.as_ref().map_or(0, |bytes| bytes.len() as u64)));
    let request = http(&url)?.put(&url).header("Content-Length", meta.len()).body(reqwest::Body::wrap_stream(stream));
    let sent = request.send().await;
    bar.finish_and_clear();
    accepted(sent.map_err(|cause| said(&what, cause))?, &what).await?;
    Ok(meta.len())
}

/// Fetches an object into a file, which appears whole or not at all; returns its size and where it is.
pub async fn download(client: &Client, source: &Address, target: &Path) -> Result<(u64, PathBuf), Failure> {
    let what = format!("cannot fetch {source}");
    let name = source.key.rsplit('/').next().filter(|name| !matches!(*name, "" | "." | ".."));
    let target = match (target.is_dir(), name) {
        (true, Some(name)) => target.join(name),
        (true, None) => return Err(Failure::new(what).help("name the file to write")),
        (false, _) => target.to_owned(),
    };
    let mut part = target.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let writing = format!("cannot write {}", target.display());
    let response = open(client, source, &what).await?;
    let mut file = tokio::fs::File::create(&part).await.doing(&writing)?;
    let copied = copy(response, &mut file, &what, source).await;
    let done = match copied {
        Ok(size) => tokio::fs::rename(&part, &target).await.doing(&writing).map(|()| size),
        Err(failure) => Err(failure),
    };
    if done.is_err() {
        let _ = tokio::fs::remove_file(&part).await;
    }
    Ok((done?, target))
}

/// Fetches an object to standard output.
pub async fn print(client: &Client, source: &Address) -> Result<(), Failure> {
    let what = format!("cannot fetch {source}");
    let response = open(client, source, &what).await?;
    let out = std::io::stdout().as_fd().try_clone_to_owned().doing("cannot use standard output")?;
    copy(response, &mut tokio::fs::File::from_std(out.into()), &what, source).await.map(drop)
}

async fn open(client: &Client, source: &Address, what: &str) -> Result<reqwest::Response, Failure> {
    let url = presign(client, source, "GET", what).await?;
    let sent = http(&url)?.get(&url).send().await;
    accepted(sent.map_err(|cause| said(what, cause))?, what).await
}

async fn copy(
    response: reqwest::Response,
    target: &mut (impl AsyncWrite + Unpin),
    what: &str,
    source: &Address,
) -> Result<u64, Failure> {
    let bar = progress(response.content_length().unwrap_or(0), &source.to_string());
    let mut stream = response.bytes_stream();
    let mut size = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|cause| said(what, cause))?;
        target.write_all(&chunk).await.doing(what)?;
        size += chunk.len() as u64;
        bar.inc(chunk.len() as u64);
    }
    target.flush().await.doing(what)?;
    bar.finish_and_clear();
    Ok(size)
}

async fn presign(client: &Client, address: &Address, method: &str, what: &str) -> Result<String, Failure> {
    let path = format!("{}/presign", bucket_path(client, &address.bucket).await?);
    let body = json!({ "expire": EXPIRY, "method": method, "object": address.key });
    let answer = client.post(&path, &body, what).await?;
    let url = answer.body["url"].as_str().filter(|url| !url.is_empty()).map(str::to_owned);
    url.ok_or_else(|| Failure::new(what).cause("the service gave no URL"))
}

fn http(url: &str) -> Result<reqwest::Client, Failure> {
    client::http(url).read_timeout(STALLED).build().doing("cannot prepare the HTTP client")
}

/// The object store's word on why it did not: the code and message of its XML.
async fn accepted(response: reqwest::Response, what: &str) -> Result<reqwest::Response, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.text().await.unwrap_or_default();
    let part = |name: &str| {
        let rest = body.split_once(&format!("<{name}>"))?.1;
        Some(output::printable(rest.split_once("</")?.0))
    };
    let mut failure = Failure::new(format!("{what} ({status})"));
    for cause in [part("Code"), part("Message")].into_iter().flatten() {
        failure = failure.cause(cause);
    }
    Err(failure)
}

/// An error of the HTTP client with its causes, without the URL: it is a credential.
fn said(what: &str, cause: reqwest::Error) -> Failure {
    Failure::new(what).cause("the object store did not answer").because(&cause.without_url())
}

fn progress(size: u64, message: &str) -> ProgressBar {
    if !output::watched() || size < WORTH_SHOWING {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec}");
    let bar = ProgressBar::new(size).with_message(output::printable(message));
    match style {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

const CHUNK: usize = 256 * 1024;
/// The bound of one PUT in S3.
const LARGEST_PUT: u64 = 5 * 1024 * 1024 * 1024;
const WORTH_SHOWING: u64 = 4 * 1024 * 1024;
/// A URL is used at once; an hour is for a slow line.
const EXPIRY: u32 = 3_600;
const STALLED: Duration = Duration::from_secs(120);
