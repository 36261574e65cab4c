//! The metrics for Prometheus, in the OpenMetrics text format. All of them are computed when they are asked for: from the table of metrics,
//! from the node's status, from what the engines tell, and from what the kernel tells of the process.
//! Label values are ids of nodes and groups, names of commands, databases, engines and levels, and the first words of error texts: never a key or a value.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use raftlog::engine::Figure;

use super::Admin;
use super::events::History;
use crate::info::{ProcessFacts, REDRAFT_VERSION};
use crate::metrics::histogram::{Counts, Unit};
use crate::metrics::{CommandCounts, DISTRIBUTIONS, METRICS, MetricKind, MetricSpec, Scope};
use crate::node::core::GROUP;
use crate::node::{NodeStatus, Role};

/// The type of the format.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The `command` of those that are in no table. The rules relate errors to commands, so both have it.
const UNKNOWN_COMMAND: &str = "unknown";

/// All metrics.
#[utoipa::path(get, path = "/metrics",
    responses((status = 200, description = "The OpenMetrics text format", content_type = "application/openmetrics-text", body = String)))]
pub(super) async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let services = &admin.services;
    let node = services.node().clone();
    // A question to RocksDB may wait for a lock of its own.
    let mut figures = tokio::task::spawn_blocking(move || node.figures()).await.unwrap_or_default();
    figures.sort_by_key(|(_, figure)| figure.name);
    let metrics = services.metrics();
    let moment = Moment {
        values: METRICS.iter().map(|spec| metrics.get(spec.metric)).collect(),
        distributions: DISTRIBUTIONS.iter().map(|spec| metrics.distribution(spec.distribution).counts()).collect(),
        commands: metrics.commands(),
        unknown_commands: metrics.unknown_commands(),
        errors: metrics.errors(),
        status: services.node().status(),
        databases: services.keyspace_counts().await,
        disk_is_full: services.node().disk_is_full(),
        figures,
        process: ProcessFacts::now().await,
        history: admin.recorder.history(),
        started_seconds: services.server().started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
    };
    let mut registry = Registry::with_prefix("redraft");
    registry.register_collector(Box::new(moment));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes everything");
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

/// Everything at one moment.
#[derive(Debug)]
struct Moment {
    /// In the order of `METRICS`.
    values: Vec<u64>,
    /// In the order of `DISTRIBUTIONS`.
    distributions: Vec<Counts>,
    commands: Vec<CommandCounts>,
    unknown_commands: u64,
    errors: Vec<(String, u64)>,
    status: Arc<NodeStatus>,
    databases: Vec<(u64, u64)>,
    disk_is_full: bool,
    /// With the database; those of one name stand together.
    figures: Vec<(&'static str, Figure)>,
    process: ProcessFacts,
    history: History,
    started_seconds: f64,
}

type Labels<'a> = Vec<(&'a str, String)>;

/// What all metrics of a Raft group have. There is one group; its metrics have the label so that those of more can be told apart.
fn group_labels<'a>() -> impl Iterator<Item = (&'a str, String)> {
    [("group", GROUP.0.to_string())].into_iter()
}

/// Rows of one name.
struct Family<'a> {
    name: &'a str,
    text: &'a str,
    rows: Vec<(Labels<'a>, f64)>,
}

impl<'a> Family<'a> {
    fn one(name: &'a str, text: &'a str, value: f64) -> Self {
        Self { name, text, rows: vec![(Vec::new(), value)] }
    }

    /// A row about the one group that there is.
    fn of_group(name: &'a str, text: &'a str, value: f64) -> Self {
        Self { name, text, rows: vec![(group_labels().collect(), value)] }
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>, kind: MetricKind) -> fmt::Result {
        let metric_type = match kind {
            MetricKind::Counter => MetricType::Counter,
            MetricKind::Gauge => MetricType::Gauge,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.text.trim_end_matches('.'), None, metric_type)?;
        for (labels, value) in &self.rows {
            if labels.is_empty() {
                encode_value(&mut metric, *value, kind)?;
            } else {
                encode_value(&mut metric.encode_family(labels)?, *value, kind)?;
            }
        }
        Ok(())
    }
}

fn encode_value(row: &mut MetricEncoder<'_>, value: f64, kind: MetricKind) -> fmt::Result {
    match kind {
        MetricKind::Counter => row.encode_counter::<NoLabelSet, _, f64>(&value, None),
        MetricKind::Gauge => row.encode_gauge(&value),
    }
}

fn encode_counts(metric: &mut MetricEncoder<'_>, counts: &Counts, labels: &Labels<'_>) -> fmt::Result {
    // To divide yields the number next to the bound, as it is written; to multiply by 1e-6, which is none itself, would not.
    let parts = match counts.unit() {
        Unit::Microseconds | Unit::CoarseMicroseconds => 1e6,
        Unit::Things => 1.0,
    };
    let buckets: Vec<_> = counts.buckets().map(|(bound, count)| (bound.map_or(f64::MAX, |bound| bound as f64 / parts), count)).collect();
    let (sum, total) = (counts.sum as f64 / parts, counts.total());
    if labels.is_empty() {
        metric.encode_histogram::<NoLabelSet>(sum, total, &buckets, None)
    } else {
        metric.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, total, &buckets, None)
    }
}

impl Collector for Moment {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for specs in METRICS.chunk_by(|one, other| one.exported == other.exported) {
            let labels = |spec: &MetricSpec| {
                let own = spec.label.iter().map(|(name, value)| (*name, (*value).to_owned()));
                match spec.scope {
                    Scope::Node => own.collect(),
                    Scope::Group => group_labels().chain(own).collect(),
                }
            };
            let rows = specs.iter().map(|spec| (labels(spec), self.values[spec.metric as usize] as f64)).collect();
            Family { name: specs[0].exported, text: specs[0].text, rows }.encode(&mut encoder, specs[0].kind)?;
        }
        self.encode_distributions(&mut encoder)?;
        for family in self.counters() {
            family.encode(&mut encoder, MetricKind::Counter)?;
        }
        for family in self.gauges() {
            family.encode(&mut encoder, MetricKind::Gauge)?;
        }
        self.encode_figures(&mut encoder)
    }
}

impl Moment {
    fn encode_distributions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let rows = || DISTRIBUTIONS.iter().zip(&self.distributions);
        let mut names: Vec<_> = DISTRIBUTIONS.iter().map(|spec| (spec.exported, spec.text)).collect();
        names.dedup();
        for (name, text) in names {
            let mut metric = encoder.encode_descriptor(name, text.trim_end_matches('.'), None, MetricType::Histogram)?;
            for (spec, counts) in rows().filter(|(spec, _)| spec.exported == name) {
                let labels: Labels<'_> = spec.class.iter().map(|class| ("class", (*class).to_owned())).collect();
                encode_counts(&mut metric, counts, &labels)?;
            }
        }
        let text = "Times from when a command was read to its reply, by command and a few bounds";
        let mut metric = encoder.encode_descriptor("command_times_seconds", text, None, MetricType::Histogram)?;
        for command in self.commands.iter().filter(|command| command.times.total() > 0) {
            encode_counts(&mut metric, &command.times, &vec![("command", command.name.clone())])?;
        }
        Ok(())
    }

    fn counters(&self) -> Vec<Family<'_>> {
        let by_command = |count: fn(&CommandCounts) -> u64| {
            self.commands.iter().map(move |command| (vec![("command", command.name.clone())], count(command) as f64))
        };
        let unknown = vec![("command", UNKNOWN_COMMAND.to_owned())];
        let executed = by_command(|command| command.calls).chain([(unknown.clone(), 0.0)]);
        let errors = [("rejected", (|command| command.rejected) as fn(&CommandCounts) -> u64), ("failed", |command| command.failed)];
        let errors = errors.into_iter().flat_map(|(kind, count)| {
            by_command(count).map(move |(mut labels, value)| {
                labels.push(("kind", kind.to_owned()));
                (labels, value)
            })
        });
        let unknown = unknown.into_iter().chain([("kind", "rejected".to_owned())]).collect();
        let errors = errors.chain([(unknown, self.unknown_commands as f64)]);
        let prefixes = self.errors.iter().map(|(prefix, count)| (vec![("prefix", prefix.clone())], *count as f64));
        vec![
            Family { name: "commands", text: "Commands executed", rows: executed.collect() },
            Family { name: "command_errors", text: "Commands refused before, or failed in, their execution", rows: errors.collect() },
            Family { name: "error_replies", text: "Error replies by their first word", rows: prefixes.collect() },
            Family::one("process_cpu_seconds", "Processor time of the process", self.process.user_seconds + self.process.system_seconds),
        ]
    }

    fn gauges(&self) -> Vec<Family<'_>> {
        let status = &self.status;
        let flag = |is_set: bool| f64::from(u8::from(is_set));
        let peer = |node_id: u64| group_labels().chain([("peer", node_id.to_string())]).collect::<Labels<'_>>();
        let of_kind = |voter| status.members.iter().filter(|member| member.voter == voter).count() as f64;
        let kinds = [("voter", of_kind(true)), ("learner", of_kind(false))];
        let others = status.members.iter().filter(|member| status.role == Role::Leader && member.node_id != status.node_id);
        let lag = others.clone().map(|member| (peer(member.node_id), status.last_index.saturating_sub(member.match_index) as f64));
        let lag_bytes = others.clone().map(|member| (peer(member.node_id), member.lag_bytes as f64));
        let snapshots = others.clone().filter_map(|member| member.snapshot.map(|snapshot| (peer(member.node_id), snapshot)));
        let lag_seconds = others.map(|member| (peer(member.node_id), self.history.behind(member.match_index).as_secs_f64()));
        let by_database = |count: fn(&(u64, u64)) -> u64| {
            let databases = self.databases.iter().enumerate().filter(|(db, (keys, _))| *db == 0 || *keys > 0);
            databases.map(move |(db, counts)| (vec![("db", db.to_string())], count(counts) as f64)).collect()
        };
        let labels = vec![("version", REDRAFT_VERSION.to_owned()), ("node_id", status.node_id.to_string())];
        vec![
            Family { name: "up_info", text: "Which node this is, and of which version", rows: vec![(labels, 1.0)] },
            Family::of_group("raft_term", "Current term", status.term as f64),
            Family::of_group("raft_is_leader", "Whether this node leads", flag(status.role == Role::Leader)),
            Family::of_group("raft_has_leader", "Whether this node knows a leader", flag(status.leader_id.is_some())),
            Family::of_group("raft_commit_index", "Highest index known to be committed", status.commit_index as f64),
            Family::of_group("raft_applied_index", "Highest index applied", status.applied_index as f64),
            Family::of_group("raft_log_entries", "Entries in the log", (status.last_index + 1).saturating_sub(status.first_index) as f64),
            Family {
                name: "raft_members",
                text: "Members of the group",
                rows: kinds.map(|(kind, count)| (group_labels().chain([("kind", kind.to_owned())]).collect(), count)).to_vec(),
            },
            Family {
                name: "replication_lag_entries",
                text: "Entries that a peer is known to lack, as the leader sees it",
                rows: lag.collect(),
            },
            Family {
                name: "replication_lag_bytes",
                text: "Bytes of these entries, as far as the log of the leader still has them",
                rows: lag_bytes.collect(),
            },
            Family {
                name: "snapshot_sent_bytes",
                text: "Bytes that were sent of a Raft snapshot which is on its way to a peer",
                rows: snapshots.clone().map(|(labels, snapshot)| (labels, snapshot.sent_bytes as f64)).collect(),
            },
            Family {
                name: "snapshot_total_bytes",
                text: "Bytes of a Raft snapshot which is on its way to a peer",
                rows: snapshots.map(|(labels, snapshot)| (labels, snapshot.total_bytes as f64)).collect(),
            },
            Family {
                name: "replication_lag_seconds",
                text: "For how long a peer has lacked the oldest entry that it lacks",
                rows: lag_seconds.collect(),
            },
            Family::one("disk_is_full", "Whether commands that add data are refused for want of room", flag(self.disk_is_full)),
            Family { name: "keys", text: "Keys", rows: by_database(|(keys, _)| *keys) },
            Family { name: "keys_with_ttl", text: "Keys with a deadline", rows: by_database(|(_, expires)| *expires) },
            Family::one("process_resident_memory_bytes", "Resident memory", self.process.resident_bytes as f64),
            Family::one("process_open_fds", "Open file descriptors", self.process.open_files as f64),
            Family::one("process_start_time_seconds", "When the process began to serve, since the Unix epoch", self.started_seconds),
        ]
    }

    /// What the engine tells; names come one after the other.
    fn encode_figures(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for figures in self.figures.chunk_by(|(_, one), (_, other)| one.name == other.name) {
            let rows = figures.iter().map(|(db, figure)| {
                let labels = [("db", (*db).to_owned())].into_iter().chain(figure.labels.iter().cloned());
                (labels.collect(), figure.value)
            });
            let (_, first) = &figures[0];
            let family = Family { name: first.name, text: first.text, rows: rows.collect() };
            family.encode(encoder, if first.rises { MetricKind::Counter } else { MetricKind::Gauge })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::histogram::Histogram;

    #[derive(Debug)]
    struct Alone(Counts);

    impl Collector for Alone {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            encode_counts(&mut encoder.encode_descriptor("a", "a", None, MetricType::Histogram)?, &self.0, &Vec::new())
        }
    }

    fn labels(unit: Unit) -> Vec<String> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Alone(Histogram::new(unit).counts())));
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes everything");
        let label = |line: &str| Some(line.split_once("le=\"")?.1.split_once('"')?.0.to_owned());
        text.lines().filter_map(label).collect()
    }

    #[test]
    fn bounds_of_buckets_are_round_numbers() {
        assert_eq!(labels(Unit::CoarseMicroseconds), ["0.0001", "0.001", "0.005", "0.025", "0.1", "1.0", "+Inf"]);
        let fine = labels(Unit::Microseconds);
        assert!(["0.00015", "0.07", "0.3", "0.7", "10.0"].iter().all(|bound| fine.iter().any(|label| label == bound)), "{fine:?}");
        assert!(fine.iter().all(|label| label.len() <= "0.000015".len()), "{fine:?}");
        assert_eq!(labels(Unit::Things)[..3], ["1.0", "2.0", "4.0"]);
    }
}
