//! `switchboard serve`.

use super::{config, run};
use crate::config::Flags;
use anyhow::Result;
use axum::Router;
use std::{io::Write, process::ExitCode};

pub(super) fn serve(flags: &Flags) -> Result<ExitCode> {
    let mut loaded = match config::load(flags)? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    if let Some(problem) = loaded.config.problem_of_serving() {
        writeln!(std::io::stderr().lock(), "error: {problem}")?;
        return Ok(ExitCode::from(config::INVALID));
    }
    loaded.config.choose_backend();
    run::log(&loaded.config, "info");
    run::run(
        loaded.config,
        Some(flags.clone()),
        Router::new(),
        |_| async {},
    )
}
