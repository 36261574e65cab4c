//! Adds up what the workers count while they work, tells how it goes, and ends the run.
//! Time is cut into windows, of the timeline's length or a second; a window ends when the collector takes the tallies, so a window in which
//! the machine stood still is longer than the others, and says so.
//! A run ends when all workers are through; when they do not come through soon after the last command was due; when no reply has come for a
//! minute; or at SIGINT. In every case there is an outcome.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::signal::ctrl_c;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval_at};

use super::LoadError;
use super::options::{Extent, LoadOptions};
use super::probe::{Oversleeps, Probe};
use super::tally::{SharedTally, Tally};
use super::timing::Timing;
use super::worker::{Event, Phase, Plan, Worker};

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);
/// How long what was due may take after the last command was due.
const GRACE: Duration = Duration::from_secs(10);
/// A run without any reply for so long is over, and longer where pipelines are due less often.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Windows that are kept: almost three hours of tenths of a second.
const WINDOWS_MAX: usize = 100_000;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All that was due was sent and answered, or was given up with its connection.
    Complete,
    /// What was due was not answered soon after the end.
    Late,
    /// There was no reply any more.
    Silent,
    /// Somebody wanted it.
    Interrupted,
}

/// What a window had.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) from: Instant,
    pub(super) to: Instant,
    /// Commands without an error.
    pub(super) commands: u64,
    /// Error replies.
    pub(super) errors: u64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

/// What a run found.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) tally: Tally,
    /// When counting began, and for how long it went on: until the end, and longer if replies came later.
    pub(super) counted_from: Instant,
    pub(super) length: Duration,
    pub(super) ending: Ending,
    /// Commands that should have been sent and were not.
    pub(super) unsent: u64,
    /// The first ones, if a timeline was wanted.
    pub(super) windows: Vec<Window>,
    pub(super) oversleeps: Oversleeps,
}

/// Runs the load.
/// # Errors
/// It could not begin, or a worker could not go on.
pub(super) fn collect(options: &LoadOptions, plan: Plan) -> Result<Outcome, LoadError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|cause| LoadError::System { what: "a runtime", cause })?;
    runtime.block_on(run(options, Arc::new(plan)))
}

async fn run(options: &LoadOptions, plan: Arc<Plan>) -> Result<Outcome, LoadError> {
    let (phase, observed) = watch::channel(Phase::Opening);
    let (sender, mut events) = mpsc::channel(2 * plan.threads() as usize);
    let mut tallies = Vec::new();
    for number in 0..plan.threads() {
        let tally = SharedTally::new();
        tallies.push(tally.clone());
        Worker { number, plan: Arc::clone(&plan), tally, phase: observed.clone(), events: sender.clone() }.start()?;
    }
    for _ in &tallies {
        match events.recv().await.expect("this function has a sender") {
            Event::Ready => {}
            Event::Failed(error) => return Err(error),
            Event::Through => unreachable!("a worker is ready before it is through"),
        }
    }
    let probe = options.timeline.map(|_| Probe::start()).transpose()?;
    let timing = Timing::new(Instant::now(), Duration::from_secs(options.warmup), options.extent());
    phase.send_replace(Phase::Running(timing));
    let mut collector = Collector::new(options, timing, tallies);
    collector.follow(&phase, &mut events).await?;
    Ok(collector.outcome(&plan, probe.map(Probe::stop).unwrap_or_default()))
}

#[derive(Debug)]
struct Collector<'a> {
    options: &'a LoadOptions,
    timing: Timing,
    tallies: Vec<SharedTally>,
    total: Tally,
    windows: Vec<Window>,
    /// When the present window began.
    window_from: Instant,
    /// What was counted since progress was last told, and when that was.
    progress: Tally,
    progress_from: Instant,
    silence_max: Duration,
    /// Why the workers were told to stop, and when.
    stopped: Option<(Ending, Instant)>,
}

impl<'a> Collector<'a> {
    fn new(options: &'a LoadOptions, timing: Timing, tallies: Vec<SharedTally>) -> Collector<'a> {
        let between = options.rate.map_or(0.0, |rate| f64::from(options.pipeline) / rate as f64);
        Collector {
            options,
            timing,
            tallies,
            total: Tally::new(),
            windows: Vec::new(),
            window_from: timing.start,
            progress: Tally::new(),
            progress_from: timing.start,
            silence_max: SILENCE_MAX + Duration::from_secs_f64(between),
            stopped: None,
        }
    }

    /// Takes the tallies in time, until all workers have ended.
    async fn follow(&mut self, phase: &watch::Sender<Phase>, events: &mut mpsc::Receiver<Event>) -> Result<(), LoadError> {
        let window = self.options.timeline.map_or(PROGRESS, Duration::from_millis);
        let mut ticks = interval_at((self.timing.start + window).into(), window);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut interrupt = pin!(ctrl_c());
        let mut running = self.tallies.len();
        while running > 0 {
            let stop = tokio::select! {
                _ = ticks.tick() => self.tick(),
                event = events.recv() => match event.expect("the caller has a sender") {
                    Event::Through => { running -= 1; None }
                    Event::Failed(error) => return Err(error),
                    Event::Ready => unreachable!("all workers were ready before"),
                },
                _ = &mut interrupt, if self.stopped.is_none() => Some(Ending::Interrupted),
            };
            if let Some(ending) = stop.filter(|_| self.stopped.is_none()) {
                self.stopped = Some((ending, Instant::now()));
                phase.send_replace(Phase::Stopped);
            }
        }
        self.close_window(Instant::now());
        Ok(())
    }

    /// What is to be done now and then. Returns whether it is time to stop, and why.
    fn tick(&mut self) -> Option<Ending> {
        let now = Instant::now();
        self.close_window(now);
        if now - self.progress_from >= PROGRESS {
            self.tell_progress(now);
        }
        let last_reply = self.total.last_reply.unwrap_or(self.timing.start);
        if self.timing.end.is_some_and(|end| now > end + GRACE) {
            Some(Ending::Late)
        } else if now.saturating_duration_since(last_reply) > self.silence_max {
            Some(Ending::Silent)
        } else {
            None
        }
    }

    fn close_window(&mut self, now: Instant) {
        let mut window = Tally::new();
        self.tallies.iter().for_each(|tally| window.add(&tally.take()));
        // Nothing counts in the warm-up, so a window that reaches into it begins where it ends.
        let from = self.window_from.max(self.timing.counted_from);
        if self.options.timeline.is_some() && now > from && self.windows.len() < WINDOWS_MAX {
            self.windows.push(Window {
                from,
                to: now,
                commands: window.succeeded,
                errors: window.errors.total(),
                p99_ms: window.quantile_ms(0.99),
                max_ms: window.max_ms(),
            });
        }
        self.window_from = now;
        self.total.add(&window);
        self.progress.add(&window);
    }

    fn tell_progress(&mut self, now: Instant) {
        let told = std::mem::replace(&mut self.progress, Tally::new());
        let seconds = (now - std::mem::replace(&mut self.progress_from, now)).as_secs_f64();
        if self.options.quiet {
            return;
        }
        let passed = (now - self.timing.start).as_secs();
        if now <= self.timing.counted_from {
            eprintln!("{passed:>4} s  {:>9.0} commands/s  warm-up", told.warmup as f64 / seconds);
            return;
        }
        let rate = told.succeeded as f64 / seconds;
        let problems = told.errors.total() + told.broken.total() + told.refused.total();
        eprintln!("{passed:>4} s  {rate:>9.0} commands/s  p99 {:>8.3} ms  errors {problems}", told.quantile_ms(0.99));
    }

    fn outcome(self, plan: &Plan, oversleeps: Oversleeps) -> Outcome {
        let Timing { counted_from, end, .. } = self.timing;
        let stopped = self.stopped.map(|(_, moment)| moment);
        // When the last command was due, or would have been.
        let due_until = [end, stopped].into_iter().flatten().min();
        let last_reply = self.total.last_reply.unwrap_or(counted_from);
        let length = due_until.map_or(last_reply, |until| until.max(last_reply)).saturating_duration_since(counted_from);
        let scheduled = plan.schedule(&self.timing).zip(due_until).map(|(schedule, until)| {
            // What was due in the warm-up was due before.
            schedule.commands_due(until).saturating_sub(schedule.commands_due(counted_from))
        });
        let due = match (self.options.extent(), scheduled) {
            (Extent::Commands(commands), scheduled) => scheduled.map_or(commands, |due| due.min(commands)),
            (Extent::Time(_), Some(due)) => due,
            (Extent::Time(_), None) => self.total.sent,
        };
        Outcome {
            unsent: due.saturating_sub(self.total.sent),
            ending: self.stopped.map_or(Ending::Complete, |(ending, _)| ending),
            tally: self.total,
            counted_from,
            length,
            windows: self.windows,
            oversleeps,
        }
    }
}
