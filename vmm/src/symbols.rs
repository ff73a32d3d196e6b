//! Names for addresses of the guest's code.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use addr2line::Loader;

/// The user's file has no symbols.
#[derive(Debug, thiserror::Error)]
#[error("--symbols {}: {why}; give an ELF file with symbols, such as vmlinux", path.display())]
pub struct SymbolsError {
    path: PathBuf,
    why: String,
}

/// The symbols of one ELF file, and the names that were looked up.
#[derive(Default)]
pub(crate) struct Symbols {
    loader: Option<Loader>,
    known: HashMap<u64, Option<String>>,
}

/// The most addresses that are kept.
const KNOWN_MAX: usize = 4096;
/// The most functions that are named for one address.
const FRAMES_MAX: usize = 4;

impl Symbols {
    /// The symbols of the ELF file at `path`.
    ///
    /// # Errors
    ///
    /// Why it has none.
    pub(crate) fn of(path: &Path) -> Result<Self, String> {
        let loader = Loader::new(path).map_err(|error| error.to_string())?;
        Ok(Self { loader: Some(loader), known: HashMap::new() })
    }

    /// The symbols of the file that the user gave, or else those of the kernel, if it has any.
    ///
    /// # Errors
    ///
    /// If the user's file has none.
    pub(crate) fn of_guest(
        given: Option<&Path>,
        kernel: Option<&Path>,
    ) -> Result<Self, SymbolsError> {
        match given {
            Some(path) => Self::of(path).map_err(|why| SymbolsError { path: path.to_owned(), why }),
            // A kernel without symbols is no mistake.
            None => Ok(kernel.and_then(|path| Self::of(path).ok()).unwrap_or_default()),
        }
    }

    /// The function at the virtual address. If there is debug information: with file and line, and with the functions into
    /// which the compiler put it.
    pub(crate) fn name(&mut self, rip: u64) -> Option<String> {
        let loader = self.loader.as_ref()?;
        // The crate looks for what begins below the next address.
        rip.checked_add(1)?;
        if let Some(name) = self.known.get(&rip) {
            return name.clone();
        }
        if self.known.len() == KNOWN_MAX {
            // A guest may jump anywhere.
            self.known.clear();
        }
        let name = frames(loader, rip).or_else(|| {
            let function = loader.find_symbol(rip)?;
            Some(addr2line::demangle_auto(function.into(), None).into_owned())
        });
        self.known.insert(rip, name.clone());
        name
    }
}

/// The functions at `rip` with file and line, the innermost one first. None without debug information.
fn frames(loader: &Loader, rip: u64) -> Option<String> {
    let mut frames = loader.find_frames(rip).ok()?;
    let mut names = Vec::new();
    while names.len() < FRAMES_MAX
        && let Ok(Some(frame)) = frames.next()
    {
        let Some(function) = frame.function else { continue };
        let function = function.demangle().ok()?.into_owned();
        let line = frame.location.and_then(|location| {
            let file = Path::new(location.file?).file_name()?.to_str()?;
            Some(format!(" ({file}:{})", location.line?))
        });
        names.push(function + &line.unwrap_or_default());
    }
    (!names.is_empty()).then(|| names.join(" in "))
}

#[cfg(test)]
mod tests {
    use object::{Object, ObjectSymbol};

    use super::*;

    #[test]
    fn an_address_has_a_function_a_file_and_a_line() {
        let path = std::env::current_exe().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let is_it = |name: &str| name.contains("an_address_has_a_function_a_file_and_a_line");
        let symbol = file.symbols().find(|symbol| symbol.name().is_ok_and(is_it)).unwrap();
        let mut symbols = Symbols::of(&path).unwrap();
        let name = symbols.name(symbol.address()).unwrap();
        assert!(is_it(&name) && name.contains("(symbols.rs:"), "{name}");
        // The second time it is known.
        assert_eq!(symbols.name(symbol.address()), Some(name));
        assert_eq!(symbols.name(u64::MAX), None);
    }

    #[test]
    fn a_file_without_symbols_is_an_error_only_when_it_is_no_elf_file() {
        assert!(Symbols::of(Path::new("/proc/version")).is_err());
        assert_eq!(Symbols::default().name(0x1000), None);
    }
}
