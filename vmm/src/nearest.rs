//! Suggestions for misspelled words.

/// " (do you mean 'X'?)" for the known word nearest to `word`; an empty text if none is near.
pub(crate) fn do_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let distance = |known| (strsim::damerau_levenshtein(word, known), known);
    match known.into_iter().map(distance).min() {
        // With more than half of its letters wrong it is another word.
        Some((distance, known)) if distance * 2 <= word.len() => {
            format!(" (do you mean '{known}'?)")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_named_where_it_is_near() {
        let known = ["readonly", "cache", "bus"];
        assert_eq!(do_you_mean("reodonly", known), " (do you mean 'readonly'?)");
        assert_eq!(do_you_mean("bsu", known), " (do you mean 'bus'?)");
        assert_eq!(do_you_mean("format", known), "");
        assert_eq!(do_you_mean("", known), "");
    }
}
