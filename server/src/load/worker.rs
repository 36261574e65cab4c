//! One thread of the generator: opens its connections, waits for the start, and drives them until they are through or it is told to stop.
//! What it has to tell goes to the collector as events, what it counts into its tally. `Phase` is the collector's word to all workers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::Builder;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use super::LoadError;
use super::connection::{Connection, Pace, Route};
use super::options::LoadOptions;
use super::pacer::Pacer;
use super::tally::SharedTally;
use super::timing::{Budget, Schedule, Timing};
use super::workload::{Generator, Workload};
use crate::config::Secret;

/// Connections that a worker opens at the same time, so that it does not overrun the server's queue of those that wait to be accepted.
const OPENING_MAX: usize = 64;

/// What all workers do.
#[derive(Debug)]
pub(super) struct Plan {
    addresses: Arc<[SocketAddr]>,
    password: Option<Secret>,
    connections: u32,
    threads: u32,
    pipeline: u32,
    seed: u64,
    pub(super) rate: Option<u64>,
    workload: Arc<Workload>,
    budget: Arc<Budget>,
}

/// What the collector wants of the workers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// To open their connections.
    Opening,
    /// To send.
    Running(Timing),
    /// To end.
    Stopped,
}

/// What a worker tells.
#[derive(Debug)]
pub(super) enum Event {
    /// Its connections are open.
    Ready,
    /// It has ended because nothing is due any more, or as it was told.
    Through,
    /// It has ended because it cannot go on.
    Failed(LoadError),
}

impl Plan {
    pub(super) fn new(options: &LoadOptions, addresses: Vec<SocketAddr>, password: Option<Secret>) -> Plan {
        Plan {
            addresses: addresses.into(),
            password,
            connections: options.connections,
            // A thread without a connection has nothing to do.
            threads: options.threads.min(options.connections),
            pipeline: options.pipeline,
            seed: options.seed,
            rate: options.rate,
            workload: Arc::new(Workload::new(options)),
            budget: Arc::new(Budget::new(options.extent())),
        }
    }

    pub(super) fn threads(&self) -> u32 {
        self.threads
    }

    /// When pipelines are due, if there is a rate.
    pub(super) fn schedule(&self, timing: &Timing) -> Option<Schedule> {
        self.rate.map(|rate| Schedule::new(timing.start, self.connections, self.pipeline, rate))
    }

    fn route(&self, connection: u32) -> Route {
        Route { addresses: Arc::clone(&self.addresses), place: connection as usize, password: self.password.clone() }
    }

    /// The connections of a worker, by rising number.
    fn connections_of(&self, worker: u32) -> Vec<u32> {
        (worker..self.connections).step_by(self.threads as usize).collect()
    }
}

/// One thread.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) number: u32,
    pub(super) plan: Arc<Plan>,
    pub(super) tally: SharedTally,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) events: mpsc::Sender<Event>,
}

impl Worker {
    /// Starts the thread.
    /// # Errors
    /// The system gives none.
    pub(super) fn start(self) -> Result<JoinHandle<()>, LoadError> {
        let failed = |what| move |cause| LoadError::System { what, cause };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed("a runtime"))?;
        let thread = thread::Builder::new().name(format!("load-{}", self.number));
        thread.spawn(move || runtime.block_on(self.run())).map_err(failed("a thread"))
    }

    async fn run(mut self) {
        let last = match self.work().await {
            Ok(()) => Event::Through,
            Err(error) => Event::Failed(error),
        };
        self.tell(last).await;
    }

    async fn work(&mut self) -> Result<(), LoadError> {
        let connections = self.open().await?;
        self.tell(Event::Ready).await;
        let phase = self.phase.wait_for(|phase| !matches!(phase, Phase::Opening)).await;
        let timing = match phase.map(|phase| *phase) {
            Ok(Phase::Running(timing)) => timing,
            // A collector that is gone wants no load, either.
            Ok(Phase::Opening | Phase::Stopped) | Err(_) => return Ok(()),
        };
        let mut sleepers = Vec::new();
        let mut running = JoinSet::new();
        let schedule = self.plan.schedule(&timing);
        for (number, connection) in connections {
            let pace = match schedule {
                None => Pace::Closed,
                Some(schedule) => {
                    let wake = Arc::new(Notify::new());
                    sleepers.push((number, Arc::clone(&wake)));
                    Pace::Open { schedule, wake }
                }
            };
            running.spawn(connection.run(timing, pace, Arc::clone(&self.plan.budget), self.tally.clone()));
        }
        let pacer = schedule.map(|schedule| Pacer::new(schedule, sleepers)).transpose().map_err(timer_failed)?;
        let paced = async {
            match pacer {
                Some(pacer) => pacer.run().await,
                None => std::future::pending().await,
            }
        };
        // What is still running when this ends is dropped with the set.
        tokio::select! {
            () = async { while running.join_next().await.is_some() {} } => Ok(()),
            _ = self.phase.wait_for(|phase| matches!(phase, Phase::Stopped)) => Ok(()),
            outcome = paced => outcome.map_err(timer_failed),
        }
    }

    /// Opens all connections, some at a time.
    async fn open(&self) -> Result<Vec<(u32, Connection)>, LoadError> {
        let mut connections = Vec::new();
        for numbers in self.plan.connections_of(self.number).chunks(OPENING_MAX) {
            let mut opening = JoinSet::new();
            for number in numbers {
                let (plan, number) = (Arc::clone(&self.plan), *number);
                opening.spawn(async move {
                    let route = plan.route(number);
                    let failed = |cause| LoadError::Connect { address: route.address(), cause };
                    let stream = route.connect().await.map_err(failed)?;
                    let generator = Generator::new(Arc::clone(&plan.workload), plan.seed, number);
                    Ok::<_, LoadError>((number, Connection::new(number, route, plan.pipeline, generator, stream)))
                });
            }
            for opened in opening.join_all().await {
                connections.push(opened?);
            }
        }
        connections.sort_unstable_by_key(|(number, _)| *number);
        Ok(connections)
    }

    async fn tell(&self, event: Event) {
        // A collector that is gone needs no news.
        drop(self.events.send(event).await);
    }
}

fn timer_failed(cause: io::Error) -> LoadError {
    LoadError::System { what: "a timer", cause }
}
