//! `casemate bucket` and `casemate object`: the few verbs that people need without an S3 client.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Outcome, Output,
    address::Address,
    client::{Client, encode},
    output,
    transfer::{self, bucket_path, buckets_path},
};
use crate::failure::Failure;

/// Verbs of buckets.
#[derive(Debug, Subcommand)]
pub enum BucketCommand {
    /// Make a bucket
    Create {
        /// Its name: 3 to 63 of a-z, 0-9, '-' and '.'
        #[arg(value_name = "BUCKET", value_parser = bucket_name)]
        name: String,
    },
    /// List the buckets of the project
    #[command(visible_alias = "ls")]
    List,
    /// Remove an empty bucket
    #[command(visible_alias = "rm")]
    Delete {
        /// Its name
        #[arg(value_name = "BUCKET", value_parser = bucket_name)]
        name: String,
        /// Remove its objects first, with all their versions
        #[arg(long)]
        recursive: bool,
    },
}

/// Verbs of objects.
#[derive(Debug, Subcommand)]
pub enum ObjectCommand {
    /// Upload a file
    Put {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where to: s3://BUCKET/KEY; the file's name is added where the key is empty or ends with '/'
        #[arg(value_name = "ADDRESS")]
        target: Address,
    },
    /// Download an object
    Get {
        /// The object: s3://BUCKET/KEY
        #[arg(value_name = "ADDRESS")]
        source: Address,
        /// File or directory to write to; '-' is standard output
        #[arg(value_name = "FILE", default_value = ".")]
        target: PathBuf,
    },
    /// List objects by prefix
    #[command(visible_alias = "ls")]
    List {
        /// s3://BUCKET/PREFIX
        #[arg(value_name = "ADDRESS")]
        address: Address,
    },
    /// Remove an object
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
}

/// Arguments of `object delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The object: s3://BUCKET/KEY
    #[arg(value_name = "ADDRESS")]
    address: Address,
    /// Remove every object whose key begins so
    #[arg(long)]
    recursive: bool,
}

/// Runs a verb of buckets.
pub async fn bucket(command: BucketCommand, client: &Client, output: Output) -> Outcome {
    match command {
        BucketCommand::Create { name } => {
            let made = create_bucket(client, &name).await?;
            output::print(output, &made, || format!("bucket {name} created"))?;
        }
        BucketCommand::List => {
            let buckets = client.get(&buckets_path(client).await?, "cannot list the buckets").await?.body;
            output::print(output, &buckets, || bucket_table(&buckets))?;
        }
        BucketCommand::Delete { name, recursive } => {
            match recursive {
                true => delete_full_bucket(client, &name).await?,
                false => delete_bucket(client, &name).await?,
            }
            output::print(output, &json!({ "name": name }), || format!("bucket {name} deleted"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a verb of objects.
pub async fn object(command: ObjectCommand, client: &Client, output: Output) -> Outcome {
    match command {
        ObjectCommand::Put { file, mut target } => {
            if target.key.is_empty() || target.key.ends_with('/') {
                let name = file.file_name().and_then(|name| name.to_str());
                target.key.push_str(
                    name.ok_or_else(|| Failure::new(format!("{} has no name to give the object", file.display())))?,
                );
            }
            let size = transfer::upload(client, &file, &target).await?;
            let shown = json!({ "bucket": target.bucket, "key": target.key, "size": size });
            output::print(output, &shown, || format!("{} -> {target}, {}", file.display(), bytes(size)))?;
        }
        ObjectCommand::Get { source, target } if target.as_os_str() == "-" => transfer::print(client, &source).await?,
        ObjectCommand::Get { source, target } => {
            let (size, file) = transfer::download(client, &source, &target).await?;
            let shown =
                json!({ "bucket": source.bucket, "key": source.key, "size": size, "file": file.display().to_string() });
            output::print(output, &shown, || format!("{source} -> {}, {}", file.display(), bytes(size)))?;
        }
        ObjectCommand::List { address } => list(client, &address, output).await?,
        ObjectCommand::Delete(DeleteArgs { address, recursive: true }) => {
            let number = delete_all(client, &address).await?;
            let shown = json!({ "bucket": address.bucket, "prefix": address.key, "deleted": number });
            output::print(output, &shown, || format!("{number} objects deleted under {address}"))?;
        }
        ObjectCommand::Delete(DeleteArgs { address, recursive: false }) => {
            delete_object(client, &address).await?;
            let shown = json!({ "bucket": address.bucket, "key": address.key });
            output::print(output, &shown, || format!("{address} deleted"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a bucket.
pub async fn create_bucket(client: &Client, name: &str) -> Result<Value, Failure> {
    let made = client
        .post(&buckets_path(client).await?, &json!({ "name": name }), &format!("cannot create bucket {name}"))
        .await?;
    Ok(made.body)
}

/// Whether the project has that bucket.
pub async fn has_bucket(client: &Client, name: &str) -> Result<bool, Failure> {
    let buckets = client.get(&buckets_path(client).await?, "cannot list the buckets").await?.body;
    Ok(buckets.as_array().is_some_and(|list| list.iter().any(|bucket| bucket["name"] == name)))
}

/// Removes an empty bucket.
pub async fn delete_bucket(client: &Client, name: &str) -> Result<(), Failure> {
    client.delete(&bucket_path(client, name).await?, &format!("cannot delete bucket {name}")).await.map(drop)
}

/// Removes a bucket with all that is in it.
async fn delete_full_bucket(client: &Client, name: &str) -> Result<(), Failure> {
    let path = format!("{}?recursive=true", bucket_path(client, name).await?);
    client.delete(&path, &format!("cannot delete bucket {name}")).await.map(drop)
}

/// Removes an object.
pub async fn delete_object(client: &Client, address: &Address) -> Result<(), Failure> {
    let path = format!("{}/object/{}", bucket_path(client, &address.bucket).await?, encode(&address.key));
    client.delete(&path, &format!("cannot delete {address}")).await.map(drop)
}

async fn delete_all(client: &Client, address: &Address) -> Result<u64, Failure> {
    let mut pages = Pages::new(client, address).await?;
    let mut number = 0;
    while let Some(objects) = pages.next(client).await? {
        for object in objects {
            let key = object["key"].as_str().unwrap_or_default().to_owned();
            delete_object(client, &Address { bucket: address.bucket.clone(), key }).await?;
            number += 1;
        }
    }
    Ok(number)
}

/// Prints page by page, so that a bucket of any size can be listed.
async fn list(client: &Client, address: &Address, output: Output) -> Result<(), Failure> {
    let mut pages = Pages::new(client, address).await?;
    let mut all = Vec::new();
    let mut empty = true;
    while let Some(objects) = pages.next(client).await? {
        empty &= objects.is_empty();
        match output {
            Output::Json => all.extend(objects),
            Output::Text => {
                for object in &objects {
                    let size = object["size"].as_u64().unwrap_or(0);
                    let key = output::printable(output::field(object, "key"));
                    output::line(&format!(
                        "{:>10}  {:20}  {key}",
                        bytes(size),
                        whole_seconds(output::field(object, "lastModified"))
                    ))?;
                }
            }
        }
    }
    match output {
        Output::Json => output::print(output, &Value::Array(all), String::new),
        Output::Text if empty => {
            eprintln!("no objects under {address}");
            Ok(())
        }
        Output::Text => Ok(()),
    }
}

/// The pages of a listing.
struct Pages {
    path: String,
    bucket: String,
    prefix: String,
    marker: Option<String>,
    done: bool,
}

impl Pages {
    async fn new(client: &Client, address: &Address) -> Result<Pages, Failure> {
        let path = bucket_path(client, &address.bucket).await?;
        Ok(Pages { path, bucket: address.bucket.clone(), prefix: address.key.clone(), marker: None, done: false })
    }

    async fn next(&mut self, client: &Client) -> Result<Option<Vec<Value>>, Failure> {
        if self.done {
            return Ok(None);
        }
        let mut path = format!("{}?limit={PAGE}&prefix={}", self.path, encode(&self.prefix));
        if let Some(marker) = &self.marker {
            path.push_str(&format!("&marker={}", encode(marker)));
        }
        let answer = client.get(&path, &format!("cannot list bucket {}", self.bucket)).await?;
        let objects = answer.body["objects"].as_array().cloned().unwrap_or_default();
        self.marker = objects.last().and_then(|object| object["key"].as_str()).map(str::to_owned);
        self.done = objects.len() < PAGE;
        Ok(Some(objects))
    }
}

fn bucket_table(buckets: &Value) -> String {
    let unknown = || "unknown".to_owned();
    let rows: Vec<Vec<String>> = buckets
        .as_array()
        .into_iter()
        .flatten()
        .map(|bucket| {
            vec![
                output::field(bucket, "name").to_owned(),
                bucket["objectsCount"].as_u64().map_or_else(unknown, |count| count.to_string()),
                bucket["objectsSize"].as_u64().map_or_else(unknown, bytes),
                whole_seconds(output::field(bucket, "createdAt")),
            ]
        })
        .collect();
    output::table(&["name", "objects", "size", "created"], &rows)
}

fn bucket_name(text: &str) -> Result<String, String> {
    match Address::parse(text) {
        Some(address) if address.key.is_empty() => Ok(address.bucket),
        Some(_) => Err("a bucket's name, without a key".to_owned()),
        None => Ok(text.to_owned()),
    }
}

/// A time by RFC 3339 without its fraction.
pub fn whole_seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

/// A size for people.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn bytes(size: u64) -> String {
    let mut shown = size as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if shown < 1024.0 {
            return if unit == "B" { format!("{size} B") } else { format!("{shown:.1} {unit}") };
        }
        shown /= 1024.0;
    }
    format!("{shown:.1} TiB")
}

const PAGE: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!((bytes(0), bytes(1023), bytes(1536)), ("0 B".into(), "1023 B".into(), "1.5 KiB".into()));
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(whole_seconds("2024-05-01T12:00:00.123456Z"), "2024-05-01T12:00:00Z");
        assert_eq!(whole_seconds("-"), "-");
    }
}
