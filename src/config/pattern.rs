//! Strings in which `*` stands for any characters.

/// Whether `text` is like `pattern`. Takes time in proportion to the product of their lengths at worst.
pub fn is_like(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return text == pattern };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let Some((middle, last)) = rest.rsplit_once('*') else { return text.ends_with(rest) };
    for piece in middle.split('*') {
        // The first place is as good as any: what follows has most room behind it.
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_also_for_none() {
        for (text, pattern) in [
            ("", ""),
            ("", "*"),
            ("a", "*"),
            ("a", "a*"),
            ("ab", "a*b"),
            ("aab", "a*ab"),
            ("/kubepods/checkout-1", "*/checkout*"),
            ("abcbd", "a*b*d"),
            ("aa", "a**a"),
            ("spiffe://p/node/a", "spiffe://p/node/*"),
        ] {
            assert!(is_like(text, pattern), "{text} {pattern}");
        }
        for (text, pattern) in [
            ("a", ""),
            ("", "a"),
            ("a", "a*a"),
            ("ab", "a"),
            ("ba", "a*"),
            ("abc", "a*b"),
            ("ab", "a*b*b"),
            ("A", "a"),
        ] {
            assert!(!is_like(text, pattern), "{text} {pattern}");
        }
    }
}
