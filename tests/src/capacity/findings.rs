//! What a part found: tables for people, figures for programs, and marks.
//! A mark is a promise about figures, in words, with what was wanted and found, so that a line tells all there is to know of it.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

/// What a part found.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// Under which conditions, a line each.
    pub notes: Vec<String>,
    /// The figures for programs.
    pub figures: Value,
    /// What was promised.
    pub marks: Vec<Mark>,
    /// The figures for people.
    #[serde(skip)]
    pub tables: Vec<Table>,
}

/// Some figures for people.
#[derive(Clone, Debug)]
pub struct Table {
    title: String,
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// A promise about figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mark {
    /// Of what.
    pub name: String,
    /// What was promised.
    pub wanted: String,
    /// What was found.
    pub found: String,
    /// Whether it holds.
    pub holds: bool,
}

impl Findings {
    /// These and others of the same part, whose figures have other names.
    #[must_use]
    pub fn and(mut self, other: Findings) -> Findings {
        self.notes.extend(other.notes);
        self.tables.extend(other.tables);
        self.marks.extend(other.marks);
        if let (Value::Object(figures), Value::Object(others)) = (&mut self.figures, other.figures) {
            figures.extend(others);
        }
        self
    }

    /// All of it for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.notes.iter().for_each(|note| text += &format!("{note}\n"));
        self.tables.iter().for_each(|table| text += &format!("\n{}", table.text()));
        if !self.marks.is_empty() {
            text += "\nmarks\n";
        }
        self.marks.iter().for_each(|mark| text += &format!("{}\n", mark.text()));
        text
    }
}

impl Table {
    /// A table without rows. The first column has names.
    #[must_use]
    pub fn new(title: impl Into<String>, headings: &[&'static str]) -> Table {
        Table { title: title.into(), headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    /// # Panics
    /// It has another number of cells than there are headings.
    pub fn add(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.headings.len(), "a row of {} has a cell for each heading", self.title);
        self.rows.push(row);
    }

    fn text(&self) -> String {
        let column = |place: usize| self.rows.iter().map(|row| row[place].len()).chain([self.headings[place].len()]).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.headings.len()).map(column).collect();
        let line = |cells: Vec<&str>| {
            let mut line = format!("  {:<width$}", cells[0], width = widths[0]);
            for (cell, width) in cells.iter().zip(&widths).skip(1) {
                write!(line, "  {cell:>width$}").expect("a string grows as needed");
            }
            line + "\n"
        };
        let rows = self.rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
        format!("{}\n", self.title) + &line(self.headings.clone()) + &rows.collect::<String>()
    }
}

impl Mark {
    /// A figure that must not be larger.
    #[must_use]
    pub fn at_most(name: impl Into<String>, found: f64, limit: f64, unit: &str) -> Mark {
        let text = |value: f64| shown(value, unit);
        Mark { name: name.into(), wanted: format!("at most {}", text(limit)), found: text(found), holds: found <= limit }
    }

    /// A figure that must not be smaller.
    #[must_use]
    pub fn at_least(name: impl Into<String>, found: f64, limit: f64, unit: &str) -> Mark {
        let text = |value: f64| shown(value, unit);
        Mark { name: name.into(), wanted: format!("at least {}", text(limit)), found: text(found), holds: found >= limit }
    }

    fn text(&self) -> String {
        let verdict = if self.holds { "holds" } else { "MISSED" };
        format!("  {verdict:<6}  {}: {} ({})", self.name, self.found, self.wanted)
    }
}

/// A figure with as many digits as it needs.
fn shown(value: f64, unit: &str) -> String {
    let digits = if value.abs() >= 100.0 || value.fract() == 0.0 { 0 } else { 2 };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new("speed", &["test", "per s"]);
        table.add(vec!["a long name".to_owned(), "1".to_owned()]);
        table.add(vec!["b".to_owned(), "1234567".to_owned()]);
        assert_eq!(table.text(), "speed\n  test           per s\n  a long name        1\n  b            1234567\n");
    }

    #[test]
    fn a_mark_says_what_was_wanted_and_found() {
        let check = |mark: Mark, expected: &str| assert_eq!(mark.text(), expected);
        check(Mark::at_most("start", 4.256, 5.0, "s"), "  holds   start: 4.26 s (at most 5 s)");
        check(Mark::at_most("start", 5.001, 5.0, "s"), "  MISSED  start: 5.00 s (at most 5 s)");
        check(Mark::at_least("copy", 149.6, 150.0, "MB/s"), "  MISSED  copy: 150 MB/s (at least 150 MB/s)");
        check(Mark::at_least("copy", 150.0, 150.0, "MB/s"), "  holds   copy: 150 MB/s (at least 150 MB/s)");
    }
}
