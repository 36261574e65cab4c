//! Tables for people: plain columns under headings, which scripts can split at blanks as well.

use comfy_table::{Table, presets};

/// Blanks between two columns.
const GAP: u16 = 2;

/// Rows under headings, a line each.
pub(super) fn render(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headings.to_vec()).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table.trim_fmt() + "\n"
}

/// A number, or what stands in the place of an unknown one.
pub(super) fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_their_headings() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = render(&["NODE", "ROLE", ""], vec![row(["1", "leader", ""]), row(["2", "-", "no process, and more than there was"])]);
        assert_eq!(text, "NODE  ROLE\n1     leader\n2     -       no process, and more than there was\n");
        assert_eq!((number(Some(7)), number(None)), ("7".to_owned(), "-".to_owned()));
    }
}
