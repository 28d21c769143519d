//! `cargo xtask bench`: the benchmarks of the crates.

use anyhow::{Result, bail};

use crate::arguments::BenchOptions;
use crate::test::with_folders;
use crate::workspace::Workspace;
use crate::{build, process};

/// Builds the plugins, and runs the benchmarks whose name contains the filter.
///
/// # Errors
///
/// When a build or a benchmark fails, or no benchmark has such a name.
pub(crate) fn run(workspace: &Workspace, options: &BenchOptions) -> Result<()> {
    let wanted = |name: &str| {
        options
            .filter
            .as_deref()
            .is_none_or(|filter| name.contains(filter))
    };
    let targets: Vec<_> = workspace
        .packages
        .iter()
        .flat_map(|package| package.benches.iter().map(move |bench| (package, bench)))
        .filter(|(_, bench)| wanted(bench))
        .collect();
    if targets.is_empty() {
        bail!(
            "no benchmark's name contains `{}`",
            options.filter.as_deref().unwrap_or_default()
        );
    }

    build::plugins(workspace)?;
    // Each by name: without it cargo would build every unit test in bench mode, to find nothing in it.
    for (package, bench) in targets {
        let mut command = process::cargo(&workspace.root);
        command.args(["bench", "-p", &package.name, "--bench", bench]);
        process::run(with_folders(&mut command, workspace))?;
    }
    Ok(())
}
