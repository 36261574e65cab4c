//! The search for an order: Wing and Gong's, with Lowe's memory of configurations, which is the algorithm behind Porcupine.
//! A history is linearizable when its operations can be put in one order that keeps real time (what had returned comes before what was
//! called later) and explains every outcome. The search goes in depth, from one return to the next. Before an operation's return lies
//! behind, that operation takes effect; others that are pending may do so first (Lowe, "Testing for linearizability", 2017: just-in-time
//! linearization). A configuration is how many returns lie behind, which pending operations took effect early, which of those without an
//! outcome did, and the state; none is entered twice, so the cost is linear in the length of a history while few operations meet.
//! Operations without an outcome stay pending for ever, and would multiply the configurations. Three rules keep them few; none loses an
//! order, since what has no outcome may as well never have taken effect:
//! - a configuration is not entered if one is known that differs only in having used fewer of them;
//! - of several that are alike, the earliest is used first;
//! - they take effect only right before an operation with an outcome, their goal, and only if the model says that this may help it, not if
//!   the goal is possible without them and changes nothing.
//!
//! The model owns the operations; here they are numbers, the places in the slice of their spans.

use std::collections::HashMap;
use std::hash::Hash;

/// When an operation was called, and when its outcome was there, if it ever was. In nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it was sent.
    pub call_ns: u64,
    /// When the reply was there.
    pub return_ns: Option<u64>,
}

/// The time in which an operation takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Its call.
    pub earliest_ns: u64,
    /// The first return among it and all that is ordered behind it.
    pub latest_ns: u64,
}

/// What operations do. A longer moment, or one that ends later, must allow at least as much.
pub trait Model {
    /// What the operations act upon.
    type State: Clone + Eq + Hash;
    /// The state before everything.
    fn initial(&self) -> Self::State;
    /// The states in which an operation may leave this one, if its outcome is possible; all outcomes are, if it is unknown.
    fn step(&self, state: &Self::State, operation: usize, moment: Moment) -> Vec<Self::State>;
    /// Whether two operations without an outcome have the same effect.
    fn alike(&self, one: usize, other: usize) -> bool;
    /// Whether it may help `goal`, before which only operations without an outcome are still to come, that one of these led from `state`
    /// to `next`. False if none of them can make it possible without wiping out this one, or if this one may as well have been left out.
    fn may_help(&self, goal: usize, state: &Self::State, next: &Self::State, moment: Moment) -> bool;
    /// A state in words.
    fn describe(&self, state: &Self::State) -> String;
}

/// What a search came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Its answer.
    pub verdict: Verdict,
    /// Configurations that it entered.
    pub configurations: u64,
}

/// Whether there is an order.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is one.
    Linearizable,
    /// There is none.
    Contradiction {
        /// The operation whose return no order gets beyond: all that returned earlier have one, together with it they have none, given the
        /// outcomes of what was pending at that time.
        stuck: usize,
        /// The states in which the orders of all that returned earlier may end. Sorted.
        states: Vec<String>,
    },
    /// The limit was reached.
    Undecided {
        /// The operation with the earliest return for which no place was found yet.
        stuck: usize,
    },
}

/// Looks for an order, and gives up beyond so many configurations. `before` names for an operation another one, which is called and returns
/// no later and has to take effect before it.
pub fn search<M: Model>(model: &M, spans: &[Span], before: &[Option<usize>], configurations_max: u64) -> Judgement {
    Search::new(model, spans, before).run(configurations_max)
}

/// A set of small numbers.
#[derive(Clone, Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn with(&self, number: usize) -> Self {
        let mut words = self.0.clone();
        words.resize(words.len().max(number / 64 + 1), 0);
        words[number / 64] |= 1 << (number % 64);
        Self(words)
    }

    fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().enumerate().all(|(at, word)| word & !other.0.get(at).copied().unwrap_or(0) == 0)
    }
}

/// A configuration without the operations that have no outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Position<S> {
    /// How many returns lie behind.
    returned: usize,
    /// Operations with later returns that took effect already, sorted.
    early: Vec<usize>,
    /// For which operation others without an outcome took effect just now: it comes next.
    goal: Option<usize>,
    state: S,
}

#[derive(Clone, Debug)]
struct Configuration<S> {
    position: Position<S>,
    /// Operations without an outcome that took effect, as places in `Search::unknown`.
    used: Bits,
}

/// An operation to take effect next.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// One with an outcome.
    Known(usize),
    /// One without, by its place in `Search::unknown`, for the sake of one with an outcome.
    Unknown { place: usize, goal: usize },
}

/// A configuration on the way, and what was not yet tried in it.
struct Frame<S> {
    configuration: Configuration<S>,
    /// Last one first.
    choices: Vec<Choice>,
    /// Whether operations without an outcome are, or were, among the choices. They come last: most are not needed.
    with_unknown: bool,
}

struct Search<'a, M: Model> {
    model: &'a M,
    spans: &'a [Span],
    before: &'a [Option<usize>],
    /// Operations with an outcome and their return, in the order of that.
    returns: Vec<(u64, usize)>,
    /// For each return: the operations called by then and not returned before, in the order of their returns; so it comes first.
    pending: Vec<Vec<usize>>,
    /// Operations without an outcome, in the order of their calls.
    unknown: Vec<usize>,
    /// For each of these, the place of the first that is like it.
    kinds: Vec<usize>,
    /// The positions entered, each with the sets of operations without an outcome that had been used; none contains another.
    entered: HashMap<Position<M::State>, Vec<Bits>>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, spans: &'a [Span], before: &'a [Option<usize>]) -> Self {
        let mut returns: Vec<(u64, usize)> =
            spans.iter().enumerate().filter_map(|(operation, span)| Some((span.return_ns?, operation))).collect();
        returns.sort_unstable();
        let mut unknown: Vec<usize> = (0..spans.len()).filter(|operation| spans[*operation].return_ns.is_none()).collect();
        unknown.sort_by_key(|operation| spans[*operation].call_ns);
        let mut firsts: Vec<usize> = Vec::new();
        let mut kind_of = |place: usize| {
            let known = firsts.iter().copied().find(|first| model.alike(unknown[*first], unknown[place]));
            known.unwrap_or_else(|| {
                firsts.push(place);
                place
            })
        };
        let kinds = (0..unknown.len()).map(&mut kind_of).collect();
        Self { model, spans, before, pending: pending(spans, &returns), returns, unknown, kinds, entered: HashMap::new() }
    }

    fn run(mut self, configurations_max: u64) -> Judgement {
        let position = Position { returned: 0, early: Vec::new(), goal: None, state: self.model.initial() };
        let mut stack = Vec::new();
        let mut configurations = 0;
        let mut furthest = 0;
        let mut entering = vec![Configuration { position, used: Bits::default() }];
        loop {
            for configuration in entering {
                if configuration.position.returned == self.returns.len() {
                    return Judgement { verdict: Verdict::Linearizable, configurations };
                }
                if self.enter(&configuration) {
                    configurations += 1;
                    furthest = furthest.max(configuration.position.returned);
                    let choices = self.goals(&configuration.position).into_iter().rev().map(Choice::Known).collect();
                    stack.push(Frame { configuration, choices, with_unknown: false });
                }
            }
            let Some(frame) = stack.last_mut() else {
                let verdict = Verdict::Contradiction { stuck: self.returns[furthest].1, states: self.states_at(furthest) };
                return Judgement { verdict, configurations };
            };
            if configurations > configurations_max {
                return Judgement { verdict: Verdict::Undecided { stuck: self.returns[furthest].1 }, configurations };
            }
            entering = match frame.choices.pop() {
                Some(choice) => self.follow(&frame.configuration, choice),
                None if frame.with_unknown => {
                    stack.pop();
                    Vec::new()
                }
                None => {
                    frame.with_unknown = true;
                    frame.choices = self.unknown_choices(&frame.configuration);
                    Vec::new()
                }
            };
        }
    }

    /// Notes a configuration; false if it, or one with fewer operations used, was known.
    fn enter(&mut self, configuration: &Configuration<M::State>) -> bool {
        let known = self.entered.entry(configuration.position.clone()).or_default();
        if known.iter().any(|used| used.is_subset(&configuration.used)) {
            return false;
        }
        known.retain(|used| !configuration.used.is_subset(used));
        known.push(configuration.used.clone());
        true
    }

    /// Operations with an outcome that may come next: first the one whose return does.
    fn goals(&self, position: &Position<M::State>) -> Vec<usize> {
        let pending = &self.pending[position.returned];
        let took_effect = |operation: &usize| position.early.contains(operation) || !pending.contains(operation);
        let may_come = |operation: &usize| !position.early.contains(operation) && self.before[*operation].as_ref().is_none_or(took_effect);
        match position.goal {
            Some(goal) => vec![goal],
            None => pending.iter().copied().filter(may_come).collect(),
        }
    }

    /// Operations without an outcome that may come next, the first of each kind for each goal.
    fn unknown_choices(&self, configuration: &Configuration<M::State>) -> Vec<Choice> {
        let latest_ns = self.returns[configuration.position.returned].0;
        let called = self.unknown.partition_point(|operation| self.spans[*operation].call_ns <= latest_ns);
        let mut kinds = Bits::default();
        let mut places = Vec::new();
        for place in (0..called).filter(|place| !configuration.used.contains(*place)) {
            if !kinds.contains(self.kinds[place]) {
                kinds = kinds.with(self.kinds[place]);
                places.push(place);
            }
        }
        // A goal that is possible already, and changes nothing, may as well come before them.
        let position = &configuration.position;
        let lacks = |goal: &usize| !self.step(position, *goal).contains(&position.state);
        let goals = self.goals(position).into_iter().filter(lacks);
        let choices = goals.flat_map(|goal| places.iter().map(move |place| Choice::Unknown { place: *place, goal }));
        choices.rev().collect()
    }

    /// The configurations to which a choice leads.
    fn follow(&self, from: &Configuration<M::State>, choice: Choice) -> Vec<Configuration<M::State>> {
        let Configuration { position, used } = from;
        match choice {
            Choice::Known(operation) => {
                let arrive = |state| Configuration { position: self.after(position, operation, state), used: used.clone() };
                self.step(position, operation).into_iter().map(arrive).collect()
            }
            Choice::Unknown { place, goal } => {
                let operation = self.unknown[place];
                let moment = self.moment(position, operation);
                let helps = |next: &M::State| *next != position.state && self.model.may_help(goal, &position.state, next, moment);
                let arrive = |state| {
                    let position = Position { goal: Some(goal), state, ..position.clone() };
                    Configuration { position, used: used.with(place) }
                };
                self.step(position, operation).into_iter().filter(helps).map(arrive).collect()
            }
        }
    }

    fn step(&self, position: &Position<M::State>, operation: usize) -> Vec<M::State> {
        self.model.step(&position.state, operation, self.moment(position, operation))
    }

    fn moment(&self, position: &Position<M::State>, operation: usize) -> Moment {
        Moment { earliest_ns: self.spans[operation].call_ns, latest_ns: self.returns[position.returned].0 }
    }

    /// The position after an operation with an outcome: beyond all returns of which nothing is pending any more.
    fn after(&self, from: &Position<M::State>, operation: usize, state: M::State) -> Position<M::State> {
        let mut early = from.early.clone();
        let at = early.partition_point(|other| *other < operation);
        early.insert(at, operation);
        let mut returned = from.returned;
        while let Some(at) = self.returns.get(returned).and_then(|(_, next)| early.binary_search(next).ok()) {
            early.remove(at);
            returned += 1;
        }
        Position { returned, early, goal: None, state }
    }

    /// The states in which the search stood after so many returns.
    fn states_at(&self, returned: usize) -> Vec<String> {
        let at = self.entered.keys().filter(|position| position.returned == returned && position.goal.is_none());
        let mut states: Vec<String> = at.map(|position| self.model.describe(&position.state)).collect();
        states.sort_unstable();
        states.dedup();
        states
    }
}

fn pending(spans: &[Span], returns: &[(u64, usize)]) -> Vec<Vec<usize>> {
    let mut calls: Vec<(u64, u64, usize)> = returns.iter().map(|(at, operation)| (spans[*operation].call_ns, *at, *operation)).collect();
    calls.sort_unstable();
    let mut calls = calls.into_iter().peekable();
    let mut open: Vec<(u64, usize)> = Vec::new();
    let mut pending = Vec::with_capacity(returns.len());
    for next in returns {
        while let Some((_, at, operation)) = calls.next_if(|(call_ns, ..)| *call_ns <= next.0) {
            let place = open.partition_point(|other| *other < (at, operation));
            open.insert(place, (at, operation));
        }
        pending.push(open.iter().map(|(_, operation)| *operation).collect());
        assert_eq!(open.remove(0), *next, "what returns next is pending, and first");
    }
    pending
}
