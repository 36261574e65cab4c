//! Whether what clients saw can be explained by one order of all commands, each at one instant between its call and its return.
//! `check` judges histories of single keys, each key by itself: a history is linearizable exactly when each of its keys is (Herlihy and
//! Wing, 1990). `multi` judges small histories of commands on several keys at once. Both use `search`; `register` knows Redis's commands,
//! `reads` makes use of values that are unique.
//! Expiry is modelled with a tolerance: a deadline is the time at which the operation that set it took effect, plus its time to live,
//! give or take `Limits::expiry_tolerance_ns`, for clocks of nodes that differ from each other and from the client's. Between the two ends a
//! key may be seen alive or gone; gone stays gone. The campaign states the tolerance, according to the faults it makes.
//! What one client calls at one instant is a pipeline: its operations take effect in the order of their returns.
//! 'Could not decide' is a failure like a violation. A violation is told as a short history (`minimal`) that is drawn (`timeline`).
//! Values written as `<...>`, all different and of one length per key, keep the search short however many outcomes are unknown.

mod history;
mod minimal;
pub mod multi;
mod reads;
mod register;
mod search;
#[cfg(test)]
mod tests;
mod timeline;

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display, Formatter};
use std::path::{Path, PathBuf};
use std::{error, fs, io};

use bytes::Bytes;

pub use history::{Command, Operation, Outcome, Recorded};
pub use search::Span;

use minimal::{Case, beginning, minimise};
use register::Register;
use search::{Judgement, Verdict, search};
use timeline::{Bar, Mark, Timeline};

/// Operations shown of a history that could not be decided: the last ones up to where the search came.
const UNDECIDED_SHOWN: usize = 40;

/// How a history is judged.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How much earlier or later than by the client's clock a key may expire.
    pub expiry_tolerance_ns: u64,
    /// Configurations that a search may enter, per key; beyond, the key counts as undecided. A million take some hundred megabytes.
    pub configurations_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { expiry_tolerance_ns: 0, configurations_max: 1_000_000 }
    }
}

/// What was found linearizable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Keys judged.
    pub keys: usize,
    /// Operations on them.
    pub operations: usize,
    /// Configurations entered, about one per operation while few operations meet.
    pub configurations: u64,
}

/// Why a history was refused.
#[derive(Clone, PartialEq, Eq)]
pub enum Violation<O = Operation> {
    /// There is no order.
    NotLinearizable {
        /// The key whose history it is.
        key: Bytes,
        /// A part of its history that has no order, as short as could be found; in the order of calls.
        history: Vec<O>,
        /// The operation of `history` whose return no order gets beyond: all that returned earlier have one, together with it they have none.
        stuck: usize,
        /// What the key can have held after all that returned earlier.
        states: Vec<String>,
        /// Operations that are left out and changed something: there is no order, whether and whenever they took effect.
        hidden: usize,
    },
    /// The search reached its limit.
    Undecided {
        /// The key whose history it is.
        key: Bytes,
        /// The last operations before the one that the search did not get beyond; in the order of calls.
        history: Vec<O>,
        /// The one that it did not get beyond, if it is among these.
        stuck: Option<usize>,
        /// Configurations that were entered.
        configurations: u64,
    },
}

/// Judges a history of single keys, in any order. No operation returns before it is called.
/// # Errors
/// The history of a key is not linearizable, or could not be decided.
pub fn check(history: &[Operation], limits: &Limits) -> Result<Summary, Violation> {
    let mut keys: BTreeMap<&Bytes, Vec<Operation>> = BTreeMap::new();
    for operation in history {
        keys.entry(&operation.key).or_default().push(operation.clone());
    }
    let mut summary = Summary { keys: keys.len(), operations: history.len(), configurations: 0 };
    for (key, operations) in keys {
        summary.configurations += judge(key, &operations, limits.configurations_max, |operations, configurations_max| {
            let register = Register::new(operations, limits.expiry_tolerance_ns);
            search(&register, &spans(operations), &pipelined(operations), configurations_max)
        })?;
    }
    Ok(summary)
}

/// Judges operations that have to be ordered together, and shortens what has no order. Returns how many configurations were entered.
/// `decide` is given a history, and how many configurations it may enter.
fn judge<O: Recorded>(
    key: &Bytes,
    operations: &[O],
    configurations_max: u64,
    decide: impl Fn(&[O], u64) -> Judgement,
) -> Result<u64, Violation<O>> {
    let Judgement { verdict, configurations } = decide(operations, configurations_max);
    let (Verdict::Contradiction { stuck, .. } | Verdict::Undecided { stuck }) = verdict else { return Ok(configurations) };
    let shown = beginning(operations, stuck);
    let stuck = shown.iter().position(|operation| operation.span() == operations[stuck].span()).expect("it returned by then");
    let key = key.clone();
    Err(if let Verdict::Contradiction { states, .. } = verdict {
        let Case { shown, hidden, stuck, states } = minimise(Case { shown, hidden: Vec::new(), stuck, states }, decide);
        Violation::NotLinearizable { key, history: shown, stuck, states, hidden: hidden.len() }
    } else {
        let from = shown.len().saturating_sub(UNDECIDED_SHOWN);
        Violation::Undecided { key, history: shown[from..].to_vec(), stuck: stuck.checked_sub(from), configurations }
    })
}

fn spans<O: Recorded>(operations: &[O]) -> Vec<Span> {
    operations.iter().map(Recorded::span).collect()
}

/// For each operation the one before it in its pipeline, if there is one. What has no outcome has no place in the order: it may never have
/// taken effect, or late.
fn pipelined<O: Recorded>(operations: &[O]) -> Vec<Option<usize>> {
    let place = |(at, operation): (usize, &O)| {
        let Span { call_ns, return_ns } = operation.span();
        Some(((operation.client(), call_ns), return_ns?, at))
    };
    let mut returned: Vec<_> = operations.iter().enumerate().filter_map(place).collect();
    returned.sort_unstable();
    let mut before = vec![None; operations.len()];
    for pair in returned.windows(2) {
        let ((pipeline, return_ns, at), (next_pipeline, next_return_ns, next)) = (pair[0], pair[1]);
        if pipeline == next_pipeline && return_ns < next_return_ns {
            before[next] = Some(at);
        }
    }
    before
}

impl<O: Recorded> Violation<O> {
    /// The history as text.
    #[must_use]
    pub fn timeline(&self) -> String {
        self.drawing().text()
    }

    /// The history as an HTML page that needs nothing else.
    #[must_use]
    pub fn html(&self) -> String {
        self.drawing().html()
    }

    /// Writes both into a directory, named by the key.
    /// # Errors
    /// The directory or a file cannot be written.
    pub fn write_to(&self, dir: &Path) -> io::Result<[PathBuf; 2]> {
        fs::create_dir_all(dir)?;
        let named = |byte: &u8| if byte.is_ascii_alphanumeric() { char::from(*byte) } else { '-' };
        let name: String = self.key().iter().map(named).collect();
        let paths = ["txt", "html"].map(|extension| dir.join(format!("not-linearizable-{name}.{extension}")));
        fs::write(&paths[0], self.timeline())?;
        fs::write(&paths[1], self.html())?;
        Ok(paths)
    }

    fn key(&self) -> &Bytes {
        match self {
            Self::NotLinearizable { key, .. } | Self::Undecided { key, .. } => key,
        }
    }

    fn drawing(&self) -> Timeline {
        let key = history::quoted(self.key());
        let (title, history, stuck) = match self {
            Self::NotLinearizable { history, stuck, .. } => (format!("{key}: no order explains these outcomes"), history, Some(*stuck)),
            Self::Undecided { history, stuck, .. } => (format!("{key}: could not decide whether there is an order"), history, *stuck),
        };
        let notes = match self {
            Self::NotLinearizable { states, hidden, .. } => vec![
                format!("All that returned earlier than the one without a place has an order; the key then held {}.", states.join(" or ")),
                format!("Left out: what changed nothing, and {hidden} operations that make no order possible, whenever they took effect."),
            ],
            Self::Undecided { configurations, .. } => vec![format!("Gave up after {configurations} configurations.")],
        };
        let end_ns = stuck.and_then(|stuck| history[stuck].span().return_ns);
        let bar = |(at, operation): (usize, &O)| {
            let span = operation.span();
            let mark = match span.return_ns {
                Some(_) if Some(at) == stuck => Mark::Stuck,
                Some(return_ns) if end_ns.is_none_or(|end_ns| return_ns <= end_ns) => Mark::Placed,
                _ => Mark::Pending,
            };
            Bar { client: operation.client(), span, text: operation.text(), mark }
        };
        Timeline { title, notes, bars: history.iter().enumerate().map(bar).collect() }
    }
}

impl<O: Recorded> Display for Violation<O> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.timeline())
    }
}

/// As it is displayed: tests fail with the drawing.
impl<O: Recorded> Debug for Violation<O> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl<O: Recorded> error::Error for Violation<O> {}
