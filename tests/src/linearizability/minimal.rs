//! A short history out of one that has no order, as a proof that people can read.
//! What is shown is a part of the history, with its outcomes. Each step towards it keeps a history without an order, and would have kept
//! an order if there had been one; that is why the end proves something about the beginning:
//! - What was called after the contradiction is left out, and what had not returned by then has lost its outcome: an order of everything
//!   contains one of every beginning.
//! - An operation that changed nothing is left out: an order without it explains the others as well.
//! - An operation that changed something is not left out but hidden: it stays in the search, with an unknown outcome, which allows more
//!   orders and forbids none. So whether and whenever a hidden operation took effect, what is shown has no order. (Leaving it out, even one
//!   whose outcome was unknown, would prove nothing: what it wrote may be what was read.)
//! - Of what came before a blind write, one that always succeeds and always leaves the same, nothing is needed behind it. What overlaps
//!   it is hidden, and what had returned before it is left out.
//! - What wrote a value that is shown as seen is shown as well, so that the history can be understood without the rest. It is kept as it
//!   was, or with an unknown outcome if its outcome depended on what is left out.
//!
//! The result is locally minimal: of what is shown, no operation can be left out or hidden without breaking one of these rules, or
//! making an order possible, or making it too hard to decide.

use bytes::Bytes;

use super::history::Recorded;
use super::search::{Judgement, Span, Verdict};

/// Configurations that all searches together may enter on the way to a short history. Beyond, it stays as short as it is.
const CONFIGURATIONS_MAX: u64 = 1_000_000;
/// Configurations that one of them may enter; one that comes to no end shortens nothing.
const TRIAL_CONFIGURATIONS_MAX: u64 = 50_000;

/// A history without an order, in two parts.
#[derive(Clone, Debug)]
pub(super) struct Case<O> {
    /// In the order of calls.
    pub(super) shown: Vec<O>,
    /// Without outcomes.
    pub(super) hidden: Vec<O>,
    /// Which of the shown it is whose return no order gets beyond, and the states before it.
    pub(super) stuck: usize,
    pub(super) states: Vec<String>,
}

impl<O: Recorded> Case<O> {
    /// What would be shown and hidden without showing some of it, except for what wrote what the rest saw. `None` if that is all.
    fn without(&self, from: usize, count: usize) -> Option<(Vec<O>, Vec<O>)> {
        let to = self.shown.len().min(from + count);
        let seen: Vec<_> = self.shown[..from].iter().chain(&self.shown[to..]).flat_map(Recorded::seen).collect();
        let (kept, gone): (Vec<&O>, Vec<&O>) = self.shown[from..to].iter().partition(|operation| explains(*operation, &seen));
        if gone.is_empty() {
            return None;
        }
        let shown = self.shown[..from].iter().chain(kept).chain(&self.shown[to..]).cloned().collect();
        let hide = gone.into_iter().filter(|operation| !operation.changed_nothing()).map(Recorded::without_outcome);
        Some((shown, self.hidden.iter().cloned().chain(hide).collect()))
    }
}

/// Whether an operation wrote something of what was seen.
fn explains<O: Recorded>(operation: &O, seen: &[&Bytes]) -> bool {
    let contains = |seen: &[u8], value: &[u8]| !value.is_empty() && seen.windows(value.len()).any(|part| part == value);
    operation.written().into_iter().any(|value| seen.iter().any(|seen| contains(seen, value)))
}

/// The beginning of a history that no order gets beyond, in the order of calls. It ends with the last return of what was called by then,
/// and of what saw something that this wrote: the search may have been stuck for what reads told later.
pub(super) fn beginning<O: Recorded>(operations: &[O], stuck: usize) -> Vec<O> {
    let stuck_ns = operations[stuck].span().return_ns.expect("a search is stuck at a return");
    let (called, later): (Vec<&O>, Vec<&O>) = operations.iter().partition(|operation| operation.span().call_ns <= stuck_ns);
    let tells = |read: &&&O| called.iter().any(|write| explains(*write, &read.seen()));
    let needed = called.iter().chain(later.iter().filter(tells));
    let end_ns = needed.filter_map(|operation| operation.span().return_ns).max().unwrap_or(stuck_ns);
    let cut = |operation: &O| {
        let span = operation.span();
        let returned = span.return_ns.is_some_and(|return_ns| return_ns <= end_ns);
        let cut = if returned { operation.clone() } else { operation.without_outcome() };
        (span.call_ns <= end_ns && (returned || !cut.changed_nothing())).then_some(cut)
    };
    let mut operations: Vec<O> = operations.iter().filter_map(cut).collect();
    operations.sort_by_key(|operation| operation.span().call_ns);
    operations
}

/// A history from a blind write on, with what wrote what was seen from then on.
fn from_blind_write<O: Recorded>(history: &[O], write: Span) -> Vec<O> {
    let follows = |span: Span| Some(span.call_ns) > write.return_ns || span.return_ns.is_none() || span == write;
    let seen: Vec<&Bytes> = history.iter().filter(|operation| follows(operation.span())).flat_map(Recorded::seen).collect();
    let cut = |operation: &O| {
        let span = operation.span();
        let precedes = span.return_ns < Some(write.call_ns);
        if follows(span) || precedes && operation.is_blind() && explains(operation, &seen) {
            return Some(operation.clone());
        }
        let needed = !operation.changed_nothing() && (!precedes || explains(operation, &seen));
        needed.then(|| operation.without_outcome())
    };
    history.iter().filter_map(cut).collect()
}

/// Shortens a history that has no order. `decide` is given a history, and how many configurations it may enter.
pub(super) fn minimise<O: Recorded>(case: Case<O>, decide: impl Fn(&[O], u64) -> Judgement) -> Case<O> {
    let mut left = CONFIGURATIONS_MAX;
    let mut attempt = |shown: Vec<O>, hidden: Vec<O>| {
        let judgement = decide(&[&shown[..], &hidden].concat(), left.min(TRIAL_CONFIGURATIONS_MAX));
        left = left.saturating_sub(judgement.configurations);
        match judgement.verdict {
            // What is hidden has no return, so it is not what the search is stuck at.
            Verdict::Contradiction { stuck, states } => Some(Case { shown, hidden, stuck, states }),
            Verdict::Linearizable | Verdict::Undecided { .. } => None,
        }
    };
    let blind: Vec<Span> = case.shown.iter().filter(|operation| operation.is_blind()).map(Recorded::span).collect();
    // From the last one, the one before it, the fourth from the end, the eighth, and so on.
    let distances = std::iter::successors(Some(1), |distance| Some(distance * 2)).take_while(|distance| *distance <= blind.len());
    let mut starts = distances.map(|distance| from_blind_write(&case.shown, blind[blind.len() - distance]));
    let case = starts.find_map(|shown| attempt(shown, Vec::new())).unwrap_or(case);
    drop_parts(case, attempt)
}

/// Takes away halves, then quarters, and so on down to single operations, until none can go.
fn drop_parts<O: Recorded>(mut case: Case<O>, mut attempt: impl FnMut(Vec<O>, Vec<O>) -> Option<Case<O>>) -> Case<O> {
    let mut count = case.shown.len();
    loop {
        let before = case.shown.len();
        let mut from = 0;
        while from < case.shown.len() {
            match case.without(from, count).and_then(|(shown, hidden)| attempt(shown, hidden)) {
                Some(shorter) => case = shorter,
                None => from += count,
            }
        }
        if count == 1 && case.shown.len() == before {
            return case;
        }
        count = (count / 2).max(1);
    }
}
