//! A guest to be booted in this process, and what came of it.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cafevm::boot::KernelSource;
use cafevm::cli::spec;
use cafevm::config::{VmConfig, WrapStorage};
use cafevm::console::{Input, Output};
use cafevm::exit::Verdict;
use cafevm::run::{Console, run};
use cafevm::vcpu::exits::Exits;

use crate::{Failed, Image, Outcome, engine, ensure, extra, fail};

/// Far longer than any guest of these tests takes, also where KVM emulates it and others use the host.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A guest to be booted.
#[derive(Debug)]
pub struct Guest {
    config: VmConfig,
    specs: Vec<String>,
    input: Vec<u8>,
    storage: Option<WrapStorage>,
    is_alone: bool,
}

impl Guest {
    /// A machine with one vCPU and 128 MiB that boots this ELF file.
    pub fn new(elf: impl Into<Cow<'static, [u8]>>) -> Self {
        let kernel = KernelSource::Bytes { name: "(test guest)".to_owned(), bytes: elf.into() };
        let config = VmConfig { timeout: Some(TIME_LIMIT), ..VmConfig::new(kernel) };
        Self { config, specs: Vec::new(), input: Vec::new(), storage: None, is_alone: false }
    }

    /// The built-in shell, with these commands in its command line.
    pub fn shell(commands: &str) -> Self {
        Self::new(cafevm_resources::SHELL).cmdline(&format!("sh=\"{commands}\""))
    }

    /// Adds words to the command line.
    #[must_use]
    pub fn cmdline(mut self, words: &str) -> Self {
        let line = &mut self.config.command_line;
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(words);
        self
    }

    /// Attaches an image as a virtio disk.
    #[must_use]
    pub fn virtio(self, image: &Image) -> Self {
        self.disk(image, "bus=virtio")
    }

    /// Attaches an image as the svirtb disk.
    #[must_use]
    pub fn svirtb(self, image: &Image) -> Self {
        self.disk(image, "bus=svirtb")
    }

    /// Attaches an image as `--disk path=IMAGE,KEYS` does.
    #[must_use]
    pub fn disk(self, image: &Image, keys: &str) -> Self {
        self.disk_at(image.path(), keys)
    }

    /// The same, with the file at `path`.
    #[must_use]
    pub fn disk_at(mut self, path: &Path, keys: &str) -> Self {
        let path = path.display().to_string().replace(',', ",,");
        self.specs.push(format!("path={path},{keys}"));
        self
    }

    /// Attaches a disk as `--disk TEXT` does.
    #[must_use]
    pub fn spec(mut self, text: impl Into<String>) -> Self {
        self.specs.push(text.into());
        self
    }

    /// What is sent to the serial port, as fast as the guest takes it.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Wraps the storage of each disk, in place of what the environment asks for.
    #[must_use]
    pub fn storage(mut self, wrap: WrapStorage) -> Self {
        self.storage = Some(wrap);
        self
    }

    /// Gives the machine no devices that only the environment asks for: for tests of which devices there are.
    #[must_use]
    pub const fn alone(mut self) -> Self {
        self.is_alone = true;
        self
    }

    /// Changes anything else of the machine.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut VmConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// If it could not be run at all. That a guest crashed or was stopped is seen in [`Run::verdict`].
    pub fn run(mut self) -> Result<Run, Failed> {
        for text in &self.specs {
            self.config.disks.push(spec::parse(text)?);
        }
        engine::apply(&mut self.config)?;
        if !self.is_alone {
            extra::apply(&mut self.config)?;
        }
        if self.storage.is_some() {
            self.config.disks.iter_mut().for_each(|disk| disk.storage = self.storage.clone());
        }
        let serial = Sink::default();
        let input = Input::Bytes(self.input);
        let console =
            Console { output: Output::Writer(Box::new(serial.clone())), input, signals: None };
        let report = run(&self.config, console)?;
        let bytes = serial.take();
        let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
        Ok(Run { verdict: report.verdict, exits: report.exits, text, bytes })
    }
}

/// How a guest ended, and what it did until then.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub verdict: Verdict,
    /// How often it left to the monitor.
    pub exits: Exits,
    /// What it sent to the serial port, with `\n` for each line's end.
    pub text: String,
    /// The same as it came.
    pub bytes: Vec<u8>,
}

impl Run {
    /// Fails unless the guest ended itself with code 0 and its scenarios were these, in this order, all passed.
    ///
    /// # Errors
    ///
    /// The difference, with the guest's whole output.
    pub fn passed(&self, scenarios: &[&str]) -> Outcome {
        self.ended(0)?;
        let failed = self.text.lines().find(|line| line.starts_with("FAIL"));
        ensure!(failed.is_none(), "a scenario failed, but the exit code shows success: {self}");
        let seen = self.scenarios();
        ensure!(seen == scenarios, "the scenarios were {seen:?}, not {scenarios:?}: {self}");
        Ok(())
    }

    /// The scenarios that passed.
    pub fn scenarios(&self) -> Vec<&str> {
        self.text.lines().filter_map(|line| line.strip_prefix("ok ")).collect()
    }

    /// Fails unless the guest ended itself with this code.
    ///
    /// # Errors
    ///
    /// How it ended, with its whole output.
    pub fn ended(&self, code: u32) -> Outcome {
        ensure!(
            self.verdict == Verdict::DebugExit(code),
            "it did not end with code {code}: {self}"
        );
        Ok(())
    }

    /// Fails unless the guest powered the machine off.
    ///
    /// # Errors
    ///
    /// How it ended instead, with its whole output.
    pub fn powered_off(&self) -> Outcome {
        ensure!(self.verdict == Verdict::PowerOff, "it did not power off: {self}");
        Ok(())
    }

    /// Fails unless the guest printed this line.
    ///
    /// # Errors
    ///
    /// Its whole output.
    pub fn printed(&self, line: &str) -> Outcome {
        ensure!(self.text.lines().any(|seen| seen == line), "it did not print '{line}': {self}");
        Ok(())
    }

    /// The guest's text after the first of these lines and up to the next of the other, both left out.
    ///
    /// # Errors
    ///
    /// If one of the lines is not there.
    pub fn between(&self, first: &str, next: &str) -> Result<&str, Failed> {
        let after = |text: &str, line: &str| {
            let start = text.strip_prefix(line).filter(|rest| rest.starts_with('\n')).map(|_| 0);
            let within = || text.find(&format!("\n{line}\n")).map(|at| at + 1);
            start.or_else(within)
        };
        let Some(from) = after(&self.text, first).map(|at| at + first.len() + 1) else {
            fail!("it did not print '{first}': {self}");
        };
        let rest = self.text.get(from..).unwrap_or_default();
        let Some(to) = after(rest, next) else { fail!("it did not print '{next}' then: {self}") };
        Ok(rest.get(..to).unwrap_or_default())
    }
}

/// All there is to know of a run that did not go as it should.
impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.verdict {
            Verdict::Crash(crash) => write!(f, "crashed: {}\n{}", crash.cause, crash.registers)?,
            other => write!(f, "{other:?}")?,
        }
        write!(f, "; {}; serial text:\n{}", self.exits, self.text)
    }
}

/// Bytes that a machine writes and a test reads afterwards.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, verdict: Verdict) -> Run {
        Run { verdict, exits: Exits::default(), text: text.to_owned(), bytes: Vec::new() }
    }

    #[test]
    fn only_a_run_of_the_scenarios_that_were_asked_for_has_passed() {
        let done = Verdict::DebugExit(0);
        assert!(run("ok a\nnote\nok b\n", done.clone()).passed(&["a", "b"]).is_ok());
        assert!(run("ok a\nok b\n", done.clone()).passed(&["a"]).is_err());
        assert!(run("ok a\n", done.clone()).passed(&["a", "b"]).is_err());
        assert!(run("ok a\nFAIL b: no\n", done.clone()).passed(&["a"]).is_err());
        assert!(run("", done).passed(&["a"]).is_err());
        for verdict in [Verdict::DebugExit(1), Verdict::TimedOut, Verdict::Reset] {
            assert!(run("ok a\n", verdict).passed(&["a"]).is_err());
        }
    }

    #[test]
    fn text_is_found_between_whole_lines() {
        let run = run("> a\nx\ny\n> b\n> bc\nz\n> c\n", Verdict::Reset);
        assert_eq!(run.between("> a", "> b").unwrap(), "x\ny\n");
        assert_eq!(run.between("> b", "> c").unwrap(), "> bc\nz\n");
        assert_eq!(run.between("> a", "x").unwrap(), "");
        assert!(run.between("> z", "> b").is_err());
        assert!(run.between("> c", "> b").is_err());
        assert!(run.printed("x").is_ok());
        assert!(run.printed("> ").is_err());
    }
}
