//! The life of one attempt: fetch, start, watch, end, upload. Every step that a crash can part from the next is durable
//! before the next begins.

use std::{
    fs::{File, Permissions},
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use engine::{
    environment::Form,
    spark::{self, ConfFile, DriverContext, Launch},
};
use jiff::Timestamp;
use model::{BucketName, EndReason, NodeName};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use warden::StopSignal;

use super::{
    Args,
    containers::{Container, Containers, Limits, Lost, NotStarted},
    ending::{self, NOT_RUN, STOPPED, Why},
    executors::Executors,
    fetch::{self, Fetch, place_of_file},
    gate::{GATE, Gate},
    keeper::Keeper,
    output::Output,
    pods::{self, Host},
    sampler::Sampler,
    unpack::{Refused, unpack},
    upload::NotUploaded,
    waiting::Waiting,
};
use crate::{
    control::{End, Phase, Start},
    environment::Content,
};

/// One attempt that was asked to start.
pub struct Attempt {
    /// What the warden said.
    pub args: Args,
    /// What `serve` said.
    pub start: Start,
    /// Its log.
    pub output: Output,
    /// Its state on disk.
    pub keeper: Arc<Keeper>,
    /// Whoever watches it.
    pub phases: Arc<watch::Sender<Phase>>,
    /// Why it is to stop, once it is.
    pub stop: watch::Receiver<Option<Why>>,
    /// Containers that wait for this attempt.
    pub waiting: Waiting,
    /// The pods API's listener.
    pub pods: Option<TcpListener>,
    /// Its parts as they are uploaded; gives what failed once `all_cut` is cancelled.
    pub uploads: tokio::task::JoinHandle<Vec<NotUploaded>>,
    /// Cancelled when no part comes any more.
    pub all_cut: CancellationToken,
}

impl Attempt {
    /// Lives the whole life, up to the phase `Ended`.
    pub async fn run(mut self) {
        let end = self.work().await;
        self.output.say(end.reason.to_string()).await;
        fail::fail_point!("shim.ended");
        // From here on a crash of this process loses no result, only the upload.
        let keeper = self.keeper.clone();
        let outcome = end.clone();
        let saving = async move { keeper.insist(|state| state.outcome = Some(outcome)).await };
        let uploading = async {
            if let Err(cause) = self.output.finish().await {
                tracing::error!(%cause, "the log may not be durable");
            }
            fail::fail_point!("shim.log.durable");
            self.all_cut.cancel();
            let failures = (&mut self.uploads).await.unwrap_or_default();
            for failure in &failures {
                self.output.say(failure.to_string()).await;
            }
            if !failures.is_empty() {
                let _ = self.output.finish().await;
            }
        };
        tokio::join!(saving, uploading);
        fail::fail_point!("shim.log.uploaded");
        let phase = Phase::Ended(end);
        self.keeper.insist(|state| state.phase = phase.clone()).await;
        fail::fail_point!("shim.end.durable");
        self.phases.send_replace(phase);
    }

    /// From the fetch to the end of the last container.
    async fn work(&mut self) -> End {
        let mut stop = self.stop.clone();
        let prepared = tokio::select! {
            biased;
            why = asked(&mut stop) => Err((why.reason(), STOPPED)),
            prepared = self.prepare() => prepared.map_err(|reason| (reason, NOT_RUN)),
        };
        match prepared {
            Ok(launch) => self.drive(launch, &mut stop).await,
            Err(end) => end_now(None, end),
        }
    }

    /// Brings everything that the driver needs to where it will find it.
    async fn prepare(&self) -> Result<Launch, EndReason> {
        let Start { spec, engine, keys, region, id, .. } = &self.start;
        let gate = Gate::new(&keys.job, region);
        let fetch = Fetch {
            gate: &gate,
            bucket: &spec.bucket,
            work: &self.args.work,
            storage: spec.sizing.driver.storage(),
            output: &self.output,
        };
        let fetched = fetch.all().await?;
        let (files, bytes) = (fetched.files, fetched.bytes);
        self.output.say(format!("fetched {files} files, {bytes} bytes, from the bucket {}", spec.bucket)).await;
        let cannot = |detail: String| EndReason::CannotStart { detail };
        let main = spec.program.main_file();
        if !is_file(&self.args.work, main) {
            return Err(cannot(format!("the main file '{main}' is not in the bucket {}", spec.bucket)));
        }
        let properties = match &spec.properties_file {
            Some(key) if !is_file(&self.args.work, key) => {
                return Err(cannot(format!("the properties file '{key}' is not in the bucket {}", spec.bucket)));
            }
            Some(key) => Some(
                read_text(&self.args.work.join(key))
                    .map_err(|why| cannot(format!("the properties file '{key}' {why}")))?,
            ),
            None => None,
        };
        let properties = properties.as_deref();
        if let Some(text) = properties {
            if let Some(why) = spark::unsupported(text).map_err(|cause| cannot(cause.to_string()))? {
                return Err(cannot(why));
            }
            for name in spark::overridden(text).map_err(|cause| cannot(cause.to_string()))? {
                self.output
                    .say(format!("{name} of the properties file is the platform's to set, and is left out"))
                    .await;
            }
        }
        let packed = spec.environment.as_ref().filter(|key| Form::of(key).is_none());
        if let Some(key) = packed {
            self.unpack_environment(key).await?;
        }
        let jars = self.bring_packages().await?;
        let mut secret = zeroize::Zeroizing::new([0; 32]);
        crypto::random(&mut secret[..]).map_err(|cause| EndReason::Platform { detail: cause.to_string() })?;
        let rpc_secret = zeroize::Zeroizing::new(hex::encode(&secret[..]));
        let context = DriverContext {
            spec,
            engine,
            job_id: id.job,
            access_key: &keys.job.access,
            secret_key: &keys.job.secret,
            region: region.as_str(),
            objects_url: GATE,
            pods_url: PODS,
            rpc_secret: &rpc_secret,
            packed: packed.is_some(),
            jars: &jars,
        };
        let files = spark::conf_files(&context, properties).map_err(|cause| cannot(cause.to_string()))?;
        if !spark::waiting_files(&spec.sizing).iter().all(|read| files.contains(read)) {
            // A JVM that waits has read its options already.
            let containers = Containers::new(self.args.id, &self.args.warden);
            self.waiting.give_up(&containers, &NodeName::driver()).await;
        }
        for file in files {
            write_conf(&self.args.conf, &file).map_err(|cause| EndReason::Platform {
                detail: format!("the configuration file {} cannot be written: {cause}", file.name),
            })?;
        }
        Ok(spark::driver(&context))
    }

    /// Unpacks the job's environment into its configuration, which all of its containers have mounted read-only.
    async fn unpack_environment(&self, key: &str) -> Result<(), EndReason> {
        let cannot = |why: String| EndReason::CannotStart { detail: format!("the environment '{key}' {why}") };
        if !is_file(&self.args.work, key) {
            return Err(cannot(format!("is not in the bucket {}", self.start.spec.bucket)));
        }
        let archive =
            File::open(self.args.work.join(key)).map_err(|cause| cannot(format!("cannot be read: {cause}")))?;
        let target = self.args.conf.join(spark::PACKED);
        let room = self.start.spec.sizing.driver.storage().bytes();
        let unpacking = tokio::task::spawn_blocking(move || {
            make_directory(&target).map_err(|cause| Refused::File { path: target.clone(), cause })?;
            let unpacked = unpack(std::io::BufReader::new(archive), &target, room)?;
            // What it leads to is another file in the containers than here.
            let python = target.join("bin/python").symlink_metadata().is_ok();
            Ok::<_, Refused>((unpacked, python))
        });
        let unpacked = unpacking.await.map_err(|cause| EndReason::Platform { detail: cause.to_string() })?;
        let (unpacked, python) = unpacked.map_err(|why| cannot(why.to_string()))?;
        if !python {
            return Err(cannot("has no bin/python: `conda pack` and `venv-pack` make one that has".into()));
        }
        let (entries, bytes) = (unpacked.entries, unpacked.bytes);
        self.output.say(format!("unpacked {entries} files, {bytes} bytes, from the environment '{key}'")).await;
        Ok(())
    }

    /// Brings what the service made of the job's packages to where all containers find it; the names of JARs.
    async fn bring_packages(&self) -> Result<Vec<String>, EndReason> {
        let Start { environment, keys, region, spec, .. } = &self.start;
        for note in &environment.notes {
            self.output.say(note.as_str()).await;
        }
        let room = spec.sizing.driver.storage().bytes();
        let gate = Gate::new(&keys.platform, region);
        let mut jars = Vec::new();
        for archive in &environment.archives {
            let file = self.args.conf.join("packages.tar.gz");
            let sum = fetch::one(&gate, &BucketName::environments(), &archive.key, &file, room).await?;
            if hex::encode(sum) != archive.sha256 {
                let detail = "the environment is not the one that was made: its archive was changed in the bucket";
                return Err(EndReason::Platform { detail: detail.into() });
            }
            let target = self.args.conf.join(archive.content.directory());
            let unpacking = tokio::task::spawn_blocking(move || {
                let failed = |cause| Refused::File { path: file.clone(), cause };
                make_directory(&target).map_err(failed)?;
                let archive = File::open(&file).map_err(failed)?;
                unpack(std::io::BufReader::new(archive), &target, room)?;
                std::fs::remove_file(&file).map_err(failed)?;
                names_in(&target).map_err(failed)
            });
            let unpacked = unpacking.await.map_err(|cause| EndReason::Platform { detail: cause.to_string() })?;
            let names = unpacked.map_err(|why| match why {
                Refused::File { .. } | Refused::Broken(_) => {
                    EndReason::Platform { detail: format!("the environment {why}") }
                }
                why => EndReason::CannotStart { detail: format!("the environment {why}") },
            })?;
            if archive.content == Content::Jars {
                jars = names;
            }
        }
        Ok(jars)
    }

    /// From the start of the driver to the end of the last container.
    async fn drive(&mut self, launch: Launch, stop: &mut watch::Receiver<Option<Why>>) -> End {
        let spec = &self.start.spec;
        // At most once: what comes after this may be user code, and is never done again.
        if let Err(cause) = self.keeper.save(|state| state.user_code = true).await {
            return end_now(None, (EndReason::Platform { detail: cause.to_string() }, NOT_RUN));
        }
        fail::fail_point!("shim.user_code.durable");
        let containers = Containers::new(self.args.id, &self.args.warden);
        let host = Host::new(spec.sizing);
        let closing = CancellationToken::new();
        let Some(listener) = self.pods.take() else {
            return end_now(None, (EndReason::Platform { detail: "the pods API has no listener".into() }, NOT_RUN));
        };
        let sampler = Sampler::start(self.start.log_key.clone(), &self.args.work).await;
        let api = tokio::spawn(pods::serve(listener, host.clone(), closing.clone()));
        let executors = Executors {
            host,
            containers: containers.clone(),
            waiting: self.waiting.clone(),
            output: self.output.clone(),
            engine: self.start.engine.clone(),
            sizing: spec.sizing,
            region: self.start.region.clone(),
        };
        let executors = tokio::spawn(executors.run(closing.clone()));
        let driver = NodeName::driver();
        let size = spec.sizing.driver;
        let limits = Limits { cores: size.cores, memory: size.total_memory(), storage: size.storage() };
        let begun = tokio::select! {
            biased;
            why = asked(stop) => Err((why.reason(), STOPPED)),
            begun = self.begin(&containers, &driver, launch, limits) => {
                begun.map_err(|why| (EndReason::Platform { detail: why.to_string() }, NOT_RUN))
            }
        };
        let (started, saved, end) = match begun {
            Ok(mut container) => {
                let started = Timestamp::now();
                fail::fail_point!("shim.driver.started");
                let phase = Phase::Running { started };
                self.phases.send_replace(phase.clone());
                let keeper = self.keeper.clone();
                let saved = tokio::spawn(async move { keeper.insist(|state| state.phase = phase).await });
                let end = self.watch(&containers, &mut container, stop).await;
                (Some(started), Some(saved), end)
            }
            Err(end) => {
                // Where a stop came while it was being started, it may live: not any more.
                containers.signal(&driver, StopSignal::Kill).await;
                (None, None, end)
            }
        };
        // What comes now is the platform's own, and is not charged.
        let end = end_now(started, end);
        closing.cancel();
        self.waiting.let_go();
        let others = async {
            let _ = tokio::time::timeout(EXECUTORS_END, executors).await;
            let _ = tokio::time::timeout(EXECUTORS_END, api).await;
            // Executors tell at their end what they have counted.
            sampler.finish().await;
        };
        tokio::join!(others, self.output.drain(&driver, DRAIN));
        if let Some(saved) = saved {
            // So that `Running` is not written after what comes next.
            let _ = saved.await;
        }
        end
    }

    /// Starts the driver, or lets the one that waits become it.
    async fn begin(
        &self,
        containers: &Containers,
        driver: &NodeName,
        launch: Launch,
        limits: Limits,
    ) -> Result<Container, NotStarted> {
        match self.waiting.take(containers, driver, &launch, limits, &self.output).await {
            Some(container) => Ok(container),
            None => containers.start(driver, launch, limits, &self.output).await,
        }
    }

    /// Waits for the driver's end, and brings it about where it is asked for or its time is up.
    async fn watch(
        &self,
        containers: &Containers,
        container: &mut Container,
        stop: &mut watch::Receiver<Option<Why>>,
    ) -> (EndReason, i32) {
        let ttl = async {
            match &self.start.spec.ttl {
                Some(ttl) => tokio::time::sleep(ttl.duration()).await,
                None => std::future::pending().await,
            }
        };
        let why = tokio::select! {
            biased;
            ended = container.ended() => return self.ended(containers, ended).await,
            why = asked(stop) => why,
            () = ttl => Why::TtlPassed,
        };
        self.output.say(format!("{}: the driver is asked to end", why.reason())).await;
        containers.signal(&container.node, StopSignal::Term).await;
        let mut patience = GRACE;
        for _ in 0..KILLS {
            if tokio::time::timeout(patience, container.ended()).await.is_ok() {
                break;
            }
            containers.signal(&container.node, StopSignal::Kill).await;
            patience = KILL_EVERY;
        }
        // If not even that was of use: the monitor kills it once nobody reads its report, and the warden with the
        // sandbox.
        (why.reason(), STOPPED)
    }

    async fn ended(&self, containers: &Containers, ended: Result<warden::ContainerExit, Lost>) -> (EndReason, i32) {
        match ended {
            Ok(exit) => ending::of_driver(&exit, &self.start.spec.sizing.driver),
            Err(Lost) => {
                // It must not run on unseen.
                containers.remove(&NodeName::driver()).await;
                (EndReason::Platform { detail: "what watched over the driver's container ended".into() }, NOT_RUN)
            }
        }
    }
}

/// An end at this moment.
fn end_now(started: Option<Timestamp>, (reason, return_code): (EndReason, i32)) -> End {
    End { reason, return_code, started, ended: Timestamp::now() }
}

/// Waits until the attempt is to stop.
async fn asked(stop: &mut watch::Receiver<Option<Why>>) -> Why {
    match stop.wait_for(Option::is_some).await.map(|why| *why) {
        Ok(Some(why)) => why,
        // The one who could ask is gone: nobody asks any more.
        _ => std::future::pending().await,
    }
}

fn is_file(work: &Path, key: &str) -> bool {
    place_of_file(key).is_some_and(|place| work.join(place).symlink_metadata().is_ok_and(|found| found.is_file()))
}

/// A text file of the job, of a bounded length; else what is wrong with it.
fn read_text(path: &Path) -> Result<String, String> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST_PROPERTIES + 1).read_to_end(&mut text));
    read.map_err(|cause| format!("cannot be read: {cause}"))?;
    if text.len() as u64 > LONGEST_PROPERTIES {
        return Err(format!("is longer than {LONGEST_PROPERTIES} bytes"));
    }
    String::from_utf8(text).map_err(|_| "is not UTF-8".to_owned())
}

/// Names of what is in a directory, in order.
fn names_in(directory: &Path) -> std::io::Result<Vec<String>> {
    let names = std::fs::read_dir(directory)?
        .map(|entry| Ok::<_, std::io::Error>(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// A directory that the job's user can read and not change.
fn make_directory(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// A file that the job's user can read and not change: it belongs to the shim's user, and is mounted read-only.
pub(super) fn write_conf(conf: &Path, new: &ConfFile) -> std::io::Result<()> {
    let mode = new.mode();
    let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(conf.join(new.name))?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(&new.bytes)
}

/// The pods API, as the driver reaches it.
const PODS: &str = "http://127.0.0.1:9001";
const LONGEST_PROPERTIES: u64 = 1024 * 1024;
/// How long a driver has to end by itself once it is asked to.
const GRACE: Duration = Duration::from_secs(15);
const KILL_EVERY: Duration = Duration::from_secs(3);
const KILLS: usize = 6;
/// How long output may still be on its way once its writer has ended.
const DRAIN: Duration = Duration::from_secs(15);
const EXECUTORS_END: Duration = Duration::from_secs(45);
