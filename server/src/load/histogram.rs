//! A histogram as lines of text: latencies in steps of equal ratio, with bars.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// Steps between the shortest and the longest latency.
const LINES_MAX: u32 = 20;
/// Length of the longest bar.
const BAR_CHARS: u64 = 50;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Longest latency of the step, in microseconds.
    pub(super) up_to_us: u64,
    /// Commands with a latency between that of the step before and this.
    pub(super) commands: u64,
}

/// The steps from the shortest to the longest latency; fewer than usual where those are near each other.
pub(super) fn lines(histogram: &Histogram<u64>) -> Vec<Line> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let (low, high) = (histogram.min().max(1) as f64, histogram.max().max(1) as f64);
    let step = |line: u32| low * (high / low).powf(f64::from(line) / f64::from(LINES_MAX));
    let mut lines: Vec<Line> = (1..=LINES_MAX).map(|line| Line { up_to_us: step(line).ceil() as u64, commands: 0 }).collect();
    lines.dedup();
    let last = lines.len() - 1;
    for recorded in histogram.iter_recorded() {
        let place = lines.partition_point(|line| line.up_to_us < recorded.value_iterated_to());
        lines[place.min(last)].commands += recorded.count_since_last_iteration();
    }
    lines
}

/// The lines as text.
pub(super) fn text(lines: &[Line]) -> String {
    let most = lines.iter().map(|line| line.commands).max().unwrap_or(0).max(1);
    let mut text = format!("{:>12} {:>12}\n", "up to ms", "commands");
    for line in lines {
        let bar = "#".repeat((line.commands * BAR_CHARS).div_ceil(most) as usize);
        let row = format!("{:>12.3} {:>12} {bar}", line.up_to_us as f64 / 1e3, line.commands);
        writeln!(text, "{}", row.trim_end()).expect("a string grows as needed");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[(u64, u64)]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000, 3).expect("bounds");
        values.iter().for_each(|(value, count)| histogram.record_n(*value, *count).expect("within bounds"));
        histogram
    }

    #[test]
    fn steps_have_equal_ratios_and_hold_everything() {
        let lines = lines(&histogram(&[(1, 5), (10, 1), (100, 70), (1024, 3), (1_000_000, 1)]));
        assert_eq!(lines.len(), 20);
        assert_eq!(lines.iter().map(|line| line.commands).sum::<u64>(), 80);
        assert_eq!((lines[0].up_to_us, lines[0].commands, lines[19].commands), (2, 5, 1));
        assert!(lines.windows(2).all(|pair| pair[0].up_to_us < pair[1].up_to_us));
    }

    #[test]
    fn equal_latencies_are_one_step() {
        assert_eq!(lines(&histogram(&[(250, 9)])), [Line { up_to_us: 250, commands: 9 }]);
        assert_eq!(lines(&histogram(&[(0, 9)])), [Line { up_to_us: 1, commands: 9 }]);
        assert_eq!(lines(&histogram(&[])), []);
    }

    #[test]
    fn bars_are_in_proportion_and_never_hide_a_command() {
        let lines = [(100, 1000), (200, 500), (300, 0), (400, 1)].map(|(up_to_us, commands)| Line { up_to_us, commands });
        let bars: Vec<usize> = text(&lines).lines().skip(1).map(|line| line.matches('#').count()).collect();
        assert_eq!(bars, [50, 25, 0, 1]);
    }
}
