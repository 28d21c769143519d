//! `cargo xtask bench`: the benchmarks of the crates, then those over real sockets.

use anyhow::{Result, bail};

use crate::arguments::BenchOptions;
use crate::test::{files_ending, with_folders};
use crate::workspace::Workspace;
use crate::{build, process, tools};

/// Builds the host and the plugins, and runs the benchmarks whose name contains the filter.
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
    let folder = workspace.root.join("tests");
    let mut scripts = files_ending(&folder.join("bench"), ".mjs")?;
    scripts.retain(|script| wanted(&script.to_string_lossy()));
    let targets: Vec<_> = workspace
        .packages
        .iter()
        .flat_map(|package| package.benches.iter().map(move |bench| (package, bench)))
        .filter(|(_, bench)| wanted(bench))
        .collect();
    if targets.is_empty() && scripts.is_empty() {
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
    if scripts.is_empty() {
        return Ok(());
    }
    build::host(workspace)?;
    tools::ensure_node(workspace)?;
    tools::ensure_npm_packages(&folder)?;
    for script in scripts {
        let mut command = process::program("node", &folder);
        command.arg(std::path::Path::new("bench").join(script));
        process::run(with_folders(&mut command, workspace))?;
    }
    Ok(())
}
