//! What a node tells of itself and of the cluster: health, INFO, members, replication, options, and a summary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use resp::Reply;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Admin;
use super::error::{ApiError, ErrorBody};
use super::events::Event;
use super::extract::Params;
use crate::config::{Change, Kind, OPTIONS, OptionSpec, allowed_values};
use crate::info::{ProcessFacts, REDRAFT_VERSION, role_name};
use crate::metrics::Metric;
use crate::metrics::histogram::Counts;
use crate::node::{MemberStatus, NodeHandle, NodeStatus, PeerState, Role, SnapshotSent};
use crate::slow_log::SlowCommand;

/// How long a read may take for a node to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(2);
const READY_TIMEOUT_MS_MAX: u64 = 60_000;
/// Entries of the slow log unless told otherwise.
const SLOW_ROWS: usize = 128;
const SLOW_ROWS_MAX: usize = 10_000;

/// Health.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// How long to wait.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadyQuery {
    /// Milliseconds; 2,000 unless told otherwise.
    #[param(minimum = 1, maximum = 60000)]
    timeout_ms: Option<u64>,
}

/// The process is there.
#[utoipa::path(get, path = "/health/live", responses((status = 200, body = Health)))]
pub(super) async fn live() -> Json<Health> {
    Json(Health { status: "live", reason: None })
}

/// The node can serve a linearizable read.
#[utoipa::path(get, path = "/health/ready", params(ReadyQuery),
    responses((status = 200, body = Health), (status = 400, body = ErrorBody), (status = 503, body = Health)))]
pub(super) async fn ready(State(admin): State<Arc<Admin>>, Params(query): Params<ReadyQuery>) -> Result<Response, ApiError> {
    let timeout = match query.timeout_ms {
        None => READY_TIMEOUT,
        Some(ms) if (1..=READY_TIMEOUT_MS_MAX).contains(&ms) => Duration::from_millis(ms),
        Some(_) => return Err(ApiError::bad_request("timeout_ms must be 1 to 60000")),
    };
    let read = admin.run(0, vec![vec![Bytes::from_static(b"REVISION"), Bytes::from_static(b"redraft:health")]]);
    let reason = match tokio::time::timeout(timeout, read).await {
        Ok(Ok(_)) => return Ok(Json(Health { status: "ready", reason: None }).into_response()),
        Ok(Err(error)) => error.message().to_owned(),
        Err(_) => "a read takes too long".to_owned(),
    };
    Ok((StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: "not ready", reason: Some(reason) })).into_response())
}

/// INFO, by section and field.
#[utoipa::path(get, path = "/info", responses((status = 200, body = BTreeMap<String, BTreeMap<String, String>>)))]
pub(super) async fn info(State(admin): State<Arc<Admin>>) -> Json<BTreeMap<String, BTreeMap<String, String>>> {
    let Reply::Text(text) = admin.services.info(&[Bytes::from_static(b"everything")]).await else { unreachable!("INFO answers a text") };
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("# ") {
            section = heading.to_lowercase();
            sections.entry(section.clone()).or_default();
        } else if let Some((name, value)) = line.split_once(':') {
            sections.entry(section.clone()).or_default().insert(name.to_owned(), value.to_owned());
        }
    }
    Json(sections)
}

/// The cluster as this node knows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cluster {
    cluster_id: String,
    /// Who answers.
    node_id: u64,
    term: u64,
    leader_id: Option<u64>,
    replication_factor: usize,
    version: &'static str,
    members: Vec<ClusterMember>,
    /// The last events of this node, newest first.
    events: Vec<Event>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ClusterMember {
    node_id: u64,
    listen: String,
    peer: String,
    admin: String,
    voter: bool,
    /// `leader`, `follower`, `learner` or `candidate`.
    role: &'static str,
    /// What is known to be on its disk; the leader alone knows, elsewhere it is null.
    match_index: Option<u64>,
    /// Entries that are committed and not yet known to be on its disk; null, likewise.
    lag_entries: Option<u64>,
    /// Whether this node is connected to it.
    reachable: bool,
    /// Whether this is who answers.
    #[serde(rename = "self")]
    is_self: bool,
}

/// Members, leader, and what has happened lately.
#[utoipa::path(get, path = "/cluster", responses((status = 200, body = Cluster)))]
pub(super) async fn cluster(State(admin): State<Arc<Admin>>) -> Json<Cluster> {
    let status = admin.services.node().status();
    Json(Cluster {
        cluster_id: status.cluster_id.clone(),
        node_id: status.node_id,
        term: status.term,
        leader_id: status.leader_id,
        replication_factor: admin.services.config().replication_factor,
        version: REDRAFT_VERSION,
        members: status.members.iter().map(|member| cluster_member(admin.services.node(), &status, member)).collect(),
        events: admin.recorder.newest(),
    })
}

fn cluster_member(node: &NodeHandle, status: &NodeStatus, member: &MemberStatus) -> ClusterMember {
    let is_self = member.node_id == status.node_id;
    let match_index = (status.role == Role::Leader).then_some(member.match_index);
    ClusterMember {
        node_id: member.node_id,
        listen: member.listen.clone(),
        peer: member.peer.clone(),
        admin: member.admin.clone(),
        voter: member.voter,
        role: status.role_of(member),
        match_index,
        lag_entries: match_index.map(|index| status.commit_index.saturating_sub(index)),
        reachable: node.is_reachable(member.node_id),
        is_self,
    }
}

/// How replication goes on this node.
#[derive(Debug, Serialize, ToSchema)]
pub struct Replication {
    groups: Vec<GroupReplication>,
}

#[derive(Debug, Serialize, ToSchema)]
struct GroupReplication {
    group: u32,
    role: &'static str,
    term: u64,
    leader_id: Option<u64>,
    commit_index: u64,
    applied_index: u64,
    first_index: u64,
    last_index: u64,
    /// What the leader knows of the others; empty elsewhere.
    peers: Vec<PeerReplication>,
}

#[derive(Debug, Serialize, ToSchema)]
struct PeerReplication {
    node_id: u64,
    match_index: u64,
    next_index: u64,
    /// `probe`, `replicate`, `snapshot` or `unknown`.
    state: &'static str,
    lag_entries: u64,
    /// Bytes of these entries, as far as the log still has them.
    lag_bytes: u64,
    /// For how long it has lacked the oldest entry that it lacks; of more than a minute, a minute.
    lag_seconds: f64,
    /// Whether it answered within the last election timeout.
    active: bool,
    /// Of a snapshot that is being sent to it: the part that was sent, from 0 to 1, and in bytes.
    snapshot_progress: Option<f64>,
    snapshot_sent_bytes: Option<u64>,
    snapshot_total_bytes: Option<u64>,
}

/// Raft's view of each group.
#[utoipa::path(get, path = "/debug/replication", responses((status = 200, body = Replication)))]
pub(super) async fn replication(State(admin): State<Arc<Admin>>) -> Json<Replication> {
    let status = admin.services.node().status();
    let history = admin.recorder.history();
    let others = status.members.iter().filter(|member| status.role == Role::Leader && member.node_id != status.node_id);
    let peer = |member: &MemberStatus| PeerReplication {
        node_id: member.node_id,
        match_index: member.match_index,
        next_index: member.next_index,
        state: match member.state {
            PeerState::Probe => "probe",
            PeerState::Replicate => "replicate",
            PeerState::Snapshot => "snapshot",
            PeerState::Unknown => "unknown",
        },
        lag_entries: status.last_index.saturating_sub(member.match_index),
        lag_seconds: history.behind(member.match_index).as_secs_f64(),
        active: member.active,
        lag_bytes: member.lag_bytes,
        snapshot_progress: member.snapshot.map(SnapshotSent::progress),
        snapshot_sent_bytes: member.snapshot.map(|snapshot| snapshot.sent_bytes),
        snapshot_total_bytes: member.snapshot.map(|snapshot| snapshot.total_bytes),
    };
    let group = GroupReplication {
        group: crate::node::core::GROUP.0,
        role: role_name(status.role),
        term: status.term,
        leader_id: status.leader_id,
        commit_index: status.commit_index,
        applied_index: status.applied_index,
        first_index: status.first_index,
        last_index: status.last_index,
        peers: others.map(peer).collect(),
    };
    Json(Replication { groups: vec![group] })
}

/// An option.
#[derive(Debug, Serialize, ToSchema)]
pub struct OptionRow {
    name: &'static str,
    value: String,
    default: &'static str,
    /// Bounds and unit.
    values: String,
    text: &'static str,
    /// Whether CONFIG SET changes it.
    changeable: bool,
    /// Whether its value is never shown.
    secret: bool,
}

/// All options with their values; secrets are not shown.
#[utoipa::path(get, path = "/debug/config", responses((status = 200, body = Vec<OptionRow>)))]
pub(super) async fn config(State(admin): State<Arc<Admin>>) -> Json<Vec<OptionRow>> {
    let values: BTreeMap<&str, String> = admin.services.config().runtime.get(b"*").into_iter().collect();
    let row = |spec: &'static OptionSpec| OptionRow {
        name: spec.name,
        value: values.get(spec.name).cloned().unwrap_or_default(),
        default: spec.default,
        values: allowed_values(&spec.kind),
        text: spec.text,
        changeable: spec.change == Change::AtRunTime,
        secret: spec.kind == Kind::Secret,
    };
    Json(OPTIONS.iter().map(row).collect())
}

/// A summary.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stats {
    /// By database, those that have keys.
    keys: BTreeMap<String, KeyCounts>,
    /// Commands of this node in the last ten seconds.
    ops_per_second: f64,
    commands_processed: u64,
    connected_clients: u64,
    memory_bytes: u64,
    uptime_seconds: f64,
    /// Of this node's commands in the last ten seconds.
    latency_ms: Latencies,
}

#[derive(Debug, Serialize, ToSchema)]
struct KeyCounts {
    keys: u64,
    expires: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct Latencies {
    read: Quantiles,
    write: Quantiles,
}

/// Null without any command.
#[derive(Debug, Serialize, ToSchema)]
struct Quantiles {
    p50: Option<f64>,
    p99: Option<f64>,
    p999: Option<f64>,
}

/// Keys, commands, clients, memory, latencies.
#[utoipa::path(get, path = "/stats", responses((status = 200, body = Stats)))]
pub(super) async fn stats(State(admin): State<Arc<Admin>>) -> Json<Stats> {
    let services = &admin.services;
    let counts = services.keyspace_counts().await;
    let keys = counts.iter().enumerate().filter(|(_, (keys, _))| *keys > 0);
    let metrics = services.metrics();
    let ([reads, writes], length) = admin.recorder.recent();
    let quantiles = |counts: &Counts| {
        let quantile = |part| counts.quantile(part).map(|microseconds| microseconds / 1000.0);
        Quantiles { p50: quantile(0.5), p99: quantile(0.99), p999: quantile(0.999) }
    };
    Json(Stats {
        keys: keys.map(|(db, (keys, expires))| (db.to_string(), KeyCounts { keys: *keys, expires: *expires })).collect(),
        ops_per_second: (reads.total() + writes.total()) as f64 / length.as_secs_f64().max(0.1),
        commands_processed: metrics.get(Metric::TotalCommandsProcessed),
        connected_clients: metrics.get(Metric::ConnectedClients),
        memory_bytes: ProcessFacts::now().await.resident_bytes,
        uptime_seconds: services.server().started.elapsed().as_secs_f64(),
        latency_ms: Latencies { read: quantiles(&reads), write: quantiles(&writes) },
    })
}

/// How many entries of the slow log.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SlowQuery {
    /// The newest so many; 128 unless told otherwise.
    #[param(maximum = 10000)]
    count: Option<usize>,
}

/// A command that took long.
#[derive(Debug, Serialize, ToSchema)]
pub struct SlowRow {
    id: u64,
    /// When it was answered, in milliseconds since the Unix epoch.
    time_ms: u64,
    duration_us: u64,
    /// The command's name.
    command: String,
    /// How many arguments it had, the name included.
    arguments: usize,
    /// Their bytes.
    bytes: usize,
    /// Where it came from.
    client: String,
}

/// The slow log, newest first, without keys and values.
#[utoipa::path(get, path = "/debug/slowlog", params(SlowQuery),
    responses((status = 200, body = Vec<SlowRow>), (status = 400, body = ErrorBody)))]
pub(super) async fn slow_log(State(admin): State<Arc<Admin>>, Params(query): Params<SlowQuery>) -> Result<Json<Vec<SlowRow>>, ApiError> {
    let count = query.count.unwrap_or(SLOW_ROWS);
    if count > SLOW_ROWS_MAX {
        return Err(ApiError::bad_request("count must be at most 10000"));
    }
    let row = |entry: SlowCommand| SlowRow {
        id: entry.id,
        time_ms: u64::try_from(entry.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
        duration_us: u64::try_from(entry.took.as_micros()).unwrap_or(u64::MAX),
        // The name has been found in the table, so it is no secret.
        command: entry.args.first().map_or_else(String::new, |name| String::from_utf8_lossy(name).to_lowercase()),
        arguments: entry.arguments,
        bytes: entry.bytes,
        client: entry.client.0,
    };
    Ok(Json(admin.services.slow_log().newest(count).into_iter().map(row).collect()))
}
