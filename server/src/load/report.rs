//! What a run found, as a table for people and as JSON for programs, and whether it is worth anything.
//! Throughput and latencies are of commands that were answered without an error. Scripts rely on the names in the JSON.

use std::fmt::Write;
use std::time::Instant;

use serde_json::{Value, json};

use super::collector::{Ending, Outcome, Window};
use super::histogram;
use super::options::{LoadOptions, Test};
use super::tally::{Tally, Texts};
use super::{Distribution, LoadError};

/// A run and its figures.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) options: LoadOptions,
    pub(super) outcome: Outcome,
}

impl Report {
    /// Whether the run did what it was to do.
    /// # Errors
    /// No command succeeded, or keys that were to be filled are missing.
    pub(super) fn verdict(&self) -> Result<(), LoadError> {
        let tally = &self.outcome.tally;
        let missing = self.options.keys.saturating_sub(tally.succeeded);
        if tally.succeeded == 0 && self.outcome.ending != Ending::Interrupted {
            let texts = [&tally.errors, &tally.refused, &tally.broken].map(|texts| texts.iter().next().map(|(text, _)| text.to_owned()));
            let text = texts.into_iter().flatten().next();
            return Err(LoadError::NothingSucceeded(text.unwrap_or_else(|| self.ending().to_owned())));
        }
        if self.options.test == Test::Fill && missing > 0 {
            return Err(LoadError::FillIncomplete(missing));
        }
        Ok(())
    }

    /// The report for people.
    pub(super) fn table(&self) -> String {
        let (outcome, tally) = (&self.outcome, &self.outcome.tally);
        let mut text = format!("{}\n{}\n{}\n\n", self.subject(), self.loop_text(), self.ending());
        let mut row = |name: &str, value: String| writeln!(text, "{name:<22} {value:>12}").expect("a string grows as needed");
        row("commands", tally.succeeded.to_string());
        row("seconds", format!("{:.2}", outcome.length.as_secs_f64()));
        row("commands/s", format!("{:.0}", self.per_second()));
        row("found nothing", tally.nulls.to_string());
        row("error replies", tally.errors.total().to_string());
        row("without a reply", tally.unanswered().to_string());
        row("due and never sent", outcome.unsent.to_string());
        row("broken connections", tally.broken.total().to_string());
        row("refused connections", tally.refused.total().to_string());
        for (text_of, count) in tally.errors.iter().chain(tally.broken.iter()).chain(tally.refused.iter()) {
            writeln!(text, "{count:>12} times: {text_of}").expect("a string grows as needed");
        }
        let figures = latency(tally);
        let line = |cells: Vec<String>| cells.iter().map(|cell| format!("{cell:>10}")).collect::<String>();
        let names = line(figures.iter().map(|(name, _)| (*name).to_owned()).collect());
        let values = line(figures.iter().map(|(_, value)| format!("{value:.3}")).collect());
        write!(text, "\n{:<12}{names}\n{:<12}{values}\n\n", "latency, ms", "").expect("a string grows as needed");
        text + &histogram::text(&histogram::lines(&tally.latency))
    }

    /// The report for programs.
    pub(super) fn json(&self) -> Value {
        let (options, outcome, tally) = (&self.options, &self.outcome, &self.outcome.tally);
        let texts = |texts: &Texts| texts.iter().map(|(text, count)| (text.to_owned(), json!(count))).collect::<serde_json::Map<_, _>>();
        let figures: serde_json::Map<_, _> = latency(tally).iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let lines = histogram::lines(&tally.latency);
        let lines = lines.iter().map(|line| json!({ "up_to_ms": line.up_to_us as f64 / 1e3, "commands": line.commands }));
        json!({
            "options": {
                "addresses": options.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "test": options.test.name(),
                "reads_percent": options.reads_percent(),
                "connections": options.connections,
                "pipeline": options.pipeline,
                "keys": options.keys,
                "key_bytes": options.key_bytes,
                "value_bytes": options.value_bytes,
                "distribution": distribution(options.distribution),
                "rate": options.rate,
                "threads": options.threads,
                "seed": options.seed,
                "warmup_seconds": options.warmup,
            },
            "ending": self.ending(),
            "commands": tally.succeeded,
            "seconds": outcome.length.as_secs_f64(),
            "per_second": self.per_second(),
            "nulls": tally.nulls,
            "sent": tally.sent,
            "unanswered": tally.unanswered(),
            "unsent": outcome.unsent,
            "warmup_commands": tally.warmup,
            "errors": texts(&tally.errors),
            "broken_connections": texts(&tally.broken),
            "refused_connections": texts(&tally.refused),
            "latency_ms": figures,
            "histogram": lines.collect::<Vec<_>>(),
            "timeline": outcome.windows.iter().map(|window| self.window(window)).collect::<Vec<_>>(),
        })
    }

    fn window(&self, window: &Window) -> Value {
        let outcome = &self.outcome;
        let seconds = |moment: Instant| moment.saturating_duration_since(outcome.counted_from).as_secs_f64();
        let length = (window.to - window.from).as_secs_f64();
        json!({
            "from": seconds(window.from),
            "to": seconds(window.to),
            "commands": window.commands,
            "per_second": window.commands as f64 / length,
            "errors": window.errors,
            "p99_ms": window.p99_ms,
            "max_ms": window.max_ms,
            "probe_late_ms": outcome.oversleeps.longest(window.from, window.to).as_secs_f64() * 1e3,
        })
    }

    fn per_second(&self) -> f64 {
        // A run that was interrupted at once has no length.
        self.outcome.tally.succeeded as f64 / self.outcome.length.as_secs_f64().max(1e-6)
    }

    fn subject(&self) -> String {
        let options = &self.options;
        let test = match options.test {
            Test::Mixed => format!("mixed ({} % reads)", options.reads_percent()),
            test => test.name().to_owned(),
        };
        let values = if matches!(options.test, Test::Get | Test::Incr) {
            String::new()
        } else {
            format!(", values of {} bytes", options.value_bytes)
        };
        let (keys, distribution) = (options.keys, distribution(options.distribution));
        format!("{test}, {} connections, pipelines of {}, {keys} keys ({distribution}){values}", options.connections, options.pipeline)
    }

    fn loop_text(&self) -> String {
        match self.options.rate {
            Some(rate) => format!("open loop: {rate} commands/s are due, and latencies count from when they were"),
            None => {
                "closed loop: a connection sends when it was answered, so a pause of the server delays few commands; see --rate".to_owned()
            }
        }
    }

    fn ending(&self) -> &'static str {
        match self.outcome.ending {
            Ending::Complete => "complete",
            Ending::Late => "ended before all that was due was answered",
            Ending::Silent => "ended because no reply came any more",
            Ending::Interrupted => "interrupted",
        }
    }
}

fn distribution(distribution: Distribution) -> &'static str {
    match distribution {
        Distribution::Uniform => "uniform",
        Distribution::Zipfian => "zipfian",
    }
}

/// The figures of a latency, in milliseconds.
fn latency(tally: &Tally) -> [(&'static str, f64); 6] {
    let quantile = |quantile| tally.quantile_ms(quantile);
    [
        ("mean", tally.latency.mean() / 1e3),
        ("p50", quantile(0.5)),
        ("p90", quantile(0.9)),
        ("p99", quantile(0.99)),
        ("p99.9", quantile(0.999)),
        ("max", tally.max_ms()),
    ]
}
