//! Drawing a history: a list of operations, and lanes with a bar for each, as text and as an HTML page that needs nothing else.
//! Lanes are per client, one more where a client's operations overlap. The horizontal axis is the order of calls and returns, not their
//! distance: what matters is who came before whom, and the list has the times, in milliseconds.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::search::Span;

/// How an operation stands to the longest beginning of the history that has an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It had returned by then.
    Placed,
    /// It returned next, and cannot be placed.
    Stuck,
    /// It was still pending, or its outcome is unknown.
    Pending,
}

impl Mark {
    const fn words(self) -> &'static str {
        match self {
            Self::Placed => "in the prefix",
            Self::Stuck => "NO PLACE",
            Self::Pending => "pending",
        }
    }

    const fn fill(self) -> char {
        match self {
            Self::Placed => '=',
            Self::Stuck => '#',
            Self::Pending => '-',
        }
    }

    const fn class(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Stuck => "stuck",
            Self::Pending => "pending",
        }
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) client: u32,
    pub(super) span: Span,
    pub(super) text: String,
    pub(super) mark: Mark,
}

/// A history to be drawn.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    pub(super) title: String,
    pub(super) notes: Vec<String>,
    pub(super) bars: Vec<Bar>,
}

/// A bar's place in the drawing.
struct Placed<'a> {
    /// Its number in the list, from 1.
    number: usize,
    bar: &'a Bar,
    /// Columns of call and return; that of a bar without a return is one beyond all.
    from: usize,
    to: usize,
}

/// Width of a column of the lanes in text.
const COLUMN_CHARS: usize = 4;
/// Width of a column of the lanes in HTML.
const COLUMN_PX: usize = 56;

impl Timeline {
    /// The drawing as text.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for note in &self.notes {
            writeln!(text, "{note}").expect(INFALLIBLE);
        }
        text.push('\n');
        for (number, bar) in (1..).zip(&self.bars) {
            let (mark, times, client) = (bar.mark.words(), times(bar.span), bar.client);
            writeln!(text, "{number:>4}  {mark:<13}  client {client:<4}  {times:<27}  {}", bar.text).expect(INFALLIBLE);
        }
        text.push_str("\nlanes, in the order of calls [ and returns ]; = in the prefix, # no place, - pending or unknown\n");
        for (client, lane) in self.lanes() {
            let mut line: Vec<char> = Vec::new();
            for placed in lane {
                let (from, to) = (placed.from * COLUMN_CHARS, placed.to * COLUMN_CHARS);
                line.resize(from, ' ');
                line.push('[');
                line.resize(to, placed.bar.mark.fill());
                line.push(if placed.bar.span.return_ns.is_some() { ']' } else { '>' });
                for (at, digit) in (from + 1..to).zip(placed.number.to_string().chars()) {
                    line[at] = digit;
                }
            }
            writeln!(text, "client {client:<4}  {}", line.into_iter().collect::<String>()).expect(INFALLIBLE);
        }
        text
    }

    /// The drawing as an HTML page; pointing at a bar shows the operation.
    pub(super) fn html(&self) -> String {
        let title = escaped(&self.title);
        let mut page = format!("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n{STYLE}</head>\n");
        writeln!(page, "<body><h1>{title}</h1>").expect(INFALLIBLE);
        for note in &self.notes {
            writeln!(page, "<p>{}</p>", escaped(note)).expect(INFALLIBLE);
        }
        page.push_str("<div class=\"lanes\">\n");
        for (client, lane) in self.lanes() {
            writeln!(page, "<div class=\"lane\"><b>client {client}</b>").expect(INFALLIBLE);
            for Placed { number, bar, from, to } in lane {
                let (left, width) = (from * COLUMN_PX, (to - from) * COLUMN_PX);
                let open = if bar.span.return_ns.is_some() { "" } else { " open" };
                let (class, text, times, words) = (bar.mark.class(), escaped(&bar.text), times(bar.span), bar.mark.words());
                let style = format!("left:calc(6em + {left}px);width:{width}px");
                let title = format!("{number}. {text}\n{times} ms\n{words}");
                writeln!(page, "<span class=\"{class}{open}\" style=\"{style}\" title=\"{title}\">{number} {text}</span>")
                    .expect(INFALLIBLE);
            }
            page.push_str("</div>\n");
        }
        page.push_str("</div>\n<table><tr><th></th><th>client</th><th>ms</th><th>operation</th><th></th></tr>\n");
        for (number, bar) in (1..).zip(&self.bars) {
            let (class, words, client) = (bar.mark.class(), bar.mark.words(), bar.client);
            let (times, text) = (times(bar.span), escaped(&bar.text));
            let row = format!("<td>{number}</td><td>{client}</td><td>{times}</td><td>{text}</td><td>{words}</td>");
            writeln!(page, "<tr class=\"{class}\">{row}</tr>").expect(INFALLIBLE);
        }
        page.push_str("</table></body></html>\n");
        page
    }

    /// Bars in lanes, with the client of each lane.
    fn lanes(&self) -> Vec<(u32, Vec<Placed<'_>>)> {
        let ends = |bar: &Bar| [Some(bar.span.call_ns), bar.span.return_ns];
        let mut times: Vec<u64> = self.bars.iter().flat_map(ends).flatten().collect();
        times.sort_unstable();
        times.dedup();
        let column = |at_ns: u64| times.partition_point(|time| *time < at_ns);
        let mut clients: BTreeMap<u32, Vec<Vec<Placed<'_>>>> = BTreeMap::new();
        let mut bars: Vec<(usize, &Bar)> = (1..).zip(&self.bars).collect();
        bars.sort_by_key(|(_, bar)| bar.span.call_ns);
        for (number, bar) in bars {
            let from = column(bar.span.call_ns);
            // A bar is at least one column wide, also when time stood still.
            let to = bar.span.return_ns.map_or(times.len(), column).max(from + 1);
            let lanes = clients.entry(bar.client).or_default();
            let free = lanes.iter().position(|lane| lane.last().is_none_or(|last| last.to < from));
            let lane = free.unwrap_or_else(|| {
                lanes.push(Vec::new());
                lanes.len() - 1
            });
            lanes[lane].push(Placed { number, bar, from, to });
        }
        clients.into_iter().flat_map(|(client, lanes)| lanes.into_iter().map(move |lane| (client, lane))).collect()
    }
}

const INFALLIBLE: &str = "a text takes what is written to it";

const STYLE: &str = "<style>
body{font:14px sans-serif;margin:2em}
.lanes{overflow-x:auto;margin:1em 0}
.lane{position:relative;height:2em;white-space:nowrap}
.lane b{font-weight:normal}
.lane span{position:absolute;top:.1em;height:1.6em;line-height:1.6em;overflow:hidden;text-overflow:ellipsis;
box-sizing:border-box;border:1px solid #555;border-radius:3px;padding:0 .3em}
.lane span.open{border-right:none;border-radius:3px 0 0 3px}
.placed{background:#cfe8cf}.stuck{background:#f3b0b0}.pending{background:#e4e4e4}
td,th{text-align:left;padding:.2em .8em;vertical-align:top;font-family:monospace}
td:nth-child(4){word-break:break-all}
</style>";

fn times(span: Span) -> String {
    let millis = |at_ns: u64| format!("{}.{:06}", at_ns / 1_000_000, at_ns % 1_000_000);
    format!("{} .. {}", millis(span.call_ns), span.return_ns.map(millis).unwrap_or_default())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
