//! Prints the help, the shell completions and the man page.

use std::io::{self, ErrorKind, Write};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::error::HostError;

/// Writes the text to standard output. A reader that closes the pipe early is no failure.
///
/// # Errors
///
/// If standard output fails.
pub(super) fn print(text: &[u8]) -> Result<(), HostError> {
    let mut stdout = io::stdout();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(HostError::os("write to standard output")(error))
        }
        _ => Ok(()),
    }
}

/// The completions for a shell.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cafevm", &mut text);
    text
}

/// The man page of a command, or of cafevm itself.
///
/// # Errors
///
/// None: writing to memory does not fail.
pub(super) fn man(command: Option<&str>) -> Result<Vec<u8>, HostError> {
    let mut cli = Cli::command().disable_help_subcommand(true);
    // Sets names such as cafevm-run, to which the pages refer.
    cli.build();
    let page = command.and_then(|name| cli.find_subcommand(name)).unwrap_or(&cli).clone();
    let mut text = Vec::new();
    Man::new(page).render(&mut text).map_err(HostError::os("write the man page"))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_completions_know_the_flags() {
        let page = |name| String::from_utf8(man(name).unwrap()).unwrap();
        assert!(page(None).contains(".TH cafevm 1"), "{}", page(None));
        assert!(page(None).contains("cafevm\\-run(1)"), "{}", page(None));
        let run = page(Some("run"));
        for word in [".TH cafevm-run 1", "\\-\\-virtio\\-mmio", "Exit status:"] {
            assert!(run.contains(word), "{word}: {run}");
        }
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = String::from_utf8(completions(shell)).unwrap();
            assert!(text.contains("virtio-mmio") && text.contains("completions"), "{text}");
        }
    }
}
