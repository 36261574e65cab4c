//! The matcher of patterns, compared with Redis's own, which recurses.
//! Input: the pattern with its length, then the text.

use redraft::command::glob;

use crate::input::Input;

/// Redis's matcher takes exponential time in the number of stars.
const STARS_MAX: usize = 4;
const BYTES_MAX: usize = 48;

pub(crate) fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let (pattern, text) = (input.string(), input.rest());
    let matched = glob::matches(pattern, text);
    let stars = pattern.iter().filter(|byte| **byte == b'*').count();
    if stars <= STARS_MAX && pattern.len() <= BYTES_MAX && text.len() <= BYTES_MAX {
        // Redis's callers take a lone star for everything.
        assert_eq!(matched, pattern == b"*" || string_match(pattern, text), "'{}' on '{}'", pattern.escape_ascii(), text.escape_ascii());
    }
}

/// `stringmatchlen` of Redis 7.2 (`util.c`), statement by statement, but for its case folding and its bound on recursion.
fn string_match(mut pattern: &[u8], mut text: &[u8]) -> bool {
    while !pattern.is_empty() && !text.is_empty() {
        match pattern[0] {
            b'*' => {
                while pattern.get(1) == Some(&b'*') {
                    pattern = &pattern[1..];
                }
                if pattern.len() == 1 {
                    return true;
                }
                while !text.is_empty() {
                    if string_match(&pattern[1..], text) {
                        return true;
                    }
                    text = &text[1..];
                }
                return false;
            }
            b'?' => text = &text[1..],
            b'[' => {
                pattern = &pattern[1..];
                let negated = pattern.first() == Some(&b'^');
                if negated {
                    pattern = &pattern[1..];
                }
                let mut found = false;
                // Redis steps back by one where the pattern ends, onto what stands before its end; here that is an empty rest.
                loop {
                    if pattern.len() >= 2 && pattern[0] == b'\\' {
                        pattern = &pattern[1..];
                        found |= pattern[0] == text[0];
                    } else if matches!(pattern.first(), Some(b']') | None) {
                        break;
                    } else if pattern.len() >= 3 && pattern[1] == b'-' {
                        let (low, high) = (pattern[0].min(pattern[2]), pattern[0].max(pattern[2]));
                        pattern = &pattern[2..];
                        found |= (low..=high).contains(&text[0]);
                    } else {
                        found |= pattern[0] == text[0];
                    }
                    pattern = &pattern[1..];
                }
                if found == negated {
                    return false;
                }
                text = &text[1..];
            }
            first => {
                let mut literal = first;
                if first == b'\\' && pattern.len() >= 2 {
                    pattern = &pattern[1..];
                    literal = pattern[0];
                }
                if literal != text[0] {
                    return false;
                }
                text = &text[1..];
            }
        }
        pattern = pattern.get(1..).unwrap_or_default();
        if text.is_empty() {
            while pattern.first() == Some(&b'*') {
                pattern = &pattern[1..];
            }
            break;
        }
    }
    pattern.is_empty() && text.is_empty()
}
