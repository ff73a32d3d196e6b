//! `--doctor`: the mistakes of a driver, as they happen, with the place in the guest's code.
//!
//! ```text
//!  a device ──▶ Tap ──▶ cafevm_devices::doctor ── first finding of a rule ──▶ Reports ──▶ log, JSON
//!  an access without a device, a stall ──────────────────────────────────────▲
//! ```
//!
//! | question | file |
//! |---|---|
//! | How does a finding read? | `text.rs`, `json.rs` |

mod json;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cafevm_devices::doctor::{Count, Doctor, Finding};
use cafevm_devices::observe::Severity;

use crate::log;
use crate::symbols::Symbols;
use crate::trace::TraceError;
use crate::trace::sink::Sink;
use crate::vcpu::place;

/// What `--doctor` does.
#[derive(Debug, Clone)]
pub struct DoctorConfig {
    /// A file for the findings as JSON.
    pub json: Option<PathBuf>,
    /// An ELF file with the guest's symbols.
    pub symbols: Option<PathBuf>,
}

/// Where the guest is at a finding.
#[derive(Debug, Default)]
struct Place {
    cpu: Option<u32>,
    rip: Option<u64>,
    /// Function, file and line.
    name: Option<String>,
}

/// Reports findings.
pub struct Reports {
    doctor: Arc<Doctor>,
    out: Arc<Mutex<Out>>,
}

struct Out {
    symbols: Symbols,
    json: Option<Sink>,
}

impl Reports {
    /// Opens the files. `kernel` is the guest's ELF file, if it is one: its symbols are used if it has any.
    ///
    /// # Errors
    ///
    /// If a file cannot be used.
    pub fn open(config: &DoctorConfig, kernel: Option<&Path>) -> Result<Self, TraceError> {
        let symbols = Symbols::of_guest(config.symbols.as_deref(), kernel)?;
        let json = config.json.as_deref().map(|path| Sink::file("--doctor-json", path));
        let mut json = json.transpose()?;
        if let Some(json) = &mut json {
            json.write(&json::begin());
        }
        let out = Arc::new(Mutex::new(Out { symbols, json }));
        let sink = out.clone();
        let doctor = Doctor::new(move |finding| {
            sink.lock().unwrap_or_else(PoisonError::into_inner).report(finding);
        });
        Ok(Self { doctor: Arc::new(doctor), out })
    }

    /// Collects the findings: an observer of the devices.
    pub fn doctor(&self) -> Arc<Doctor> {
        self.doctor.clone()
    }

    /// Logs the summary, and ends the file. If the machine never ran, a file that was created for it is removed. Returns
    /// whether there are errors or warnings.
    pub fn finish(&self, ran: bool) -> bool {
        let counts = self.doctor.counts();
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(json) = &mut out.json {
            json.write(&json::end(&counts));
            if !ran {
                json.remove();
            }
        }
        if ran {
            log::lines(text::summary(&counts));
        }
        counts.iter().any(|count| count.rule.severity != Severity::Note)
    }
}

impl Out {
    fn report(&mut self, finding: &Finding<'_>) {
        let (cpu, rip) = (place::cpu(), place::rip());
        let name = rip.and_then(|rip| self.symbols.name(place::instruction(rip)));
        let place = Place { cpu, rip, name };
        log::lines(text::finding(finding, &place));
        if let Some(json) = &mut self.json {
            json.write(&json::finding(finding, &place));
        }
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports").field("doctor", &self.doctor).finish_non_exhaustive()
    }
}

/// The severity in a word.
const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// All severities, the worst first.
const SEVERITIES: [Severity; 3] = [Severity::Error, Severity::Warning, Severity::Note];

/// The number of rules that were broken, by severity, as in [`SEVERITIES`].
fn numbers(counts: &[Count]) -> [usize; 3] {
    SEVERITIES.map(|severity| counts.iter().filter(|count| count.rule.severity == severity).count())
}
