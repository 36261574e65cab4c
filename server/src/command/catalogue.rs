//! What COMMAND answers, computed from the rows: nothing about a command stands here.
//! Shapes are those of Redis 7.2 (`addReplyCommandInfo` and `addReplyCommandDocs` in its `server.c`), in RESP2 and RESP3, as redis-cli
//! and client libraries parse them. Tips, notes, arguments and history, which nothing here needs, are empty or absent.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;
use resp::Reply;

use super::glob;
use super::node_command::{CommandFilter, CommandQuery};
use super::spec::{Arity, CommandSpec, Keys, flags};
use super::table;

/// Redis's ACL categories, in the order and form in which COMMAND lists them.
const ACL_CATEGORIES: &[&str] = &[
    "@keyspace",
    "@read",
    "@write",
    "@set",
    "@sortedset",
    "@list",
    "@hash",
    "@string",
    "@bitmap",
    "@hyperloglog",
    "@geo",
    "@stream",
    "@pubsub",
    "@admin",
    "@fast",
    "@slow",
    "@blocking",
    "@dangerous",
    "@connection",
    "@transaction",
    "@scripting",
];

/// A row with its name as Redis writes it: `get`, `client|list`.
#[derive(Clone)]
pub struct NamedSpec {
    /// The name.
    pub name: String,
    /// The row.
    pub spec: &'static CommandSpec,
}

/// All rows, each followed by its subcommands.
pub fn all_named() -> impl Iterator<Item = NamedSpec> {
    table::all().flat_map(|spec| std::iter::once(NamedSpec { name: spec.name.to_owned(), spec }).chain(subcommands(spec)))
}

/// The name of a row as Redis writes it: `get`, `client|list`. Rows are known by their place in the table.
#[must_use]
pub fn full_name(spec: &'static CommandSpec) -> &'static str {
    static NAMES: LazyLock<HashMap<usize, String>> = LazyLock::new(|| all_named().map(|row| (address(row.spec), row.name)).collect());
    NAMES.get(&address(spec)).map_or(spec.name, String::as_str)
}

/// Where a row stands in memory, which tells it from every other row.
#[must_use]
pub fn address(spec: &'static CommandSpec) -> usize {
    std::ptr::from_ref(spec).addr()
}

/// The reply to COMMAND and its subcommands.
#[must_use]
pub fn reply(query: &CommandQuery) -> Reply {
    match query {
        CommandQuery::All => Reply::Array(top_level().map(|named| info(&named)).collect()),
        CommandQuery::Count => Reply::Integer(i64::try_from(table::all().count()).expect("the table is small")),
        CommandQuery::List(filter) => {
            Reply::Array(all_named().filter(|named| passes(named, filter)).map(|named| Reply::text(named.name)).collect())
        }
        CommandQuery::Info(names) if names.is_empty() => reply(&CommandQuery::All),
        CommandQuery::Info(names) => {
            Reply::Array(names.iter().map(|name| named(name).map_or(Reply::NullArray, |row| info(&row))).collect())
        }
        CommandQuery::Docs(names) if names.is_empty() => Reply::Map(top_level().map(|named| docs_entry(&named)).collect()),
        CommandQuery::Docs(names) => Reply::Map(names.iter().filter_map(named).map(|row| docs_entry(&row)).collect()),
        CommandQuery::GetKeys(keys) => Reply::Array(keys.iter().cloned().map(Reply::Bulk).collect()),
    }
}

fn top_level() -> impl Iterator<Item = NamedSpec> {
    table::all().map(|spec| NamedSpec { name: spec.name.to_owned(), spec })
}

fn subcommands(container: &'static CommandSpec) -> impl Iterator<Item = NamedSpec> {
    container.subcommands.iter().map(|spec| NamedSpec { name: format!("{}|{}", container.name, spec.name), spec })
}

/// The row of `get` or `client|list`, in any case.
fn named(name: &Bytes) -> Option<NamedSpec> {
    let mut words = name.splitn(2, |byte| *byte == b'|');
    let spec = table::lookup(words.next()?)?;
    match words.next() {
        None => Some(NamedSpec { name: spec.name.to_owned(), spec }),
        Some(word) => subcommands(spec).find(|row| word.eq_ignore_ascii_case(row.spec.name.as_bytes())),
    }
}

fn passes(named: &NamedSpec, filter: &CommandFilter) -> bool {
    match filter {
        CommandFilter::None => true,
        CommandFilter::Module => false,
        CommandFilter::AclCategory(category) => {
            acl_categories(named.spec).any(|known| category.eq_ignore_ascii_case(&known.as_bytes()[1..]))
        }
        CommandFilter::Pattern(pattern) => glob::matches(&pattern.to_ascii_lowercase(), named.name.as_bytes()),
    }
}

/// The categories of a row, each with its `@`.
fn acl_categories(spec: &CommandSpec) -> impl Iterator<Item = &'static str> {
    let categories = spec.acl_categories();
    ACL_CATEGORIES.iter().copied().filter(move |category| categories.contains(&&category[1..]))
}

fn info(named: &NamedSpec) -> Reply {
    let spec = named.spec;
    let (first, last, step) = spec.keys.numbers();
    Reply::Array(vec![
        Reply::text(named.name.as_str()),
        Reply::Integer(arity(spec.arity)),
        Reply::Set(spec.flags.names().map(Reply::Simple).collect()),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
        Reply::Set(acl_categories(spec).map(Reply::Simple).collect()),
        Reply::Set(vec![]),
        Reply::Set(key_specs(spec)),
        Reply::Array(subcommands(spec).map(|row| info(&row)).collect()),
    ])
}

/// Negative for "at least".
fn arity(arity: Arity) -> i64 {
    let number = |count: usize| i64::try_from(count).expect("arities are small");
    match arity {
        Arity::Exactly(count) => number(count),
        Arity::AtLeast(count) => -number(count),
    }
}

/// One specification per row with keys: an index to begin at and a range to go on with. `lastkey` is relative to the first key, or
/// negative and relative to the end.
fn key_specs(spec: &CommandSpec) -> Vec<Reply> {
    if matches!(spec.keys, Keys::None) {
        return vec![];
    }
    let (first, last, step) = spec.keys.numbers();
    let relative_last = if last < 0 { last } else { last - first };
    let access: &[&'static str] = if spec.flags.contains(flags::WRITE) { &["RW", "access", "update"] } else { &["RO", "access"] };
    let typed = |kind: &str, spec: Vec<(Reply, Reply)>| pairs(vec![("type", Reply::text(kind)), ("spec", Reply::Map(spec))]);
    let begin = vec![(Reply::text("index"), Reply::Integer(first))];
    let range = vec![
        (Reply::text("lastkey"), Reply::Integer(relative_last)),
        (Reply::text("keystep"), Reply::Integer(step)),
        (Reply::text("limit"), Reply::Integer(0)),
    ];
    vec![pairs(vec![
        ("flags", Reply::Set(access.iter().copied().map(Reply::Simple).collect())),
        ("begin_search", typed("index", begin)),
        ("find_keys", typed("range", range)),
    ])]
}

fn docs_entry(named: &NamedSpec) -> (Reply, Reply) {
    let spec = named.spec;
    let mut docs =
        vec![("summary", Reply::text(spec.summary)), ("since", Reply::text(spec.since)), ("group", Reply::text(spec.group.name()))];
    if !spec.complexity.is_empty() {
        docs.push(("complexity", Reply::text(spec.complexity)));
    }
    if !spec.subcommands.is_empty() {
        docs.push(("subcommands", Reply::Map(subcommands(spec).map(|row| docs_entry(&row)).collect())));
    }
    (Reply::text(named.name.as_str()), pairs(docs))
}

fn pairs(entries: Vec<(&str, Reply)>) -> Reply {
    Reply::Map(entries.into_iter().map(|(name, value)| (Reply::text(name), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &'static str) -> Vec<Bytes> {
        line.split_whitespace().map(|word| Bytes::from_static(word.as_bytes())).collect()
    }

    fn array(reply: Reply) -> Vec<Reply> {
        match reply {
            Reply::Array(elements) => elements,
            other => panic!("{other:?} is no array"),
        }
    }

    #[test]
    fn info_has_ten_elements_in_the_order_of_redis() {
        let row = array(array(reply(&CommandQuery::Info(words("GET")))).remove(0));
        assert_eq!(row.len(), 10);
        assert_eq!(row[..2], [Reply::text("get"), Reply::Integer(2)]);
        assert_eq!(row[2], Reply::Set(vec![Reply::Simple("readonly"), Reply::Simple("fast")]));
        assert_eq!(row[3..6], [Reply::Integer(1), Reply::Integer(1), Reply::Integer(1)]);
        assert_eq!(row[6], Reply::Set(["@read", "@string", "@fast"].map(Reply::Simple).into()));
    }

    #[test]
    fn key_specs_are_relative_to_the_first_key() {
        let row = array(array(reply(&CommandQuery::Info(words("mset")))).remove(0));
        assert_eq!(row[3..6], [Reply::Integer(1), Reply::Integer(-1), Reply::Integer(2)]);
        let Reply::Set(specs) = &row[8] else { panic!("{:?} is no set", row[8]) };
        assert!(format!("{specs:?}").contains("Integer(-1)"));
    }

    #[test]
    fn unknown_names_are_null_in_info_and_absent_in_docs() {
        assert_eq!(reply(&CommandQuery::Info(words("nope"))), Reply::Array(vec![Reply::NullArray]));
        assert_eq!(reply(&CommandQuery::Docs(words("nope"))), Reply::Map(vec![]));
    }

    #[test]
    fn subcommands_are_named_with_a_bar() {
        let row = array(array(reply(&CommandQuery::Info(words("Client|List")))).remove(0));
        assert_eq!(row[0], Reply::text("client|list"));
        let Reply::Map(docs) = reply(&CommandQuery::Docs(words("config"))) else { panic!("docs are a map") };
        assert_eq!(docs.len(), 1);
        assert!(format!("{docs:?}").contains("config|get"));
    }

    #[test]
    fn list_filters_by_category_and_pattern() {
        let list = |filter| array(reply(&CommandQuery::List(filter)));
        assert!(list(CommandFilter::None).contains(&Reply::text("client|id")));
        assert_eq!(list(CommandFilter::Module), []);
        assert_eq!(list(CommandFilter::Pattern(Bytes::from_static(b"GETD*"))), [Reply::text("getdel")]);
        assert!(list(CommandFilter::AclCategory(Bytes::from_static(b"dangerous"))).contains(&Reply::text("config|set")));
        assert_eq!(list(CommandFilter::AclCategory(Bytes::from_static(b"nope"))), []);
    }

    #[test]
    fn every_row_has_known_categories() {
        for named in all_named() {
            for category in named.spec.acl {
                assert!(ACL_CATEGORIES.contains(&format!("@{category}").as_str()), "{} has category {category}", named.name);
            }
        }
    }

    #[test]
    fn count_is_that_of_the_listing() {
        let all = array(reply(&CommandQuery::All)).len();
        assert_eq!(reply(&CommandQuery::Count), Reply::Integer(all as i64));
    }
}
