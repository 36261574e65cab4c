//! Patterns of KEYS, SCAN and RANGE, with the semantics of Redis's `stringmatchlen`, oddities included.
//! `*` any bytes, `?` one byte, `[abc]` one of a class, `[^a]` none of it, `[a-z]` a range in either order, `\x` the byte x.
//! A range goes by bytes from 0 to 255 everywhere; Redis compares C's `char`, which is signed on x86 and not on ARM.
//! Redis's matcher recurses, and takes exponential time on some patterns; this one goes back to the last `*` only, which is enough, and takes
//! at most pattern length times text length steps.

/// Whether the whole of `text` fits `pattern`.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Redis does not look at the pattern's stars when there is nothing to match; the lone star, all its callers know.
    if text.is_empty() {
        return pattern.is_empty() || pattern == b"*";
    }
    let (mut pattern_at, mut text_at) = (0, 0);
    // The pattern after the last `*`, and the first text position not yet tried for it.
    let mut retry: Option<(usize, usize)> = None;
    while text_at < text.len() {
        if pattern.get(pattern_at) == Some(&b'*') {
            pattern_at += 1;
            retry = Some((pattern_at, text_at + 1));
            continue;
        }
        match one(&pattern[pattern_at..], text[text_at]) {
            Some(length) => {
                pattern_at += length;
                text_at += 1;
            }
            None => {
                let Some((after_star, next)) = retry else { return false };
                (pattern_at, text_at) = (after_star, next);
                retry = Some((after_star, next + 1));
            }
        }
    }
    pattern[pattern_at..].iter().all(|byte| *byte == b'*')
}

/// The bytes every match begins with.
pub(super) fn literal_prefix(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\')).unwrap_or(pattern.len());
    &pattern[..end]
}

/// Matches one byte with the element at the front of the pattern, which is no `*`. Returns the element's length.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern {
        [b'?', ..] => Some(1),
        [b'[', ..] => class(pattern, byte),
        [b'\\', escaped, ..] => (escaped == byte).then_some(2),
        [literal, ..] => (literal == byte).then_some(1),
        [] => None,
    }
}

/// Matches one byte with the class at the front of the pattern. A class that is not closed ends with the pattern. `]` closes it wherever it
/// stands, but for the end of a range: in `[a-]` the range is from `a` to `]`.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = pattern.get(1) == Some(&b'^');
    let mut at = if negated { 2 } else { 1 };
    let mut found = false;
    let length = loop {
        match pattern[at.min(pattern.len())..] {
            [] => break pattern.len(),
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                at += 2;
            }
            [b']', ..] => break at + 1,
            [from, b'-', to, ..] => {
                found |= (from.min(to)..=from.max(to)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= literal == byte;
                at += 1;
            }
        }
    };
    (found != negated).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("*", "", true),
            ("**", "", false),
            ("*", "anything", true),
            ("**", "a", true),
            ("a*", "a", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbcd", false),
            ("*b*", "abc", true),
            ("*abc", "ababc", true),
            ("a*b*c", "aXbYbZc", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("?", "", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-c]llo", "hdllo", false),
            ("[]", "a", false),
            ("[^]", "a", true),
            ("[abc", "b", true),
            ("[abc", "bc", false),
            ("[a-", "-", true),
            ("[a-]", "]", true),
            ("[a-]", "b", false),
            ("[\\]]", "]", true),
            ("[\\a-c]", "-", true),
            ("[a\\", "\\", true),
            ("[", "[", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("\\a", "a", true),
            ("a\\?c", "a?c", true),
            ("user:*:name", "user:17:name", true),
            ("user:*:name", "user:17:names", false),
            ("aa[bc]*[0-9]", "aac-x7", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn bytes_need_not_be_text() {
        assert!(matches(b"\xff*\0", b"\xff\x80\0"));
        assert!(matches(b"[\x80-\xff]", b"\xc0"));
    }

    #[test]
    fn hostile_patterns_take_polynomial_time() {
        let text = vec![b'a'; 10_000];
        let pattern = b"*a".repeat(20);
        assert!(matches(&pattern, &text));
        assert!(!matches(&[&pattern[..], b"b"].concat(), &text));
    }

    #[test]
    fn literal_prefix_ends_at_the_first_special_byte() {
        for (pattern, prefix) in [("abc", "abc"), ("abc*", "abc"), ("a?c", "a"), ("a[b", "a"), ("a\\*", "a"), ("*", ""), ("", "")] {
            assert_eq!(literal_prefix(pattern.as_bytes()), prefix.as_bytes(), "{pattern}");
        }
    }
}
