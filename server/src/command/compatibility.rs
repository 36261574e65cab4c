//! The text of `docs/compatibility.md`, computed from the rows.

use std::fmt::Write;

use super::spec::{CommandSpec, Group};
use super::table;

const HEADER: &str = "\
# Compatibility

This page is computed from the command table (`server/src/command/`); `make check` fails when it is out of date.
Arguments, replies and error texts are those of Redis 7.2 unless a difference is named. A command that is not listed here is answered with
`ERR unknown command`. Where an error text repeats an argument, bytes that are no UTF-8 are shown as U+FFFD.
";

/// The page.
#[must_use]
pub fn render() -> String {
    let mut page = HEADER.to_owned();
    for group in Group::ALL {
        let mut rows: Vec<(String, &CommandSpec)> = Vec::new();
        for spec in table::all() {
            let subcommands = spec.subcommands.iter().map(|subcommand| (format!("{} {}", spec.name, subcommand.name), subcommand));
            rows.extend(std::iter::once((spec.name.to_owned(), spec)).chain(subcommands).filter(|(_, row)| row.group == *group));
        }
        if rows.is_empty() {
            continue;
        }
        rows.sort_by(|first, second| first.0.cmp(&second.0));
        let name = group.name();
        let title = name[..1].to_uppercase() + &name[1..];
        let mut section = format!("\n## {title}\n\n| Command | Since | What it does | Differences from Redis |\n|---|---|---|---|\n");
        for (name, row) in rows {
            let cells = [name.to_uppercase(), row.since.to_owned(), row.summary.to_owned(), row.deviation.to_owned()];
            let cells = cells.map(|cell| cell.replace('|', "\\|"));
            writeln!(section, "| {} |", cells.join(" | ")).expect("a String takes everything");
        }
        page.push_str(&section);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_a_row_for_each_command() {
        let page = render();
        for spec in table::all() {
            assert!(page.contains(&format!("\n| {} | {} | ", spec.name.to_uppercase(), spec.since)), "{}", spec.name);
            assert!(page.contains(spec.deviation), "{}", spec.name);
        }
    }
}
