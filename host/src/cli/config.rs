//! `switchboard config show` and `config check`.

use crate::config::{Config, Flags, Loaded};
use anyhow::Result;
use std::{io::Write, process::ExitCode};

/// The exit code for a configuration that is not valid.
pub(super) const INVALID: u8 = 2;

/// Loads the configuration, or says everything that is wrong with it.
pub(super) fn load(flags: &Flags) -> Result<std::result::Result<Loaded, ExitCode>> {
    match Config::load(flags, std::env::vars()) {
        Ok(loaded) => Ok(Ok(loaded)),
        Err(invalid) => {
            writeln!(std::io::stderr().lock(), "error: {invalid}")?;
            Ok(Err(ExitCode::from(INVALID)))
        }
    }
}

pub(super) fn show(flags: &Flags) -> Result<ExitCode> {
    let loaded = match load(flags)? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    write!(std::io::stdout().lock(), "{}", loaded.show())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn check(flags: &Flags) -> Result<ExitCode> {
    let loaded = match load(flags)? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "ok")?;
    if let Some(problem) = loaded.config.problem_of_serving() {
        writeln!(out, "note: `serve` would not start: {problem}")?;
    }
    Ok(ExitCode::SUCCESS)
}
