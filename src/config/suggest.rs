//! The valid word that was probably meant.

/// A clause that helps with `wrong`: the nearest of `known`, else all of `valid`.
pub(super) fn instead<'a>(
    wrong: &str,
    known: impl Iterator<Item = &'a str>,
    valid: impl Iterator<Item = &'a str>,
) -> String {
    if let Some(nearest) = nearest(wrong, &known.collect::<Vec<_>>()) {
        return format!("did you mean \"{nearest}\"?");
    }
    let mut valid: Vec<&str> = valid.collect();
    if valid.is_empty() {
        return "none is defined".to_owned();
    }
    valid.sort_unstable();
    format!("valid: {}", valid.join(", "))
}

/// The nearest word, when it is near enough to be a slip: 0.8 lets "retrys" find "retry" and keeps "x" alone.
fn nearest<'a>(wrong: &str, valid: &[&'a str]) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let likeness = |word: &&str| strsim::jaro_winkler(&wrong, &word.to_lowercase());
    let best = valid.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= 0.8).then_some(*best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word() {
        let valid = ["retry", "timeout", "attempt_timeout"];
        assert_eq!(instead("retrys", valid.into_iter(), valid.into_iter()), "did you mean \"retry\"?");
        assert_eq!(instead("time_out", valid.into_iter(), valid.into_iter()), "did you mean \"timeout\"?");
    }

    #[test]
    fn a_word_like_no_other_gets_the_list() {
        assert_eq!(instead("qqq", ["b", "a", "z"].into_iter(), ["b", "a"].into_iter()), "valid: a, b");
    }
}
