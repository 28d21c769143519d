//! `switchboard cluster status`: which hosts share a Redis, and how they are.

use super::config;
use crate::{
    cluster::status::{self, About},
    config::Flags,
    link::wait::version_problem,
};
use anyhow::{Context, Result, bail};
use std::{io::Write, process::ExitCode, time::Duration};

pub(super) fn status(flags: &Flags) -> Result<ExitCode> {
    let loaded = match config::load(flags)? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let redis = loaded.config.redis;
    if !redis.is_set() {
        bail!(
            "no Redis is configured (redis.url or REDIS_URL, redis.host or REDIS_HOST): a host without one is alone"
        );
    }
    let (place, keys) = (redis.place(), redis.keys());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let cannot = || format!("Redis at {place} cannot be asked ({keys})");
    let health = runtime.block_on(status::redis_health(&redis));
    let health = health.with_context(cannot)?;
    let hosts = runtime.block_on(status::hosts(&redis));
    let hosts = hosts.with_context(cannot)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "Redis {} at {place}: {}, {} of memory, answers in {:.1} ms{}",
        health.version,
        health.role,
        health.memory,
        health.took.as_secs_f64() * 1_000.0,
        version_problem(&health.version).map_or(String::new(), |problem| format!("; {problem}")),
    )?;
    writeln!(out)?;
    for (node, about) in &hosts {
        write_host(&mut out, node, about)?;
    }
    let connections: usize = hosts.iter().map(|(_, about)| about.connections).sum();
    let word = if hosts.len() == 1 { "host" } else { "hosts" };
    writeln!(out, "{} {word}, {connections} connections", hosts.len())?;
    let others = hosts.len().saturating_sub(1);
    let unsure = hosts.iter().filter(|(_, about)| about.others != others);
    for (_, about) in unsure {
        writeln!(
            out,
            "{} knows of {} other hosts, and {others} answered",
            about.address, about.others
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_host(out: &mut impl Write, node: &str, about: &About) -> Result<()> {
    writeln!(
        out,
        "{}  {} connections, version {}, up {}, lease {node}",
        about.address,
        about.connections,
        about.version,
        humantime::format_duration(Duration::from_secs(about.seconds)),
    )?;
    for plugin in &about.plugins {
        writeln!(
            out,
            "  {} {} ({})",
            plugin.name, plugin.version, plugin.digest
        )?;
    }
    writeln!(out)?;
    Ok(())
}
