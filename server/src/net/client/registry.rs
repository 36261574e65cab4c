//! The clients of this node: who is connected, what CLIENT LIST shows of them, and how to reach them from outside their task.
//! A connection's task owns the connection; here stands what others may see and the two things they may ask of it: to be killed, and to
//! drain (answer what was read, then close). CLIENT PAUSE is kept here too, since it concerns all of them.
//! Invariant: a client is in the map from its acceptance until its task ends. Ids rise from 1 and are never used again.
//! Locks are held for a few lines and never across `.await`. Times are milliseconds since the registry was made.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use resp::Protocol;
use tokio::sync::Notify;

use crate::command::CommandSpec;
use crate::command::catalogue::full_name;
use crate::command::node_command::{ClientFilter, ClientSelection, ClientType, PauseMode, Switch};

/// What CLIENT LIST shows of a client and changes during its life. The connection's task writes it, others read it.
#[derive(Clone, Debug, Default)]
pub struct ClientView {
    /// Its name; empty for none.
    pub name: Bytes,
    /// Name of its library.
    pub lib_name: Bytes,
    /// Version of its library.
    pub lib_version: Bytes,
    /// Selected database.
    pub db: u8,
    /// Protocol it speaks.
    pub protocol: Protocol,
    /// Row of its last command.
    pub command: Option<&'static CommandSpec>,
    /// Bytes read and not yet executed.
    pub query_bytes: usize,
    /// Bytes of replies not yet written.
    pub output_bytes: usize,
    /// When it last sent something.
    pub active_ms: u64,
    /// Whether it sent READONLY.
    pub readonly: bool,
    /// Whether it is to be closed when its replies are written.
    pub closing: bool,
    /// Whether it set CLIENT NO-EVICT.
    pub no_evict: bool,
    /// Whether it set CLIENT NO-TOUCH.
    pub no_touch: bool,
}

/// One client.
pub struct Client {
    /// Its id.
    pub id: u64,
    address: SocketAddr,
    local_address: SocketAddr,
    /// Number of its socket.
    descriptor: i32,
    connected_ms: u64,
    view: Mutex<ClientView>,
    /// Whether a command of it is being executed or waits: it is not idle then.
    busy: AtomicBool,
    /// Whether it waits in WAIT or CLIENT PAUSE.
    blocked: AtomicBool,
    killed: AtomicBool,
    draining: AtomicBool,
    /// Told after `killed` or `draining` was set.
    signal: Notify,
}

/// What the task of a connection is asked from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// To close at once.
    Kill,
    /// To answer what was read, then close.
    Drain,
}

/// A pause that CLIENT PAUSE began.
#[derive(Clone, Copy)]
struct Pause {
    until: Instant,
    mode: PauseMode,
}

/// All clients of the node.
pub struct Registry {
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
    last_id: AtomicU64,
    started: Instant,
    /// Told when the last client has gone.
    empty: Notify,
    pause: Mutex<Option<Pause>>,
    /// The mode of `pause` for a look without the lock: 0 none, 1 writes, 2 all. May tell of a pause that is over.
    pause_mode: AtomicU8,
    /// Told when the pause changes.
    pause_changed: Notify,
}

impl Client {
    /// What CLIENT LIST shows, to read or change.
    pub fn view(&self) -> MutexGuard<'_, ClientView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it connected from, and the name it gave itself.
    pub fn named_address(&self) -> (String, Bytes) {
        (self.address.to_string(), self.view().name.clone())
    }

    /// Whether the connection was asked to end.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Asks the client's task to close the connection at once.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.signal.notify_one();
    }

    /// Asks the client's task to answer what was read, then close.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.signal.notify_one();
    }

    /// The strongest thing that was asked so far.
    #[must_use]
    pub fn asked(&self) -> Option<Signal> {
        if self.killed.load(Ordering::Acquire) {
            Some(Signal::Kill)
        } else if self.draining.load(Ordering::Acquire) {
            Some(Signal::Drain)
        } else {
            None
        }
    }

    /// Waits until something more may have been asked.
    pub async fn signalled(&self) {
        self.signal.notified().await;
    }

    /// Notes that a command is being executed, or none.
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// Notes that the client waits in WAIT or CLIENT PAUSE, or does not.
    pub fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    fn line(&self, now_ms: u64) -> String {
        let view = self.view();
        let seconds = |since_ms: u64| now_ms.saturating_sub(since_ms) / 1_000;
        let facts = LineFacts {
            id: self.id,
            address: self.address,
            local_address: self.local_address,
            descriptor: self.descriptor,
            age_seconds: seconds(self.connected_ms),
            idle_seconds: seconds(view.active_ms),
            blocked: self.blocked.load(Ordering::Relaxed),
        };
        line(&facts, &view)
    }
}

impl Registry {
    /// Without clients.
    #[must_use]
    pub fn new() -> Self {
        Self {
            clients: Mutex::default(),
            last_id: AtomicU64::new(0),
            started: Instant::now(),
            empty: Notify::new(),
            pause: Mutex::new(None),
            pause_mode: AtomicU8::new(0),
            pause_changed: Notify::new(),
        }
    }

    /// Milliseconds since the registry was made.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Enters a client.
    pub fn enter(&self, address: SocketAddr, local_address: SocketAddr, descriptor: i32) -> Arc<Client> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let now_ms = self.now_ms();
        let client = Arc::new(Client {
            id,
            address,
            local_address,
            descriptor,
            connected_ms: now_ms,
            view: Mutex::new(ClientView { active_ms: now_ms, ..ClientView::default() }),
            busy: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            signal: Notify::new(),
        });
        self.clients().insert(id, Arc::clone(&client));
        client
    }

    /// Takes a client out.
    pub fn leave(&self, client: &Client) {
        let mut clients = self.clients();
        clients.remove(&client.id);
        if clients.is_empty() {
            self.empty.notify_waiters();
        }
    }

    /// How many clients there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.clients().len()
    }

    /// How many clients wait in WAIT or CLIENT PAUSE.
    #[must_use]
    pub fn blocked(&self) -> usize {
        self.clients().values().filter(|client| client.blocked.load(Ordering::Relaxed)).count()
    }

    /// Largest query buffer and largest output buffer of all clients, in bytes.
    #[must_use]
    pub fn largest_buffers(&self) -> (usize, usize) {
        self.clients().values().fold((0, 0), |(query, output), client| {
            let view = client.view();
            (query.max(view.query_bytes), output.max(view.output_bytes))
        })
    }

    /// Asks every client to drain, and waits until all have gone.
    pub async fn drain(&self) {
        let gone = self.empty.notified();
        tokio::pin!(gone);
        // Registered before the look, so that the last client cannot go unnoticed in between.
        gone.as_mut().enable();
        {
            let clients = self.clients();
            if clients.is_empty() {
                return;
            }
            for client in clients.values() {
                client.drain();
            }
        }
        gone.await;
    }

    /// Kills the clients that have been idle for longer than this.
    pub fn kill_idle(&self, timeout: Duration) {
        let now_ms = self.now_ms();
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        for client in self.clients().values().filter(|client| !client.busy.load(Ordering::Relaxed)) {
            if now_ms.saturating_sub(client.view().active_ms) > timeout_ms {
                tracing::debug!(client = client.id, "closing an idle client");
                client.kill();
            }
        }
    }

    /// The lines of CLIENT LIST.
    #[must_use]
    pub fn list(&self, selection: &ClientSelection) -> String {
        let now_ms = self.now_ms();
        let clients = self.clients();
        let lines = |clients: &mut dyn Iterator<Item = &Arc<Client>>| clients.map(|client| client.line(now_ms) + "\n").collect::<String>();
        match selection {
            ClientSelection::All | ClientSelection::Type(ClientType::Normal) => lines(&mut clients.values()),
            ClientSelection::Type(ClientType::Master | ClientType::Replica | ClientType::PubSub) => String::new(),
            ClientSelection::Ids(ids) => lines(&mut ids.iter().filter_map(|id| clients.get(id))),
        }
    }

    /// The clients that CLIENT KILL's filters hit.
    #[must_use]
    pub fn select(&self, filter: &ClientFilter, asking: u64) -> Vec<Arc<Client>> {
        let hit = |client: &&Arc<Client>| {
            filter.id.is_none_or(|id| id == client.id)
                && filter.address.as_ref().is_none_or(|address| *address == client.address.to_string())
                && filter.local_address.as_ref().is_none_or(|address| *address == client.local_address.to_string())
                && filter.client_type.is_none_or(|kind| kind == ClientType::Normal)
                && (filter.skip_me == Switch::Off || client.id != asking)
        };
        self.clients().values().filter(hit).cloned().collect()
    }

    /// Begins a pause, or prolongs the present one: it never becomes shorter or weaker.
    pub fn pause(&self, duration: Duration, mode: PauseMode) {
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // Beyond any process's life; `Instant` has an end.
        let until = now.checked_add(duration).unwrap_or_else(|| now + Duration::from_secs(u64::from(u32::MAX)));
        let present = pause.filter(|pause| pause.until > now);
        let (until, mode) = present.map_or((until, mode), |present| (until.max(present.until), mode.max(present.mode)));
        *pause = Some(Pause { until, mode });
        self.pause_mode.store(if mode == PauseMode::All { 2 } else { 1 }, Ordering::Release);
    }

    /// Ends the pause.
    pub fn unpause(&self) {
        *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.pause_mode.store(0, Ordering::Release);
        self.pause_changed.notify_waiters();
    }

    /// Whether a command has to wait. `writes`: whether it goes through the log.
    #[must_use]
    pub fn is_paused(&self, writes: Switch) -> bool {
        self.pause_mode.load(Ordering::Acquire) != 0 && self.pause_end(writes).is_some()
    }

    /// Waits until a command may go on.
    pub async fn pause_over(&self, writes: Switch) {
        loop {
            let changed = self.pause_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let Some(until) = self.pause_end(writes) else { return };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }

    fn pause_end(&self, writes: Switch) -> Option<Instant> {
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        if pause.is_some_and(|pause| pause.until <= Instant::now()) {
            *pause = None;
            self.pause_mode.store(0, Ordering::Release);
        }
        pause.filter(|pause| pause.mode == PauseMode::All || writes == Switch::On).map(|pause| pause.until)
    }

    fn clients(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

/// What a line of CLIENT LIST shows besides the view.
struct LineFacts {
    id: u64,
    address: SocketAddr,
    local_address: SocketAddr,
    descriptor: i32,
    age_seconds: u64,
    idle_seconds: u64,
    blocked: bool,
}

/// A line of CLIENT LIST as Redis 7.2 writes it. Sizes that have no counterpart here are 0.
fn line(facts: &LineFacts, view: &ClientView) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut flags = String::new();
    for (set, letter) in [(facts.blocked, 'b'), (view.readonly, 'r'), (view.closing, 'c'), (view.no_evict, 'e'), (view.no_touch, 'T')] {
        if set {
            flags.push(letter);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub=0 psub=0 ssub=0 multi=-1 qbuf={} qbuf-free=0 argv-mem=0 \
         multi-mem=0 rbs={} rbp={} obl={} oll=0 omem=0 tot-mem={} events={} cmd={} user=default redir=-1 resp={} lib-name={} lib-ver={}",
        facts.id,
        facts.address,
        facts.local_address,
        facts.descriptor,
        text(&view.name),
        facts.age_seconds,
        facts.idle_seconds,
        flags,
        view.db,
        view.query_bytes,
        view.output_bytes,
        view.output_bytes,
        view.output_bytes,
        view.query_bytes + view.output_bytes + size_of::<Client>(),
        if view.output_bytes > 0 { "rw" } else { "r" },
        view.command.map_or("NULL", full_name),
        if view.protocol == Protocol::Resp3 { 3 } else { 2 },
        text(&view.lib_name),
        text(&view.lib_version),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn line_has_the_fields_of_redis() {
        let facts = LineFacts {
            id: 7,
            address: address(5000),
            local_address: address(6379),
            descriptor: 9,
            age_seconds: 12,
            idle_seconds: 3,
            blocked: false,
        };
        let mut view =
            ClientView { name: "app".into(), db: 4, lib_name: "redis-py".into(), lib_version: "5.0".into(), ..ClientView::default() };
        view.command = table::lookup(b"get");
        let expected = format!(
            "id=7 addr=127.0.0.1:5000 laddr=127.0.0.1:6379 fd=9 name=app age=12 idle=3 flags=N db=4 sub=0 psub=0 ssub=0 multi=-1 qbuf=0 \
             qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem={} events=r cmd=get user=default redir=-1 resp=2 \
             lib-name=redis-py lib-ver=5.0",
            size_of::<Client>(),
        );
        assert_eq!(line(&facts, &view), expected);
        view = ClientView { readonly: true, no_evict: true, no_touch: true, protocol: Protocol::Resp3, output_bytes: 1, ..view };
        let line = line(&LineFacts { blocked: true, ..facts }, &view);
        assert!(line.contains(" flags=breT ") && line.contains(" resp=3 ") && line.contains(" events=rw "), "{line}");
    }

    #[test]
    fn filters_select_clients() {
        let registry = Registry::new();
        for port in [1, 2, 3] {
            registry.enter(address(port), address(6379), 0);
        }
        let none = ClientFilter { id: None, address: None, local_address: None, client_type: None, user: None, skip_me: Switch::On };
        let check = |filter: ClientFilter, expected: &[u64]| {
            let ids: Vec<_> = registry.select(&filter, 2).iter().map(|client| client.id).collect();
            assert_eq!(ids, expected, "{filter:?}");
        };
        check(none.clone(), &[1, 3]);
        check(ClientFilter { skip_me: Switch::Off, ..none.clone() }, &[1, 2, 3]);
        check(ClientFilter { id: Some(3), ..none.clone() }, &[3]);
        check(ClientFilter { id: Some(2), ..none.clone() }, &[]);
        check(ClientFilter { address: Some("127.0.0.1:1".into()), ..none.clone() }, &[1]);
        check(ClientFilter { local_address: Some("127.0.0.1:6379".into()), id: Some(1), ..none.clone() }, &[1]);
        check(ClientFilter { local_address: Some("127.0.0.1:1".into()), ..none.clone() }, &[]);
        check(ClientFilter { client_type: Some(ClientType::PubSub), ..none.clone() }, &[]);
        check(ClientFilter { client_type: Some(ClientType::Normal), user: Some("default".into()), ..none }, &[1, 3]);
    }

    #[test]
    fn list_selects_by_type_and_id() {
        let registry = Registry::new();
        for port in [1, 2, 3] {
            registry.enter(address(port), address(6379), 0);
        }
        let ids = |selection| {
            let list = registry.list(&selection);
            list.lines().map(|line| line.split(' ').next().map(str::to_owned)).collect::<Option<Vec<_>>>().expect("lines have words")
        };
        assert_eq!(ids(ClientSelection::All), ["id=1", "id=2", "id=3"]);
        assert_eq!(ids(ClientSelection::Type(ClientType::Normal)), ["id=1", "id=2", "id=3"]);
        assert_eq!(ids(ClientSelection::Type(ClientType::Replica)), Vec::<String>::new());
        assert_eq!(ids(ClientSelection::Ids(vec![3, 9, 1])), ["id=3", "id=1"]);
    }

    #[test]
    fn idle_clients_are_killed_unless_busy() {
        let registry = Registry::new();
        let (idle, busy, fresh) = (
            registry.enter(address(1), address(0), 0),
            registry.enter(address(2), address(0), 0),
            registry.enter(address(3), address(0), 0),
        );
        for client in [&idle, &busy] {
            client.view().active_ms = 0;
        }
        busy.set_busy(true);
        fresh.view().active_ms = u64::MAX;
        while registry.now_ms() < 2 {
            std::thread::yield_now();
        }
        registry.kill_idle(Duration::from_millis(1));
        assert_eq!([idle.asked(), busy.asked(), fresh.asked()], [Some(Signal::Kill), None, None]);
    }

    #[test]
    fn a_pause_never_becomes_weaker_or_shorter() {
        let registry = Registry::new();
        assert!(!registry.is_paused(Switch::On));
        registry.pause(Duration::from_secs(60), PauseMode::Write);
        assert!(registry.is_paused(Switch::On) && !registry.is_paused(Switch::Off));
        registry.pause(Duration::ZERO, PauseMode::All);
        assert!(registry.is_paused(Switch::On) && registry.is_paused(Switch::Off));
        registry.pause(Duration::ZERO, PauseMode::Write);
        assert!(registry.is_paused(Switch::Off));
        registry.unpause();
        assert!(!registry.is_paused(Switch::On));
        registry.pause(Duration::ZERO, PauseMode::All);
        assert!(!registry.is_paused(Switch::On));
    }

    #[tokio::test]
    async fn drain_returns_when_the_last_client_has_gone() {
        let registry = Arc::new(Registry::new());
        registry.drain().await;
        let client = registry.enter(address(1), address(0), 0);
        let leaver = tokio::spawn({
            let (registry, client) = (Arc::clone(&registry), Arc::clone(&client));
            async move {
                client.signalled().await;
                assert_eq!(client.asked(), Some(Signal::Drain));
                registry.leave(&client);
            }
        });
        registry.drain().await;
        leaver.await.expect("the task does not panic");
    }
}
