//! One line about wrong usage: which flag, which value, what to do.

use std::error::Error as _;
use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use crate::cli::Cli;
use crate::nearest::do_you_mean;

/// The line for an error of clap about `args`.
pub(super) fn line(error: &Error, args: &[OsString]) -> String {
    format!("{}; see '{} --help'", what(error), command(args))
}

/// The command to whose help the line refers.
fn command(args: &[OsString]) -> String {
    let given = args.get(1).and_then(|word| word.to_str());
    let known = given.filter(|word| Cli::command().find_subcommand(word).is_some());
    known.map_or_else(|| "cafevm".to_owned(), |word| format!("cafevm {word}"))
}

fn what(error: &Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.escape_debug().to_string()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ").escape_debug().to_string()),
        _ => None,
    };
    let flag = text(ContextKind::InvalidArg).unwrap_or_default();
    let flag = name(&flag);
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let what = if flag.starts_with('-') { "unknown flag" } else { "unexpected argument" };
            match text(ContextKind::SuggestedArg) {
                Some(word) => format!("{what} '{flag}' (do you mean '{word}'?)"),
                None => format!("{what} '{flag}'; leave it out"),
            }
        }
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let cli = Cli::command();
            let names: Vec<_> = cli.get_subcommands().map(clap::Command::get_name).collect();
            let hint = do_you_mean(&word, names.iter().copied());
            format!("unknown command '{word}'{hint}; the commands are {}", names.join(", "))
        }
        ErrorKind::ValueValidation => {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            format!("{flag} '{value}': {why}")
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("{flag} needs a value; give one"),
        ErrorKind::InvalidValue => {
            let known = text(ContextKind::ValidValue).unwrap_or_default();
            format!("{flag} '{value}': it is one of {known}")
        }
        ErrorKind::ArgumentConflict => match text(ContextKind::PriorArg) {
            Some(other) if name(&other) != flag => {
                format!("{} and {flag} mean the same; give one of them", name(&other))
            }
            _ => format!("{flag} is given twice; give it once"),
        },
        ErrorKind::TooManyValues => format!("{flag} takes no value; leave '{value}' out"),
        ErrorKind::MissingRequiredArgument => format!("{flag} is missing; give it"),
        ErrorKind::InvalidUtf8 => {
            "an argument is not UTF-8; only paths may have other bytes".to_owned()
        }
        // No flag of cafevm causes another kind. The first line is the error; the others are usage and tips.
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.strip_prefix("error: ").unwrap_or(first).to_owned()
        }
    }
}

/// The name alone of a flag that clap shows as `--memory <SIZE>`, `--doctor[=<deny>]`, `--verbose...` or `[KERNEL]`.
fn name(shown: &str) -> &str {
    let word = shown.split(' ').next().unwrap_or_default();
    let word = word.split("[=").next().unwrap_or_default();
    word.trim_end_matches("...").trim_matches(['<', '>', '[', ']'])
}
