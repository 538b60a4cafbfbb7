//! Executors: each pod that Spark wishes for becomes a container, and what becomes of that is told to Spark.

use std::{collections::HashMap, sync::Arc, time::Duration};

use engine::{
    Installed,
    pods::{Effect, GRACE_SECONDS, PodWish},
    spark,
};
use model::{NodeName, Region, Sizing};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use warden::{ContainerExit, StopSignal};

use super::{
    containers::{Container, Containers, Limits, Lost},
    ending::{self, STOPPED},
    gate::GATE,
    output::Output,
    pods::Host,
    waiting::Waiting,
};

/// What executors are started with.
#[derive(Clone)]
pub struct Executors {
    /// Where Spark wishes and is told.
    pub host: Arc<Host>,
    /// Where they run.
    pub containers: Containers,
    /// Those that wait already.
    pub waiting: Waiting,
    /// Their log.
    pub output: Output,
    /// Their engine.
    pub engine: Installed,
    /// The most that they may have.
    pub sizing: Sizing,
    /// The region that they sign for.
    pub region: Region,
}

impl Executors {
    /// Does what Spark wishes until `closing`; returns once all executors have ended then.
    pub async fn run(self, closing: CancellationToken) {
        let mut executors: JoinSet<String> = JoinSet::new();
        let mut stops: HashMap<String, CancellationToken> = HashMap::new();
        loop {
            tokio::select! {
                () = closing.cancelled() => break,
                effects = self.host.effects() => for effect in effects {
                    match effect {
                        Effect::Start(wish) => {
                            let stop = closing.child_token();
                            stops.insert(wish.name.clone(), stop.clone());
                            executors.spawn(self.clone().live(wish, stop, closing.clone()));
                        }
                        Effect::Stop { name, .. } => if let Some(stop) = stops.get(&name) { stop.cancel() },
                    }
                },
                Some(ended) = executors.join_next(), if !executors.is_empty() => {
                    if let Ok(name) = ended { stops.remove(&name); }
                }
            }
        }
        while executors.join_next().await.is_some() {}
    }

    /// One executor from start to end; gives its pod's name back.
    async fn live(self, wish: PodWish, stop: CancellationToken, closing: CancellationToken) -> String {
        let node = NodeName::executor(wish.executor);
        let launch = spark::executor(&wish, &self.engine, &self.sizing, self.region.as_str(), GATE);
        let limits = Limits { cores: wish.cores, memory: wish.memory, storage: self.sizing.executor.storage() };
        let started = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            started = async {
                match self.waiting.take(&self.containers, &node, &launch, limits, &self.output).await {
                    Some(container) => Ok(container),
                    None => self.containers.start(&node, launch, limits, &self.output).await,
                }
            } => Some(started),
        };
        match started {
            // It may be on its way to be started: it is removed whatever it is.
            None => self.host.ended(&wish.name, STOPPED, None),
            Some(Err(why)) => {
                self.output.say(why.to_string()).await;
                self.host.ended(&wish.name, ending::NOT_RUN, Some("StartError"));
            }
            Some(Ok(container)) => {
                self.host.started(&wish.name);
                self.follow(&wish, container, &stop, &closing).await;
            }
        }
        // At the end of the job the whole sandbox goes.
        if !closing.is_cancelled() {
            self.containers.remove(&node).await;
        }
        wish.name
    }

    async fn follow(
        &self,
        wish: &PodWish,
        mut container: Container,
        stop: &CancellationToken,
        closing: &CancellationToken,
    ) {
        let node = container.node.clone();
        let ended = self.end_of(&mut container, stop, closing).await;
        // Its pipes are closed by now, or will be: the monitor ends a container whose report nobody reads.
        drop(container);
        let patience = if closing.is_cancelled() { Duration::from_secs(5) } else { Duration::from_secs(15) };
        self.output.drain(&node, patience).await;
        match ended {
            Ok(exit) => {
                let end = ending::of_executor(&node, &exit, &self.sizing.executor, stop.is_cancelled());
                if let Some(line) = end.line {
                    self.output.say(line).await;
                }
                self.host.ended(&wish.name, end.code, end.reason);
            }
            Err(Lost) => {
                self.output.say(format!("{node} was lost")).await;
                self.host.ended(&wish.name, 137, Some("Error"));
            }
        }
    }

    /// Waits for the end; once it is to stop, politely, then by force.
    async fn end_of(
        &self,
        container: &mut Container,
        stop: &CancellationToken,
        closing: &CancellationToken,
    ) -> Result<ContainerExit, Lost> {
        tokio::select! {
            ended = container.ended() => return ended,
            () = stop.cancelled() => {}
        }
        let node = container.node.clone();
        self.containers.signal(&node, StopSignal::Term).await;
        let polite = Instant::now() + Duration::from_secs(GRACE_SECONDS);
        tokio::select! {
            ended = container.ended() => return ended,
            () = tokio::time::sleep_until(polite) => {}
            // Nothing waits for its results any more; only its last words count.
            () = async { closing.cancelled().await; tokio::time::sleep(LAST_WORDS).await } => {}
        }
        for _ in 0..KILLS {
            self.containers.signal(&node, StopSignal::Kill).await;
            if let Ok(ended) = tokio::time::timeout(KILL_EVERY, container.ended()).await {
                return ended;
            }
        }
        Err(Lost)
    }
}

const LAST_WORDS: Duration = Duration::from_millis(1500);
const KILL_EVERY: Duration = Duration::from_secs(3);
const KILLS: usize = 5;
