//! Rust text without what only looks like code: comments and strings are blanked, lines stay.

/// The same text with comments, strings and characters replaced by blanks.
pub(crate) fn code(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while let Some(&c) = bytes.get(i) {
        let next = bytes.get(i + 1).copied();
        let end = match (c, next) {
            ('/', Some('/')) => until(&bytes, i, |b, j| b[j] == '\n'),
            ('/', Some('*')) => block(&bytes, i),
            ('"', _) => string(&bytes, i),
            ('r', Some('"' | '#')) if !follows_word(&bytes, i) => raw(&bytes, i),
            ('\'', _) => character(&bytes, i),
            _ => i,
        };
        if end == i {
            out.push(c);
            i += 1;
        } else {
            out.extend(bytes.iter().take(end).skip(i).map(|c| if *c == '\n' { '\n' } else { ' ' }));
            i = end;
        }
    }
    out
}

/// Where the tests of a file begin: rules about layers are for the product.
pub(crate) fn before_tests(code: &str) -> &str {
    code.split("#[cfg(test)]\nmod tests {").next().unwrap_or(code)
}

/// Is `word` here as a whole word? Returns the 1-based line of each place.
pub(crate) fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let whole = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line.get(..at).and_then(|s| s.chars().next_back());
            let after = line.get(at + word.len()..).and_then(|s| s.chars().next());
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
    };
    code.lines().enumerate().filter(|(_, line)| whole(line)).map(|(n, _)| n + 1).collect()
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn follows_word(b: &[char], i: usize) -> bool {
    i > 0 && b.get(i - 1).copied().is_some_and(is_word)
}

fn until(b: &[char], from: usize, end: impl Fn(&[char], usize) -> bool) -> usize {
    (from..b.len()).find(|j| end(b, *j)).unwrap_or(b.len())
}

fn block(b: &[char], from: usize) -> usize {
    let (mut depth, mut i) = (0, from);
    while i < b.len() {
        match (b.get(i), b.get(i + 1)) {
            (Some('/'), Some('*')) => (depth, i) = (depth + 1, i + 2),
            (Some('*'), Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    b.len()
}

fn string(b: &[char], from: usize) -> usize {
    let mut i = from + 1;
    while let Some(c) = b.get(i) {
        match c {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    b.len()
}

fn raw(b: &[char], from: usize) -> usize {
    let hashes = b.iter().skip(from + 1).take_while(|c| **c == '#').count();
    let open = from + 1 + hashes;
    if b.get(open) != Some(&'"') {
        // A raw identifier.
        return from;
    }
    let closes = |j: usize| {
        b.get(j) == Some(&'"') && b.iter().skip(j + 1).take_while(|c| **c == '#').count() >= hashes
    };
    (open + 1..b.len()).find(|j| closes(*j)).map_or(b.len(), |j| j + 1 + hashes)
}

/// A character or byte, not a lifetime.
fn character(b: &[char], from: usize) -> usize {
    match (b.get(from + 1), b.get(from + 2)) {
        (Some('\\'), _) => until(b, from + 3, |b, j| b[j] == '\'').saturating_add(1).min(b.len()),
        (Some(_), Some('\'')) => from + 3,
        _ => from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blank_and_lines_stay() {
        let text = "let a = \"unsafe\"; // unsafe\n/* unsafe /* */ unsafe\n*/ let b = r#\"unsafe\"#; 'x' '\\'' 'a: unsafe";
        let code = code(text);
        assert_eq!(code.lines().count(), text.lines().count());
        assert_eq!(lines_with_word(&code, "unsafe"), [3]);
    }

    #[test]
    fn only_whole_words_count() {
        assert_eq!(lines_with_word("unsafe_code\nmy_unsafe\nunsafe {", "unsafe"), [3]);
    }
}
