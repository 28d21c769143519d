//! `switchboard token`.

use super::config;
use crate::{auth::TokenMinter, config::Flags};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value};
use std::{io::Write, process::ExitCode, time::Duration};

#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// The user's id.
    #[arg(long, value_name = "ID")]
    user: String,
    /// The user's role.
    #[arg(long, value_name = "ROLE", default_value = "student")]
    role: String,
    /// How long the token lives, such as `1h` or `30s`.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    life: Duration,
    /// A claim more, as `NAME=JSON`, such as `enrolledCourses=["c1"]`; may be given several times.
    #[arg(long = "claim", value_name = "NAME=JSON")]
    claims: Vec<String>,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn token(args: TokenArgs) -> Result<ExitCode> {
    let loaded = match config::load(&args.flags)? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let Some(minter) = TokenMinter::from_config(&loaded.config.auth) else {
        bail!(
            "there is no secret to sign with: set auth.secret (or JWT_SECRET), and an HS algorithm in auth.algorithms"
        );
    };
    let mut claims = Map::new();
    for claim in &args.claims {
        let (name, value) = claim
            .split_once('=')
            .with_context(|| format!("--claim {claim}: expected NAME=JSON"))?;
        // A word that is not JSON is a text.
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        claims.insert(name.to_owned(), value);
    }
    let token = minter.mint(&args.user, &args.role, args.life, claims)?;
    writeln!(std::io::stdout().lock(), "{token}")?;
    Ok(ExitCode::SUCCESS)
}
