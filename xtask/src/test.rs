//! `cargo xtask test`: the crates' own tests, then the black-box tests of the built host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::arguments::TestOptions;
use crate::workspace::Workspace;
use crate::{build, process, tools};

/// A black-box test that takes longer hangs; generous, since CI machines are slow and shared.
const BLACK_BOX_TIMEOUT_MS: u32 = 600_000;

/// Runs the tests that the options ask for.
///
/// # Errors
///
/// When something that the tests need cannot be built or installed, or a test fails.
pub(crate) fn run(workspace: &Workspace, options: &TestOptions) -> Result<()> {
    let start = Instant::now();
    let filter = options.filter.as_deref();
    tools::ensure_redis(workspace)?;
    if options.js {
        // Found out now, and not after minutes of building.
        tools::ensure_node(workspace)?;
    }
    build::plugins(workspace)?;
    if options.rust {
        // One build of the dependencies for the tests and for the host that the black-box tests run.
        let mut command = process::cargo(&workspace.root);
        process::run(command.args(["build", "--release", "--workspace", "--bins", "--tests"]))?;
    } else {
        build::host(workspace)?;
    }

    // Both suites run, so that one look shows every failure.
    let mut failures = Vec::new();
    if options.rust {
        failures.extend(crates(workspace, filter).err());
    }
    if options.js {
        failures.extend(black_box(workspace, filter).err());
    }
    let seconds = start.elapsed().as_secs();
    if failures.is_empty() {
        eprintln!("\nall tests passed ({seconds} s)");
        return Ok(());
    }
    let failures: Vec<_> = failures
        .iter()
        .map(|failure| format!("{failure:#}"))
        .collect();
    bail!("{} ({seconds} s)", failures.join("\n       "));
}

/// Runs the tests of every crate, doc tests included.
fn crates(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    let mut command = process::cargo(&workspace.root);
    command
        .args(["test", "--release", "--workspace", "--no-fail-fast"])
        .args(filter);
    process::run(with_folders(&mut command, workspace))
}

/// Runs the tests in `tests/` against the release build of the host.
fn black_box(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    let folder = workspace.root.join("tests");
    tools::ensure_npm_packages(&folder)?;
    let selection = select(&folder, filter)?;

    let mut command = process::program("node", &folder);
    // One file at a time: several start hosts, and measure.
    command
        .args(["--test", "--test-concurrency=1", "--test-reporter=spec"])
        .arg(format!("--test-timeout={BLACK_BOX_TIMEOUT_MS}"));
    if let Some(pattern) = selection.pattern {
        command.arg(format!("--test-name-pattern={pattern}"));
    }
    if selection
        .files
        .iter()
        .any(|file| wants_browser(&folder.join(file)))
    {
        command.env("SWITCHBOARD_CHROMIUM", tools::ensure_browser(workspace)?);
    }
    command.args(&selection.files);
    process::run(with_folders(&mut command, workspace))
}

/// Tells a test or benchmark where the host and the components are.
pub(crate) fn with_folders<'a>(command: &'a mut Command, workspace: &Workspace) -> &'a mut Command {
    command
        .env("SWITCHBOARD_BIN", workspace.host())
        .env("SWITCHBOARD_PLUGINS", workspace.built_plugins())
        .env("SWITCHBOARD_TEST_PLUGINS", workspace.test_plugins())
}

/// Which black-box tests to run.
#[derive(Debug, PartialEq, Eq)]
struct Selection<'a> {
    /// Names of files in `tests/`.
    files: Vec<PathBuf>,
    /// Only the tests whose name matches.
    pattern: Option<&'a str>,
}

/// Selects the files whose name contains the filter, or else all of them and the filter as a pattern.
fn select<'a>(folder: &Path, filter: Option<&'a str>) -> Result<Selection<'a>> {
    let files = files_ending(folder, ".test.mjs")?;
    if files.is_empty() {
        bail!("there is no *.test.mjs in {}", folder.display());
    }
    let Some(filter) = filter else {
        return Ok(Selection {
            files,
            pattern: None,
        });
    };
    let (named, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| {
        file.to_string_lossy()
            .trim_end_matches(".test.mjs")
            .contains(filter)
    });
    if named.is_empty() {
        return Ok(Selection {
            files: others,
            pattern: Some(filter),
        });
    }
    Ok(Selection {
        files: named,
        pattern: None,
    })
}

/// Returns the names of the files in `folder` that end so, sorted; none where there is no such folder.
pub(crate) fn files_ending(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let name = PathBuf::from(entry?.file_name());
        if name.to_string_lossy().ends_with(ending) {
            files.push(name);
        }
    }
    files.sort();
    Ok(files)
}

/// Tells whether a test file drives a browser, so that one need not be installed for the others.
fn wants_browser(file: &Path) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    ["playwright", "chromium", "browser"]
        .iter()
        .any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_selects_files_by_name_or_else_tests_by_pattern() {
        let folder = std::env::temp_dir().join(format!("xtask-select-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(
            select(&folder, None).is_err(),
            "no test at all must not pass in silence"
        );
        for name in ["swap.test.mjs", "auth.test.mjs", "server.mjs"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let files = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();

        let all = files(&["auth.test.mjs", "swap.test.mjs"]);
        assert_eq!(
            select(&folder, None).unwrap(),
            Selection {
                files: all.clone(),
                pattern: None
            }
        );
        let one = Selection {
            files: files(&["swap.test.mjs"]),
            pattern: None,
        };
        assert_eq!(select(&folder, Some("swap")).unwrap(), one);
        let pattern = Selection {
            files: all,
            pattern: Some("expired"),
        };
        assert_eq!(select(&folder, Some("expired")).unwrap(), pattern);
        fs::remove_dir_all(folder).unwrap();
    }
}
