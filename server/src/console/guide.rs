//! What helps while a command is typed: completions of its name, and a hint at the arguments that are still to come.
//! Everything is computed from the table of commands; the server is not asked, so other servers' commands are typed without help.
//! Words are taken to end at blanks: a quoted argument with a blank counts as several, and then the hint ends too soon.

use crate::command::{Arity, CommandSpec, Keys, table};

/// Completions of the word that ends at the end of `line`: where in the line it begins, and what it could be.
pub(super) fn completions(line: &str) -> (usize, Vec<String>) {
    let start = line.rfind(char::is_whitespace).map_or(0, |at| at + line[at..].chars().next().map_or(0, char::len_utf8));
    let (before, word) = line.split_at(start);
    let names: Vec<&str> = match before.split_whitespace().collect::<Vec<_>>()[..] {
        [] => table::all().map(|spec| spec.name).collect(),
        [name] => table::lookup(name.as_bytes()).into_iter().flat_map(|spec| spec.subcommands).map(|spec| spec.name).collect(),
        _ => Vec::new(),
    };
    let begins = |name: &&str| name.len() >= word.len() && name.as_bytes()[..word.len()].eq_ignore_ascii_case(word.as_bytes());
    // Who types small letters wants small letters.
    let cased = |name: &str| if word.contains(|c: char| c.is_ascii_lowercase()) { name.to_owned() } else { name.to_uppercase() };
    let mut found: Vec<String> = names.into_iter().filter(begins).map(cased).collect();
    found.sort_unstable();
    (start, found)
}

/// What may follow the line: the arguments that are missing, and before the first of them what the command does.
pub(super) fn hint(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let spec = table::lookup(words.first()?.as_bytes())?;
    let (spec, names) = match words.get(1).and_then(|word| spec.subcommands.iter().find(|row| row.name.eq_ignore_ascii_case(word))) {
        Some(subcommand) => (subcommand, 2),
        None => (spec, 1),
    };
    let mut parts = missing_arguments(spec, names, words.len());
    if words.len() == names {
        parts.push(format!(" {}", spec.summary));
    }
    let hint = parts.join(" ");
    let space = if line.ends_with(char::is_whitespace) { "" } else { " " };
    (!hint.is_empty()).then(|| format!("{space}{hint}"))
}

/// Words for the arguments behind the first `given` words, of which the first `names` are the command's name.
fn missing_arguments(spec: &CommandSpec, names: usize, given: usize) -> Vec<String> {
    if names == 1 && given == 1 && !spec.subcommands.is_empty() {
        let subcommands: Vec<&str> = spec.subcommands.iter().map(|row| row.name).collect();
        return vec![subcommands.join("|")];
    }
    let word = |position| if is_key(spec.keys, position) { "key".to_owned() } else { "arg".to_owned() };
    let mut words: Vec<String> = (given..spec.arity.least()).map(word).collect();
    if matches!(spec.arity, Arity::AtLeast(_)) {
        words.push("[arg ...]".to_owned());
    }
    words
}

fn is_key(keys: Keys, position: usize) -> bool {
    match keys {
        Keys::None => false,
        Keys::One(only) => position == only,
        Keys::Range { first, last, step } => {
            let is_inside = usize::try_from(last).map_or(true, |last| position <= last);
            position >= first && is_inside && (position - first).is_multiple_of(step)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_subcommands_are_completed_in_the_case_that_was_begun() {
        let check = |line: &str, start: usize, expected: &[&str]| {
            assert_eq!(completions(line), (start, expected.iter().map(|name| (*name).to_owned()).collect()), "{line}");
        };
        check("getd", 0, &["getdel"]);
        check("GETD", 0, &["GETDEL"]);
        check("gEtD", 0, &["getdel"]);
        check(" getr", 1, &["getrange"]);
        check("raft v", 5, &["verify"]);
        check("RAFT S", 5, &["STATUS"]);
        check("get k", 4, &[]);
        check("nope x", 5, &[]);
        check("client set", 7, &["setinfo", "setname"]);
        check("set k\u{e9}", 4, &[]);
        assert_eq!(completions("").1.len(), table::all().count());
        assert_eq!(completions("config ").1.len(), 5);
    }

    #[test]
    fn a_hint_says_what_is_missing() {
        let check = |line: &str, expected: Option<&str>| {
            let found = hint(line);
            match expected {
                Some(expected) => assert!(found.as_ref().is_some_and(|hint| hint.starts_with(expected)), "{line}: {found:?}"),
                None => assert_eq!(found, None, "{line}"),
            }
        };
        check("get", Some(" key  Returns the string value"));
        check("GET ", Some("key  Returns"));
        check("get k", None);
        check("set ", Some("key arg [arg ...]  Sets"));
        check("set k", Some(" arg [arg ...]"));
        check("set k v ", Some("[arg ...]"));
        check("mset ", Some("key arg [arg ...]"));
        check("rename a ", Some("key"));
        check("raft ", Some("help|nodes|remove|status|transfer|verify  A container"));
        check("raft verify", Some("  Compares all data"));
        check("raft remove ", Some("arg  Removes"));
        check("raft remove 1", None);
        check("nope ", None);
        check("", None);
    }
}
