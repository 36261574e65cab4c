//! What a run found: a sentence that begins with the name of what did not hold, and the history where it is one that has no order.
//! A panic is a finding, too, and says where it came from. One of the tests' own code says that first: it is a fault of the simulator, and
//! no bug counts as found by it.

use std::any::Any;
use std::cell::Cell;
use std::fmt::{self, Debug, Display, Formatter};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;

use redraft_tests::linearizability::{Violation, multi};
use tempfile::TempDir;

use crate::checks::Checked;

/// What a finding begins with that is none of the product.
pub const OWN_PANIC: &str = "the simulator's own panic";

/// What went wrong.
#[derive(Clone, PartialEq, Eq)]
pub struct Finding {
    text: String,
    history: Option<Box<History>>,
}

#[derive(Clone, PartialEq, Eq)]
enum History {
    Single(Violation),
    Several(Violation<multi::Operation>),
}

impl Finding {
    /// All of it, as text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Draws the history, if there is one, as text and as a page, into files of a new directory that stays.
    /// # Errors
    /// They cannot be written.
    pub fn draw(&self) -> std::io::Result<Vec<PathBuf>> {
        let Some(history) = &self.history else { return Ok(Vec::new()) };
        let dir = tempfile::Builder::new().prefix("redraft-simulator-").tempdir().map(TempDir::keep)?;
        let files = match history.as_ref() {
            History::Single(violation) => violation.write_to(&dir),
            History::Several(violation) => violation.write_to(&dir),
        };
        files.map(Into::into)
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// As it is displayed: tests fail with the drawing.
impl Debug for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl From<String> for Finding {
    fn from(text: String) -> Self {
        Self { text, history: None }
    }
}

impl From<Violation> for Finding {
    fn from(violation: Violation) -> Self {
        Self { text: described(&violation, violation.timeline()), history: Some(Box::new(History::Single(violation))) }
    }
}

impl From<Violation<multi::Operation>> for Finding {
    fn from(violation: Violation<multi::Operation>) -> Self {
        Self { text: described(&violation, violation.timeline()), history: Some(Box::new(History::Several(violation))) }
    }
}

fn described<O>(violation: &Violation<O>, timeline: String) -> String {
    match violation {
        Violation::NotLinearizable { .. } => format!("linearizability: {timeline}"),
        Violation::Undecided { .. } => format!("undecided: {timeline}"),
    }
}

thread_local! {
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Makes a panic of a run on this thread a finding. It is not printed.
pub fn catch(run: impl FnOnce() -> Checked) -> Checked {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if IS_WATCHED.get() {
                PLACE.set(panic.location().map(ToString::to_string));
            } else {
                usual(panic);
            }
        }));
    });
    IS_WATCHED.set(true);
    let ran = catch_unwind(AssertUnwindSafe(run));
    IS_WATCHED.set(false);
    ran.unwrap_or_else(|panic| Err(panicked(&PLACE.take().unwrap_or_default(), panic.as_ref())))
}

/// `place` is a source file, as the compiler was given it, and a place in it.
fn panicked(place: &str, panic: &(dyn Any + Send)) -> String {
    // All tests' sources are in one directory, three above this file.
    let tests = Path::new(file!()).ancestors().nth(3).expect("this file is in a crate of the tests");
    let whose = if Path::new(place).starts_with(tests) { OWN_PANIC } else { "panic" };
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("{whose}: {} (at {place})", text.unwrap_or("without a text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_says_whose_it_is() {
        let own = catch(|| panic!("a slip")).expect_err("it panicked");
        assert!(own.starts_with("the simulator's own panic: a slip (at "), "{own}");
        // Code of the library that does not pass its caller's place on.
        let others = catch(|| panic::resume_unwind(Box::new("a text"))).expect_err("it panicked");
        assert!(others.starts_with("panic: a text"), "{others}");
        assert_eq!(panicked("server/src/node/core/mod.rs:1:1", &"a text"), "panic: a text (at server/src/node/core/mod.rs:1:1)");
    }
}
