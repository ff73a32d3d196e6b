//! docs/write-a-driver.md, step by step: its code compiles, its commands run, and cafevm says what the text shows.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cafevm_guest_tests::{Failed, Outcome, Scratch, ensure, tests};

tests! { needs ["gcc", "make"]; each_step_does_what_the_tutorial_shows }

const PROGRAM: &str = env!("CARGO_BIN_EXE_cafevm-under-test");
const TUTORIAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/write-a-driver.md");
/// What is left out of the output.
const GAP: &str = "[...]";

fn each_step_does_what_the_tutorial_shows() -> Outcome {
    let mut reader = Reader::new()?;
    let text = fs::read_to_string(TUTORIAL)?;
    let mut languages = HashSet::new();
    for (language, block) in blocks(&text) {
        match language {
            "sh" => reader.prepare(block)?,
            "c" => reader.edit(block)?,
            "console" => reader.try_all(block)?,
            other => return Err(format!("a block of the unknown kind {other}").into()),
        }
        languages.insert(language);
    }
    ensure!(languages.len() == 3, "blocks of the kinds {languages:?} only");
    ensure!(reader.missing.is_empty(), "{}", reader.missing.join("\n"));
    Ok(())
}

/// The fenced blocks of a Markdown text: the language and the content, without its last newline.
fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let fenced = text.split("\n```").skip(1).step_by(2);
    fenced.filter_map(|block| block.split_once('\n'))
}

/// Someone who follows the tutorial.
struct Reader {
    scratch: Scratch,
    /// Has `cafevm`.
    path: String,
    /// The functions and variables of the first shell block.
    functions: String,
    /// What the output lacks.
    missing: Vec<String>,
}

impl Reader {
    fn new() -> Result<Self, Failed> {
        let scratch = Scratch::new()?;
        let bin = scratch.path("bin");
        fs::create_dir(&bin)?;
        symlink(PROGRAM, bin.join("cafevm"))?;
        let path = format!("{}:{}", bin.display(), std::env::var("PATH")?);
        Ok(Self { scratch, path, functions: String::new(), missing: Vec::new() })
    }

    fn kernel(&self) -> PathBuf {
        self.scratch.path("k")
    }

    fn shell(&self, script: &str, dir: &Path) -> Result<Output, Failed> {
        let mut bash = Command::new("bash");
        bash.args(["-c", script]).current_dir(dir).stdin(Stdio::null());
        bash.env("PATH", &self.path).env("NO_COLOR", "1").env_remove("MAKEFLAGS");
        Ok(bash.output()?)
    }

    /// Runs a shell block, and keeps what it defines.
    fn prepare(&mut self, block: &str) -> Outcome {
        let output = self.shell(block, &self.scratch.path(""))?;
        ensure!(output.status.success(), "{block}: {output:?}");
        let start = block.find("try()").ok_or("the shell block defines no function 'try'")?;
        block[start..].clone_into(&mut self.functions);
        Ok(())
    }

    /// Applies a block of C, whose first line says where, and compiles the kernel.
    fn edit(&self, block: &str) -> Outcome {
        let (first, code) = block.split_once('\n').ok_or("an empty block of C")?;
        let place = first.strip_prefix("/* ").and_then(|first| first.strip_suffix(" */"));
        let (file, place) = place.and_then(|place| place.split_once(": ")).ok_or(first)?;
        let (file, code) = (self.kernel().join(file), &format!("{code}\n"));
        let text = fs::read_to_string(&file)?;
        let text = if place == "the whole file" {
            code.clone()
        } else if let Some(rest) =
            place.strip_prefix("instead of the lines from \"return 0;\" on in ")
        {
            let (start, end) = function(&text, rest).ok_or(first)?;
            let from = start + text[start..end].find("    return 0;\n").ok_or(first)?;
            [&text[..from], code, &text[end..]].concat()
        } else {
            let name = place.strip_prefix("instead of ").ok_or(first)?;
            let (start, end) = function(&text, name).ok_or(first)?;
            [&text[..start], code, &text[end..]].concat()
        };
        fs::write(&file, text)?;
        let made = self.shell("make --silent kernel.elf", &self.kernel())?;
        ensure!(made.status.success() && made.stderr.is_empty(), "{first}: {made:?}");
        Ok(())
    }

    /// Runs the commands of a block, and compares their output with the lines below each.
    fn try_all(&mut self, block: &str) -> Outcome {
        for part in block.split("$ ").filter(|part| part.contains('\n')) {
            // "$ " may also stand inside a command or a line, but no such text is in the tutorial.
            let (command, expected) = part.split_once('\n').unwrap_or((part, ""));
            let script = format!("{}\n{command}", self.functions);
            let output = self.shell(&script, &self.kernel())?;
            let all = [output.stdout, output.stderr].concat();
            let all = without_times(&String::from_utf8_lossy(&all));
            for line in without_times(expected).lines().filter(|line| line.trim() != GAP) {
                if !line.trim().is_empty() && !all.lines().any(|found| matches(line, found)) {
                    self.missing.push(format!("$ {command}\nlacks: {line}\nin:\n{all}"));
                }
            }
        }
        Ok(())
    }
}

/// The place of a function in a C file: from its first line to after its last one.
fn function(text: &str, name: &str) -> Option<(usize, usize)> {
    let call = format!("{name}(");
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.contains(&call) && line.ends_with("{\n") && !line.starts_with(' ') {
            return Some((at, at + text[at..].find("\n}\n")? + 3));
        }
        at += line.len();
    }
    None
}

/// Whether an output has a line of the tutorial: its parts between gaps, in their order. Before it may be the time and
/// the vCPU of a trace.
fn matches(expected: &str, found: &str) -> bool {
    let mut rest = found;
    for part in expected.split(GAP).map(str::trim_end) {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    expected.trim_end().ends_with(GAP) || rest.trim_end().is_empty()
}

/// Durations differ in every run: "(43.0 us)".
fn without_times(text: &str) -> String {
    let mut parts = text.split(" us)");
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = all.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        all.truncate(digits);
        all.push_str("us)");
        all.push_str(part);
    }
    all
}
