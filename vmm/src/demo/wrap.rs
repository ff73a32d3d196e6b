//! Long lines of the story in 80 columns.

/// The column at which the meaning of a register's value begins, as `trace::text` prints it.
const MEANING: usize = 43;
const COLUMNS: usize = 80;

/// The line in pieces of at most 80 columns, broken at spaces. Later pieces of a register's line align with the meaning of
/// its value; those of another indented line are indented a little more than its beginning.
pub(super) fn wrapped(line: &str) -> String {
    let indent_of_line = line.len() - line.trim_start().len();
    let is_register =
        line.get(MEANING - 2..).is_some_and(|rest| rest.starts_with("  ")) && line.contains(" 0x");
    let further = match (is_register, indent_of_line) {
        (true, _) => MEANING,
        (false, 0) => 0,
        (false, indent) => indent + 2,
    };
    let (mut text, mut rest, mut indent) = (String::new(), line, 0);
    while indent + rest.chars().count() > COLUMNS {
        let room = rest.char_indices().nth(COLUMNS - indent).map_or(rest.len(), |(at, _)| at);
        let space = rest.get(..=room).and_then(|head| head.trim_end().rfind(' '));
        let Some(at) = space.filter(|at| indent > 0 || *at >= further) else { break };
        let (head, tail) = rest.split_at(at);
        text.extend([" ".repeat(indent).as_str(), head.trim_end(), "\n"]);
        (rest, indent) = (tail.trim_start(), further);
    }
    text + &" ".repeat(indent) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_goes_on_below_in_80_columns() {
        assert_eq!(wrapped("  short"), "  short");
        let words = "word ".repeat(30);
        let register = format!("  virtio0 -> {:17} {:#010x}  ", "Status", 1);
        assert_eq!(register.len(), MEANING);
        for (begin, further) in [(register.as_str(), 43), ("  ", 4), ("", 0), ("    it is ", 6)] {
            let long = format!("{begin}{}", words.trim_end());
            let text = wrapped(&long);
            assert!(text.lines().all(|line| line.len() <= 80), "{text}");
            let indented = |line: &str| line.find("word") == Some(further);
            assert!(text.lines().count() > 1 && text.lines().skip(1).all(indented), "{text}");
            assert!(text.split_whitespace().eq(long.split_whitespace()), "{text}");
        }
        let one_word = "x".repeat(100);
        assert_eq!(wrapped(&one_word), one_word);
    }
}
